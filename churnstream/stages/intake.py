"""The door: bytes in, validated batches out, each customer in the shard that is theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from churnstream.codecs import ARROW, EventDecoder, encode_batch
from churnstream.errors import UnreadablePayload
from churnstream.records import Record, shard_of
from churnstream.streams.base import Unit
from churnstream.topology import INCOMING, SHARDS
from churnstream.usecases.case import UseCase

IDENTITIES = "identities"
SHOWN_ERRORS = 20
SHOWN_BYTES = 4_096


@dataclass(frozen=True, slots=True)
class Receipt:
    """What became of one payload; ``errors`` are the first sentences about what was refused, with the place of each event."""

    accepted: int
    refused: int
    duplicates: int
    errors: tuple[dict[str, Any], ...] = ()


class Intake:
    """Parses, validates and keys the events of one case."""

    def __init__(self, case: UseCase, shards: int = SHARDS):
        self._case, self._shards = case, shards
        self._decoder = EventDecoder(case)
        self._shard_of: dict[str, int] = {}

    def take(self, body: Any, unit: Unit) -> Receipt:
        """Write what ``body`` holds into ``unit``: good events to the incoming stream, the rest to the dead letters.

        Raises UnreadablePayload when nothing could be read; the body as a whole is then among ``unit``'s dead letters.
        """
        try:
            decoded = self._decoder.decode(body)
        except UnreadablePayload as cause:
            unit.count("in", 1)
            unit.count("invalid", 1)
            unit.refuse(str(cause), _bytes(body)[:SHOWN_BYTES])
            raise
        unit.count("in", len(decoded.refused))
        unit.count("invalid", len(decoded.refused))
        for each in decoded.refused:
            unit.refuse(each.reason, each.payload[:SHOWN_BYTES], each.row)
        accepted = duplicates = 0
        for part in self._by_shard(decoded.batch):
            owner = part.column(0)[0].as_py()
            fresh = self._without_duplicates(part, unit, owner)
            duplicates += part.num_rows - fresh.num_rows
            accepted += fresh.num_rows
            unit.count("in", part.num_rows, owner)  # beside its outcome: a request cut short between two shards still adds up
            unit.count("duplicate", part.num_rows - fresh.num_rows, owner)
            unit.count("applied", fresh.num_rows, owner)
            if fresh.num_rows:
                unit.append(INCOMING, Record(encode_batch(fresh), fresh.num_rows, owner, {"content-type": ARROW}))
        shown = tuple({"position": each.row, "error": each.reason} for each in decoded.refused[:SHOWN_ERRORS])
        return Receipt(accepted, len(decoded.refused), duplicates, shown)

    def _by_shard(self, batch: pa.RecordBatch) -> Sequence[pa.RecordBatch]:
        if not batch.num_rows:
            return ()
        encoded = batch.column(0).dictionary_encode()
        shards = np.array([self._shard(key) for key in encoded.dictionary.to_pylist()])[encoded.indices.to_numpy()]
        present = np.unique(shards)
        if len(present) == 1:
            return (batch,)
        return tuple(batch.take(pa.array(np.flatnonzero(shards == shard))) for shard in present)

    def _shard(self, key: str) -> int:
        known = self._shard_of.get(key)
        if known is None:
            if len(self._shard_of) > 1_000_000:
                self._shard_of.clear()
            known = self._shard_of[key] = shard_of(key, self._shards)
        return known

    def _without_duplicates(self, batch: pa.RecordBatch, unit: Unit, owner: str) -> pa.RecordBatch:
        if self._case.identity is None:
            return batch
        seen: set[str] = set()
        fresh: list[int] = []
        columns = [batch.column(batch.schema.get_field_index(name)).cast(pa.string()).to_pylist() for name in self._case.identity]
        for place, values in enumerate(zip(*columns, strict=True)):
            digest = blake2b(msgspec.msgpack.encode(values), digest_size=16).hexdigest()
            if digest in seen or unit.stored(IDENTITIES, digest, owner) is not None:
                continue
            seen.add(digest)
            unit.put(IDENTITIES, digest, b"", owner)
            fresh.append(place)
        return batch if len(fresh) == batch.num_rows else batch.take(pa.array(fresh, pa.int64()))


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    return str(body).encode("utf-8", "backslashreplace")

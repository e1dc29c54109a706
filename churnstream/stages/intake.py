"""The door: bytes in, validated batches out, each customer in the shard that is theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from churnstream.codecs import ARROW, EventDecoder, encode_batch
from churnstream.errors import UnreadablePayload
from churnstream.records import Record
from churnstream.stages.sharding import shards_of
from churnstream.streams.base import Unit
from churnstream.topology import INCOMING, SHARDS
from churnstream.usecases.case import UseCase

IDENTITIES = "identities"
SHOWN_ERRORS = 20
MOST_EVENTS = 250_000  # of one request


def too_many(body: Any) -> bool:
    """Whether a request's body holds more than MOST_EVENTS events; of what cannot be read, nobody knows, and False.

    >>> too_many(b'{"n": 1}\\n' * 250_001), too_many([{"n": 1}] * 250_000), too_many(b"[" + b"1," * 250_000 + b"1]")
    (True, False, True)
    """
    if isinstance(body, list):
        return len(body) > MOST_EVENTS
    if not isinstance(body, bytes | str) or len(body) <= MOST_EVENTS:
        return False
    data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    if data.lstrip()[:1] != b"[":
        return data.count(b"\n") + (not data.endswith(b"\n")) > MOST_EVENTS
    try:
        return len(msgspec.json.decode(data, type=list[msgspec.Raw])) > MOST_EVENTS
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False


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

    def take(self, body: Any, unit: Unit) -> Receipt:
        """Write what ``body`` holds into ``unit``: good events to the incoming stream, the rest to the dead letters.

        Raises UnreadablePayload when nothing could be read; the body as a whole is then among ``unit``'s dead letters.
        """
        try:
            decoded = self._decoder.decode(body)
        except UnreadablePayload as cause:
            unit.count("in", 1)
            unit.count("invalid", 1)
            unit.refuse(str(cause), _bytes(body))
            raise
        unit.count("in", len(decoded.refused))
        unit.count("invalid", len(decoded.refused))
        for each in decoded.refused:
            unit.refuse(each.reason, each.payload, each.row)
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
        """The rows of each shard that has any, in order."""
        if not batch.num_rows:
            return ()
        shards = shards_of(batch.column(0), self._shards)
        rows = np.bincount(shards)
        if np.count_nonzero(rows) == 1:
            return (batch,)
        ends = np.cumsum(rows).tolist()
        together = _in_order(batch, pa.array(np.argsort(shards, kind="stable")))
        return tuple(together.slice(start, end - start) for start, end in pairwise((0, *ends)) if start < end)

    def _without_duplicates(self, batch: pa.RecordBatch, unit: Unit, owner: str) -> pa.RecordBatch:
        if self._case.identity is None:
            return batch
        fresh: list[int] = []
        columns = [batch.column(batch.schema.get_field_index(name)).cast(pa.string()).to_pylist() for name in self._case.identity]
        encode = msgspec.msgpack.encode
        digests = [blake2b(encode(values), digest_size=16).hexdigest() for values in zip(*columns, strict=True)]
        seen = set(unit.stored_many(IDENTITIES, digests, owner))
        for place, digest in enumerate(digests):
            if digest in seen:
                continue
            seen.add(digest)
            unit.put(IDENTITIES, digest, b"", owner)
            fresh.append(place)
        return batch if len(fresh) == batch.num_rows else batch.take(pa.array(fresh, pa.int64()))


def _in_order(batch: pa.RecordBatch, order: pa.Array) -> pa.RecordBatch:
    """``batch.take(order)``, but for the columns that have nothing to put in order: most events leave most fields empty."""
    columns = [each if each.null_count == len(each) else each.take(order) for each in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    return str(body).encode("utf-8", "backslashreplace")

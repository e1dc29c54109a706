"""The door: bytes in, validated batches out, each customer in the shard that is theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from churnstream.codecs import ARROW, Decoded, EventDecoder, encode_batch
from churnstream.errors import UnreadablePayload
from churnstream.records import Record, shard_of
from churnstream.stages.identities import Identities
from churnstream.stages.requests import Attempt, Part, attempt
from churnstream.stages.sharding import shards_of
from churnstream.streams.base import Unit
from churnstream.topology import INCOMING, SHARDS
from churnstream.usecases.case import UseCase

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


class Letter(NamedTuple):
    """What is refused: why, as it was sent, and where it stood (None: all of it)."""

    reason: str
    payload: bytes
    row: int | None


class Intake:
    """Parses, validates and keys the events of one case."""

    def __init__(self, case: UseCase, shards: int = SHARDS):
        self._case, self._shards = case, shards
        self._decoder = EventDecoder(case)
        self._identities = Identities(case)

    def take(self, body: Any, unit: Unit, key: str = "") -> Receipt:
        """Write what ``body`` holds into ``unit``: good events to the incoming stream, the rest to the dead letters.

        ``key`` is a request's Idempotency-Key: of what came under it before, everything is a duplicate, and the receipt is as it
        was. Raises KeyReused when that was another body. Raises UnreadablePayload when nothing could be read; the body as a whole
        is then among ``unit``'s dead letters.
        """
        tried = attempt(key, body, unit, self._case.horizon)
        try:
            decoded = self._decoder.decode(body)
        except UnreadablePayload as cause:
            self._refuse([Letter(str(cause), _bytes(body), None)], unit, tried)
            tried.remember(unit)
            raise
        self._refuse([Letter(each.reason, each.payload, each.row) for each in decoded.refused], unit, tried)
        accepted = duplicates = 0
        for batch, ids in self._by_shard(decoded):
            fresh, again = self._write(batch, ids, unit, tried)
            accepted += fresh
            duplicates += again
        tried.remember(unit)
        shown = tuple({"position": each.row, "error": each.reason} for each in decoded.refused[:SHOWN_ERRORS])
        return Receipt(accepted, len(decoded.refused), duplicates, shown)

    def _refuse(self, letters: Sequence[Letter], unit: Unit, tried: Attempt) -> None:
        if not letters:
            return
        home = shard_of("", self._shards)
        written = home in tried.before
        unit.count("in", len(letters))
        unit.count("duplicate" if written else "invalid", len(letters))
        if not written:
            tried.note(home, "")
            for each in letters:
                unit.refuse(*each)

    def _write(self, batch: pa.RecordBatch, ids: pa.StringArray | None, unit: Unit, tried: Attempt) -> Part:
        """Write the events of one shard; how many are accepted, and how many duplicates."""
        rows, owner = batch.num_rows, batch.column(0)[0].as_py()
        shard = shard_of(owner, self._shards)
        unit.count("in", rows, owner)  # beside its outcome: a request cut short between two shards still adds up
        if shard in tried.before:
            unit.count("duplicate", rows, owner)
            return tried.before[shard]
        places = self._identities.fresh(batch, ids, unit, owner)
        fresh = batch if places is None else batch.take(pa.array(places))
        again = rows - fresh.num_rows
        unit.count("duplicate", again, owner)
        unit.count("applied", fresh.num_rows, owner)
        if fresh.num_rows:
            unit.append(INCOMING, Record(encode_batch(fresh), fresh.num_rows, owner, {"content-type": ARROW}))
        tried.note(shard, owner, fresh.num_rows, again)
        return fresh.num_rows, again

    def _by_shard(self, decoded: Decoded) -> Sequence[tuple[pa.RecordBatch, pa.StringArray | None]]:
        """The events of each shard that has any, in order, and their ids."""
        batch, ids = decoded.batch, decoded.ids
        if not batch.num_rows:
            return ()
        shards = shards_of(batch.column(0), self._shards)
        rows = np.bincount(shards)
        if np.count_nonzero(rows) == 1:
            return ((batch, ids),)
        ends = np.cumsum(rows).tolist()
        order = pa.array(np.argsort(shards, kind="stable"))
        together, ids = _in_order(batch, order), None if ids is None else ids.take(order)
        return tuple(
            (together.slice(start, end - start), None if ids is None else ids.slice(start, end - start))
            for start, end in pairwise((0, *ends))
            if start < end
        )


def _in_order(batch: pa.RecordBatch, order: pa.Array) -> pa.RecordBatch:
    """``batch.take(order)``, but for the columns that have nothing to put in order: most events leave most fields empty."""
    columns = [each if each.null_count == len(each) else each.take(order) for each in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _bytes(body: Any) -> bytes:
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    return str(body).encode("utf-8", "backslashreplace")

"""The door: JSON in, one Arrow batch out, and a sentence for each event that was not taken."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from churnstream.codecs.alike import AlikeLines, Taken
from churnstream.codecs.batches import identified, schema
from churnstream.codecs.judge import EMPTY, UNREADABLE, Judge, Refused, Verdict
from churnstream.errors import UnreadablePayload
from churnstream.usecases.case import EVENT_ID, UseCase

WORTHWHILE = 2**17  # bytes of a payload; below, reading one by one is as fast
KEPT = 2**24  # bytes of memory


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a payload held: the good events as a batch, in order, and the others with a sentence each.

    ``ids`` are the event_id of each good event, null where it has none; None when no event has one.
    """

    batch: pa.RecordBatch
    refused: tuple[Refused, ...]
    ids: pa.StringArray | None = None

    @property
    def rows(self) -> int:
        return int(self.batch.num_rows) + len(self.refused)


class EventDecoder:
    """Parses and validates the events of one case, once, at the door.

    Lines that look alike are read together when a payload has at least ``alike_from`` bytes; the judge reads what is left, and
    smaller payloads. Who reads makes a difference in speed only.
    """

    def __init__(self, case: UseCase, alike_from: float = WORTHWHILE):
        self.schema = schema(case)
        self._id_at = identified(case).get_field_index(EVENT_ID)  # behind all others, unless the case has it for a field
        self._keeps_ids = EVENT_ID in self.schema.names
        self._judge = Judge(case)
        self._alike = AlikeLines(case)
        self._alike_from = alike_from
        # Freed at once, it tells glibc to keep that much; to fetch memory anew for each payload takes longer than to read one.
        bytearray(KEPT)

    def decode(self, body: Any) -> Decoded:
        """The events in ``body``: bytes or text of JSON, or what a platform has parsed from JSON already.

        Raises UnreadablePayload when no event could be told from the bytes at all.
        """
        if not isinstance(body, bytes | bytearray | str):
            return self._decoded(self._each(_unparsed(body)))
        data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
        if data.lstrip()[:1] == b"[":
            return self._decoded(self._each(_elements(data)))
        return self._decoded(self._lines(data))

    def _lines(self, data: bytes) -> Verdict:
        taken = self._taken(data)
        if taken is None or not all(_is_whole(each) for each in taken.texts):
            return self._judge.lines(data)
        return self._joined(taken)

    def _each(self, items: Sequence[bytes]) -> Verdict:
        taken = self._taken(b"\n".join(items))
        if taken is None or len(taken.rows) + len(taken.others) != len(items):
            return self._judge.each(items, np.arange(len(items)))
        return self._joined(taken)

    def _taken(self, data: bytes) -> Taken | None:
        return self._alike.read(data) if len(data) >= self._alike_from else None

    def _joined(self, taken: Taken) -> Verdict:
        """What was taken, and the judge's verdict on the other lines, each of which is an event of its own."""
        if not taken.texts:
            return Verdict(taken.batch, taken.rows, ())
        verdict = self._judge.each(taken.texts, taken.others)
        rows = np.concatenate([taken.rows, verdict.rows])
        batch = pa.concat_batches(_alike(taken.batch, verdict.batch)).take(pa.array(np.argsort(rows)))
        return Verdict(batch, np.sort(rows), verdict.refused, verdict.unreadable)

    def _decoded(self, verdict: Verdict) -> Decoded:
        batch, refused = verdict.batch, verdict.refused
        if not batch.num_rows and verdict.unreadable == len(refused):
            raise UnreadablePayload(f"nothing in the body could be read as JSON: {refused[0].reason}")
        if batch.num_columns == self._id_at:
            return Decoded(batch, refused)
        ids = batch.column(self._id_at)
        if not self._keeps_ids:
            batch = pa.RecordBatch.from_arrays(batch.columns[:-1], schema=self.schema)
        return Decoded(batch, refused, ids if ids.null_count < len(ids) else None)


def _alike(*batches: pa.RecordBatch) -> list[pa.RecordBatch]:
    """The batches, all with a column of ids when one has it."""
    widest = max(batches, key=lambda each: each.num_columns).schema
    return [
        each if each.schema.equals(widest) else each.append_column(widest.field(EVENT_ID), pa.nulls(each.num_rows, pa.string()))
        for each in batches
    ]


def _is_whole(line: bytes) -> bool:
    """Whether a line is JSON of its own; else an event may go on over several lines, or stand beside another one."""
    try:
        msgspec.json.decode(line, type=msgspec.Raw)
    except UNREADABLE:
        return False
    return True


def _elements(data: bytes) -> Sequence[bytes]:
    """The bytes of each event of a JSON array."""
    try:
        items: Sequence[bytes] = msgspec.json.decode(data, type=list[msgspec.Raw])
    except UNREADABLE as cause:
        try:  # Python reads past NaN and half a surrogate pair, so that the event with one is refused and the others are not
            return _unparsed(json.loads(data))
        except (ValueError, RecursionError):
            raise UnreadablePayload(f"the body starts as a JSON array but could not be read to its end: {cause}") from cause
    if not items:
        raise UnreadablePayload(EMPTY)
    return [bytes(each) for each in items]


def _unparsed(body: Any) -> list[bytes]:
    """JSON of each event of a body that the platform has parsed."""
    if isinstance(body, Mapping):
        body = [body]
    if not isinstance(body, list):
        raise UnreadablePayload(
            f"the body is a JSON {type(body).__name__}; send one event, an array of events, or one event a line"
        )
    if not body:
        raise UnreadablePayload("the body is an empty array: there is no event in it")
    return [_json(each) for each in body]


def _json(value: Any) -> bytes:
    try:
        try:
            return msgspec.json.encode(value)
        except (UnicodeEncodeError, msgspec.MsgspecError):  # half of a surrogate pair, which is text nowhere else
            return repr(value).encode("utf-8", "backslashreplace")
    except RecursionError:
        return b"(nested too deeply to be written down)"

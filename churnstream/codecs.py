"""Bytes to events and back; the only module that knows both.

Outside, JSON: one event, an array of events, or one event a line. Inside, Arrow IPC: a batch of rows with one column a field, so
that only the first hop pays for JSON. Batches carry the version of this layout; another one is refused.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import reduce
from operator import or_
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from churnstream.errors import MalformedEvent, UnknownVersion, UnreadablePayload
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, Field, Kind, UseCase

JSON = "application/json"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

VERSION = "1"
VERSION_KEY = b"churnstream.version"
CASE_KEY = b"churnstream.case"

MICROSECONDS = pa.timestamp("us", tz="UTC")
CODES = pa.dictionary(pa.int8(), pa.string())
ARROW_TYPES = {Kind.TEXT: pa.string(), Kind.NUMBER: pa.float64(), Kind.WHOLE: pa.int64(), Kind.DATE: pa.date32()}
NO_INSTANT = "the field event_time is wrong: {text!r} is no RFC 3339 instant with an offset, such as 2026-01-31T12:00:00Z"
NO_DATE = "the field {name} is wrong: {{text!r}} is no date such as 1990-12-31"
LIMITS = {
    MICROSECONDS: [
        pa.scalar(each, MICROSECONDS) for each in (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))
    ],
    pa.date32(): [pa.scalar(each, pa.date32()) for each in (date.min, date.max)],
}  # what Python can hold; Arrow reads the year 0 as well
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
KEY_LENGTH = 256
TEXT_LENGTH = 4_096


@dataclass(frozen=True, slots=True)
class Refused:
    """One event that was not taken: its place in the payload (from 0), why, and its bytes."""

    row: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a payload held: the good events as a batch, in order, and the others with a sentence each."""

    batch: pa.RecordBatch
    refused: tuple[Refused, ...]

    @property
    def rows(self) -> int:
        return int(self.batch.num_rows) + len(self.refused)


def schema(case: UseCase) -> pa.Schema:
    """The columns of a batch of a case's events: user_id, event_type, event_time, then every field of every event."""
    columns = [pa.field(KEY, pa.string(), False), pa.field(EVENT_TYPE, CODES, False), pa.field(EVENT_TIME, MICROSECONDS, False)]
    columns += [pa.field(each.name, ARROW_TYPES[each.kind]) for each in case.fields]
    return pa.schema(columns, metadata={VERSION_KEY: VERSION.encode(), CASE_KEY: case.name.encode()})


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """Arrow IPC bytes of one batch, with the version of this layout in its schema."""
    metadata = dict(batch.schema.metadata or {}) | {VERSION_KEY: VERSION.encode()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(
        sink, batch.schema.with_metadata(metadata), options=pa.ipc.IpcWriteOptions(compression="lz4")
    ) as writer:
        writer.write_batch(batch.replace_schema_metadata(metadata))
    return bytes(sink.getvalue().to_pybytes())


def decode_batch(payload: bytes) -> pa.RecordBatch:
    """The batch in ``payload``; raises UnreadablePayload, or UnknownVersion for bytes of another layout."""
    try:
        with pa.ipc.open_stream(payload) as reader:
            metadata = reader.schema.metadata or {}
            table = reader.read_all()
    except (pa.ArrowException, OSError) as cause:
        raise UnreadablePayload(f"the payload is no Arrow stream: {cause}") from cause
    version = metadata.get(VERSION_KEY, b"none").decode()
    if version != VERSION:
        raise UnknownVersion(f"the batch has layout version {version}, this version reads {VERSION}; update the reader first")
    batches = table.combine_chunks().to_batches()
    return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)


def encode_json(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON, one a line; instants as RFC 3339 in UTC."""
    return msgspec.json.Encoder().encode_lines(rows)


class EventDecoder:
    """Parses and validates the events of one case, once, at the door."""

    def __init__(self, case: UseCase):
        self._case = case
        self.schema = schema(case)
        self._structs = {each.name: _struct(each.name, each.fields) for each in case.events}
        event: Any = reduce(or_, self._structs.values())
        self._decoder = msgspec.json.Decoder(event)
        self._array = msgspec.json.Decoder(list[event])
        self._codes = pa.array(case.event_names, pa.string())

    def decode(self, body: Any) -> Decoded:
        """The events in ``body``: bytes or text of JSON, or what a platform has parsed from JSON already.

        Raises UnreadablePayload when no event could be told from the bytes at all.
        """
        if not isinstance(body, bytes | bytearray | str):
            return self._one_by_one(_unparsed(body))
        data = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else bytes(body)
        array = data.lstrip()[:1] == b"["
        try:
            events = self._array.decode(data) if array else self._decoder.decode_lines(data)
        except UNREADABLE:
            return self._one_by_one(_items(data, array))
        if not events:
            raise UnreadablePayload("the body is empty: send one JSON event, an array of events, or one event a line")
        return self._checked(events, list(range(len(events))), [], lambda row: msgspec.json.encode(events[row]))

    def _one_by_one(self, items: Sequence[bytes]) -> Decoded:
        events: list[Any] = []
        rows: list[int] = []
        refused: list[Refused] = []
        unreadable = 0
        for row, item in enumerate(items):
            try:
                events.append(self._decoder.decode(item))
                rows.append(row)
            except UNREADABLE as cause:
                unreadable += not isinstance(cause, msgspec.ValidationError)
                refused.append(Refused(row, str(MalformedEvent(_sentence(cause))), item))
        if unreadable == len(items):
            raise UnreadablePayload(
                f"nothing in the body could be read as JSON: {refused[0].reason}" if refused else "the body is empty"
            )
        return self._checked(events, rows, refused, lambda row: items[row])

    def _checked(self, events: Sequence[Any], rows: list[int], refused: list[Refused], payload: Any) -> Decoded:
        """The batch of ``events``, without those whose instant or number turns out to be unusable."""
        bad: dict[int, str] = {}
        times = _cast([each.event_time for each in events], MICROSECONDS, NO_INSTANT, bad)
        for each in self._case.fields:
            if each.kind is Kind.NUMBER:
                _refuse_negative_zero(events, each.name, bad)
            elif each.kind is Kind.DATE:
                _cast([getattr(event, each.name, None) for event in events], pa.date32(), NO_DATE.format(name=each.name), bad)
        if bad:
            keep = [index for index in range(len(events)) if index not in bad]
            refused += [Refused(rows[index], sentence, payload(rows[index])) for index, sentence in sorted(bad.items())]
            refused.sort(key=lambda each: each.row)
            events = [events[index] for index in keep]
            times = times.take(pa.array(keep, pa.int64()))
        return Decoded(self._batch(events, times), tuple(refused))

    def _batch(self, events: Sequence[Any], times: pa.Array) -> pa.RecordBatch:
        size = len(events)
        classes = [each.__class__ for each in events]
        codes = np.zeros(size, np.int8)
        columns: dict[str, NDArray[np.object_]] = {each.name: np.full(size, None, object) for each in self._case.fields}
        for code, (event, struct) in enumerate(zip(self._case.events, self._structs.values(), strict=True)):
            places = np.fromiter((place for place, each in enumerate(classes) if each is struct), np.int64)
            if not len(places):
                continue
            codes[places] = code
            chosen = [events[place] for place in places]
            for each in event.fields:
                columns[each.name][places] = [getattr(one, each.name) for one in chosen]
        arrays: list[pa.Array] = [
            pa.array([each.user_id for each in events], pa.string()),
            pa.DictionaryArray.from_arrays(pa.array(codes), self._codes),
            times,
        ]
        for each in self._case.fields:
            column = pa.array(columns[each.name], pa.string() if each.kind is Kind.DATE else ARROW_TYPES[each.kind])
            arrays.append(column.cast(pa.date32()) if each.kind is Kind.DATE else column)
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)


def _struct(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    columns: list[Any] = [(KEY, Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_LENGTH)]), (EVENT_TIME, str)]
    columns += [(each.name, _type(each)) for each in fields if each.required]
    columns += [(each.name, _type(each) | None, None) for each in fields if not each.required]
    return msgspec.defstruct(f"Event_{name}", columns, tag_field=EVENT_TYPE, tag=name, gc=False)


def _type(each: Field) -> Any:
    if each.kind in (Kind.TEXT, Kind.DATE):
        return Annotated[str, msgspec.Meta(max_length=TEXT_LENGTH)]
    whole = each.kind is Kind.WHOLE
    limits = {"ge": each.at_least, "le": each.at_most}
    given: dict[str, Any] = {name: int(value) if whole else float(value) for name, value in limits.items() if value is not None}
    return Annotated[int if whole else float, msgspec.Meta(**given)]


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


def _items(data: bytes, array: bool) -> list[bytes]:
    """The bytes of each event in a payload in which at least one is bad."""
    if array:
        try:
            return [bytes(each) for each in msgspec.json.decode(data, type=list[msgspec.Raw])]
        except UNREADABLE as cause:
            try:  # Python reads past NaN and half a surrogate pair, so that the event with one is refused and the others are not
                return _unparsed(json.loads(data))
            except (ValueError, RecursionError):
                raise UnreadablePayload(f"the body starts as a JSON array but could not be read to its end: {cause}") from cause
    try:
        return [bytes(msgspec.json.decode(data, type=msgspec.Raw))]  # one event, over several lines
    except UNREADABLE:
        lines = [line for line in data.splitlines() if line.strip()]
        if not lines:
            raise UnreadablePayload("the body is empty: send one JSON event, an array of events, or one event a line") from None
        return lines


def _sentence(cause: Exception) -> str:
    if isinstance(cause, RecursionError):
        return "the event could not be read: it is nested too deeply"
    text = str(cause)
    where = text.rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in text else ""
    what = text.partition(" - at `")[0]
    return f"the field {where} is wrong: {what}" if where else f"the event could not be read: {what}"


def _cast(texts: Sequence[str | None], to: pa.DataType, sentence: str, bad: dict[int, str]) -> pa.Array:
    """``texts`` as ``to``; the places of those that cannot be go to ``bad`` with ``sentence`` and read as null."""
    values = pa.array(texts, pa.string())
    try:
        cast = values.cast(to)
    except pa.ArrowInvalid:
        cast = pa.array([_scalar(each, to) for each in values], to)
    first, last = LIMITS[to]
    usable = pc.fill_null(pc.and_(pc.greater_equal(cast, first), pc.less_equal(cast, last)), False)
    for place in pc.indices_nonzero(pc.and_not(pc.is_valid(values), usable)).to_pylist():
        bad.setdefault(place, sentence.format(text=str(texts[place])[:40]))
    return cast


def _scalar(text: pa.Scalar, to: pa.DataType) -> pa.Scalar | None:
    try:
        return text.cast(to)
    except pa.ArrowInvalid:
        return None


def _refuse_negative_zero(events: Sequence[Any], name: str, bad: dict[int, str]) -> None:
    for place, event in enumerate(events):
        value = getattr(event, name, None)
        if value == 0 and np.signbit(value):
            bad.setdefault(place, f"the field {name} is wrong: -0.0 is no amount; send 0")

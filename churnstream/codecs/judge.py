"""The judge: reads events one by one, takes the good ones and says of each other one, in a sentence, what is wrong with it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from math import ceil, floor
from operator import attrgetter, or_
from typing import Annotated, Any

import msgspec
import numpy as np
import pyarrow as pa

from churnstream.codecs import columns as col
from churnstream.codecs.batches import ARROW_TYPES, MICROSECONDS, identified, schema
from churnstream.errors import MalformedEvent, UnreadablePayload
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, Field, Kind, UseCase

NO_INSTANT = "the field event_time is wrong: {text!r} is no RFC 3339 instant with an offset, such as 2026-01-31T12:00:00Z"
NO_DATE = "the field {name} is wrong: {text!r} is no date such as 1990-12-31"
NO_AMOUNT = "the field {name} is wrong: -0.0 is no amount; send 0"
UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
KEY_LENGTH = 256
ID_LENGTH = 256
TEXT_LENGTH = 4_096
WHOLE_LIMIT = 2**53  # up to here every whole number is a float64 as well, which is what features are computed in
ID_OF = attrgetter(EVENT_ID)
Payloads = Callable[[Sequence[int]], Sequence[bytes]]  # the bytes of the events at some places
EMPTY = "the body is empty: send one JSON event, an array of events, or one event a line"


@dataclass(frozen=True, slots=True)
class Refused:
    """One event that was not taken: its place in the payload (from 0), why, and its bytes."""

    row: int
    reason: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Verdict:
    """The good events as a batch, the place of each in the payload, and the others in order.

    Where an event has an id, the batch has a column of them. ``unreadable`` counts those among the refused of which not even the
    JSON could be read.
    """

    batch: pa.RecordBatch
    rows: col.Places
    refused: tuple[Refused, ...]
    unreadable: int = 0


class Judge:
    """Parses and validates the events of one case with msgspec."""

    def __init__(self, case: UseCase):
        self._case = case
        self._schema, self._identified = schema(case), identified(case)
        self._structs = [_struct(each.name, each.fields) for each in case.events]
        event: Any = reduce(or_, self._structs)
        self._decoder = msgspec.json.Decoder(event)
        self._names = pa.array(case.event_names, pa.string())

    def read(self, data: bytes) -> list[Any]:
        """The events in ``data`` as msgspec reads them, before instants, dates and signs are looked at; raises UNREADABLE."""
        return self._decoder.decode_lines(data)

    def lines(self, data: bytes) -> Verdict:
        """The events in ``data``: one, perhaps over several lines, or one a line.

        Raises UnreadablePayload when there is no event in it.
        """
        try:
            events = self.read(data)
        except UNREADABLE:
            events, items = [], _split(data)
            if items:
                return self._one_by_one(items, np.arange(len(items)))
        if not events:
            raise UnreadablePayload(EMPTY)
        return self._checked(events, np.arange(len(events)), [], lambda places: _payloads(events, data, places))

    def each(self, items: Sequence[bytes], rows: col.Places) -> Verdict:
        """One event an item; ``rows`` are the places of the items, in order."""
        try:
            events = self.read(b"\n".join(items))
        except UNREADABLE:
            return self._one_by_one(items, rows)
        if len(events) != len(items):
            return self._one_by_one(items, rows)
        return self._checked(events, rows, [], lambda places: [items[each] for each in places])

    def _one_by_one(self, items: Sequence[bytes], rows: col.Places) -> Verdict:
        events: list[Any] = []
        read: list[int] = []
        refused: list[Refused] = []
        unreadable = 0
        for place, item in enumerate(items):
            try:
                events.append(self._decoder.decode(item))
                read.append(place)
            except UNREADABLE as cause:
                unreadable += not isinstance(cause, msgspec.ValidationError)
                refused.append(Refused(int(rows[place]), str(MalformedEvent(_sentence(cause))), item))
        verdict = self._checked(events, rows[read], refused, lambda places: [items[read[each]] for each in places])
        return replace(verdict, unreadable=unreadable)

    def _checked(self, events: Sequence[Any], rows: col.Places, refused: list[Refused], payloads: Payloads) -> Verdict:
        """The batch of ``events``, without those whose instant, date or number turns out to be unusable."""
        bad: dict[int, str] = {}
        batch = self._batch(events, bad)
        if bad:
            places = sorted(bad)
            refused += [
                Refused(int(rows[place]), bad[place], payload) for place, payload in zip(places, payloads(places), strict=True)
            ]
            refused.sort(key=lambda each: each.row)
            keep = np.delete(np.arange(len(events)), places)
            batch, rows = batch.take(pa.array(keep)), rows[keep]
        return Verdict(batch, rows, tuple(refused))

    def _batch(self, events: Sequence[Any], bad: dict[int, str]) -> pa.RecordBatch:
        size = len(events)
        texts = pa.array([each.event_time for each in events], pa.string())
        times, wrong = col.cast(texts, MICROSECONDS)
        for place in np.flatnonzero(wrong).tolist():
            bad.setdefault(place, NO_INSTANT.format(text=events[place].event_time[:40]))
        classes = np.fromiter(map(id, map(type, events)), np.int64, size)
        codes = np.zeros(size, np.int8)
        parts: dict[str, list[tuple[col.Places, pa.Array]]] = {}
        for code, (event, struct) in enumerate(zip(self._case.events, self._structs, strict=True)):
            places = np.flatnonzero(classes == id(struct))
            if not len(places):
                continue
            codes[places] = code
            chosen = events if len(places) == size else [events[place] for place in places.tolist()]
            for each in event.fields:
                values = _column(each, list(map(attrgetter(each.name), chosen)), places, bad)
                parts.setdefault(each.name, []).append((places, values))
        columns = {
            KEY: pa.array([each.user_id for each in events], pa.string()),
            EVENT_TYPE: pa.DictionaryArray.from_arrays(pa.array(codes), self._names),
            EVENT_TIME: times,
        }
        with_ids = any(map(ID_OF, events))
        if with_ids:
            columns[EVENT_ID] = pa.array(list(map(ID_OF, events)), pa.string())
            parts.pop(EVENT_ID, None)
        for name, some in parts.items():
            places, values = np.concatenate([at for at, _ in some]), pa.concat_arrays([each for _, each in some])
            alone = len(some) == 1 and len(places) == size
            columns[name] = values if alone else col.spread(values, places, size)
        return col.batch(self._identified if with_ids else self._schema, columns, size)


def _column(field: Field, values: Sequence[Any], places: col.Places, bad: dict[int, str]) -> pa.Array:
    if field.kind is Kind.DATE:
        column, wrong = col.cast(pa.array(values, pa.string()), col.DAYS)
        for each in np.flatnonzero(wrong).tolist():
            bad.setdefault(int(places[each]), NO_DATE.format(name=field.name, text=values[each][:40]))
        return column
    column = pa.array(values, ARROW_TYPES[field.kind])
    if field.kind is Kind.NUMBER:
        for each in np.flatnonzero(col.negative_zero(column.to_numpy(zero_copy_only=False))).tolist():
            bad.setdefault(int(places[each]), NO_AMOUNT.format(name=field.name))
    return column


ID: Any = Annotated[str, msgspec.Meta(min_length=1, max_length=ID_LENGTH)]


def _struct(name: str, fields: Sequence[Field]) -> type[msgspec.Struct]:
    columns: list[Any] = [(KEY, Annotated[str, msgspec.Meta(min_length=1, max_length=KEY_LENGTH)]), (EVENT_TIME, str)]
    columns += [(each.name, _type(each)) for each in fields if each.required]
    columns += [(each.name, _type(each) | None, None) for each in fields if not each.required]
    if EVENT_ID not in (each.name for each in fields):
        columns.append((EVENT_ID, ID | None, None))
    return msgspec.defstruct(f"Event_{name}", columns, tag_field=EVENT_TYPE, tag=name, gc=False)


def _type(field: Field) -> Any:
    if field.name == EVENT_ID:
        return ID
    if field.kind in (Kind.TEXT, Kind.DATE):
        return Annotated[str, msgspec.Meta(max_length=TEXT_LENGTH)]
    least, most = bounds(field)
    return Annotated[int if field.kind is Kind.WHOLE else float, msgspec.Meta(ge=least, le=most)]


def bounds(field: Field) -> tuple[float | None, float | None]:
    """The least and the most that a number may be, both inclusive; whole numbers for a field of whole numbers."""
    if field.kind is not Kind.WHOLE:
        return field.at_least, field.at_most
    least = -WHOLE_LIMIT if field.at_least is None else max(-WHOLE_LIMIT, ceil(field.at_least))
    most = WHOLE_LIMIT if field.at_most is None else min(WHOLE_LIMIT, floor(field.at_most))
    return least, most


def _split(data: bytes) -> list[bytes]:
    """The bytes of each event in a payload in which at least one is bad."""
    try:
        return [bytes(msgspec.json.decode(data, type=msgspec.Raw))]  # one event, over several lines
    except UNREADABLE:
        return [line for line in data.splitlines() if line.strip()]


def _payloads(events: Sequence[Any], data: bytes, places: Sequence[int]) -> list[bytes]:
    """The bytes of some of the events; written anew when they do not stand one a line."""
    lines = [line for line in data.splitlines() if line.strip()]
    whole = len(lines) == len(events)
    return [lines[each] if whole else msgspec.json.encode(events[each]) for each in places]


def _sentence(cause: Exception) -> str:
    if isinstance(cause, RecursionError):
        return "the event could not be read: it is nested too deeply"
    text = str(cause)
    where = text.rpartition(" - at `$.")[2].rstrip("`") if " - at `$." in text else ""
    what = text.partition(" - at `")[0]
    return f"the field {where} is wrong: {what}" if where else f"the event could not be read: {what}"

"""Lines that look alike are read together, a column at a time.

The values of all lines of one shape are taken by their place: texts are cut out; numbers, instants and dates are read by Arrow or
msgspec as one column. Nothing is decided here but that an event is plainly good. Every other line is left to the judge: one with
an escape or a control character, of a shape that cannot be learned or that the case does not have, or with a value that is not
plainly allowed.

Why a line of a known shape is no other JSON than it seems: but for its values its bytes are those of a flat JSON object; a text
in it holds no quote, no backslash and no control character, and is UTF-8, so it is a JSON string as it stands; a number is plain
digits with a point between them, or one of an array that msgspec reads as exactly as many numbers as went into it.
"""

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.codecs import columns as col
from churnstream.codecs.batches import ARROW_TYPES, MICROSECONDS, identified, schema
from churnstream.codecs.judge import ID_LENGTH, KEY_LENGTH, TEXT_LENGTH, UNREADABLE, bounds
from churnstream.codecs.shapes import Alike, Page, Shape, learn
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, NUMERIC, Field, Kind, UseCase

LESSONS = 16  # shapes learned from one payload
KNOWN = 64  # shapes remembered
LARGEST = 2**30  # bytes of a payload, so that places in one fit 32 bits
ARRAYS: dict[Kind, Any] = {
    Kind.NUMBER: msgspec.json.Decoder(list[float | None]),
    Kind.WHOLE: msgspec.json.Decoder(list[int | None]),
}
LENGTHS = {KEY: KEY_LENGTH, EVENT_ID: ID_LENGTH}  # of what may not be empty either
OPEN, COMMA, CLOSE, POINT = b"[,]."
DIGITS = b"0123456789"


@dataclass(frozen=True, slots=True)
class Taken:
    """The events of the lines that are plainly good, the places of these lines, and the other lines with theirs.

    Blank lines have no place. Where a line may have an id, the batch has a column of them.
    """

    batch: pa.RecordBatch
    rows: col.Places
    others: col.Places
    texts: tuple[bytes, ...]


class AlikeLines:
    """Reads payloads of one event a line; remembers the shapes it has met."""

    def __init__(self, case: UseCase):
        self._case = case
        self._schema, self._identified = schema(case), identified(case)
        self._names = pa.array(case.event_names, pa.string())
        self._shapes: list[Shape] = []

    def read(self, data: bytes) -> Taken | None:
        """The events of the lines that are plainly good; None when no line is."""
        if len(data) > LARGEST:
            return None
        page = Page.of(data)
        sheet = Sheet(page)
        for each in self._groups(page):
            sheet.add(each)
        if not sheet.good.any():
            return None
        batch = sheet.batch(self._identified if sheet.with_ids else self._schema, self._names)
        rows, others = sheet.good.nonzero()[0], (~sheet.good).nonzero()[0]
        if len(others):
            batch = batch.take(pa.array(rows))
        return Taken(batch, rows, others, tuple(map(page.line, others.tolist()))) if len(rows) else None

    def _groups(self, page: Page) -> list[Alike]:
        """The plain lines by shape: by the shapes known already, then by those of the first lines that have none of them."""
        left = page.plain.copy()
        found = [_group(page, shape, left) for shape in self._shapes]
        for _ in range(LESSONS):
            if not left.any():
                break
            first = int(left.argmax())
            shape = learn(self._case, page.line(first))
            if shape is not None:
                found.append(_group(page, shape, left))
            left[first] = False
        found.sort(key=lambda each: len(each.lines), reverse=True)  # what is common is looked for first
        self._shapes = [each.shape for each in found[:KNOWN]]
        return [each for each in found if each.shape.code is not None and len(each.lines)]


def _group(page: Page, shape: Shape, left: col.Mask) -> Alike:
    """The lines among ``left`` that have ``shape``; they are left no longer."""
    group = page.alike(shape, (left & (page.quotes == shape.quotes)).nonzero()[0])
    left[group.lines] = False
    return group


@dataclass(frozen=True, slots=True)
class Entry:
    """Where the values of one field stand: the lines, in order, and from where to where the value goes in each."""

    field: Field
    lines: col.Places
    starts: col.Places
    ends: col.Places


class Sheet:
    """The columns of a page while they are being filled; ``good`` are the lines whose events are plainly good."""

    def __init__(self, page: Page):
        self._page, self._size = page, len(page.heads)
        self._codes = np.zeros(self._size, np.int8)
        self._entries: dict[str, list[Entry]] = {}
        self.good = np.zeros(self._size, np.bool_)

    def add(self, group: Alike) -> None:
        """The events of ``group``."""
        self._codes[group.lines] = group.shape.code
        self.good[group.lines] = True
        for value, span in zip(group.shape.values, group.spans, strict=True):
            if value.field is not None:
                self._entries.setdefault(value.name, []).append(Entry(value.field, group.lines, *span))
            elif value.number:
                self._numbers([Entry(Field(value.name, Kind.NUMBER), group.lines, *span)])

    @property
    def with_ids(self) -> bool:
        return EVENT_ID in self._entries

    def batch(self, layout: pa.Schema, names: pa.Array) -> pa.RecordBatch:
        """A row for each line; what stands in the row of one that is not ``good`` means nothing."""
        columns = {EVENT_TYPE: pa.DictionaryArray.from_arrays(pa.array(self._codes), names)}
        for name, entries in self._entries.items():
            read = self._numbers if entries[0].field.kind in NUMERIC else self._texts
            columns[name] = read(entries)
        return col.batch(layout, columns, self._size)

    def _texts(self, entries: list[Entry]) -> pa.Array:
        """A column of texts, instants or dates."""
        lines, starts, ends = self._together(entries)
        length = ends - starts  # in bytes, of which there are no fewer than letters
        values = self._page.cut(starts, ends)
        name, kind = entries[0].field.name, entries[0].field.kind
        if name in LENGTHS:
            wrong = (length < 1) | (length > LENGTHS[name])
        elif name == EVENT_TIME:
            values, wrong = col.cast(values, MICROSECONDS)
        elif kind is Kind.DATE:
            values, wrong = col.cast(values, col.DAYS)
            wrong |= length > TEXT_LENGTH
        else:
            wrong = length > TEXT_LENGTH
        self.good[lines[wrong]] = False
        return values if len(lines) == self._size else col.spread(values, lines, self._size)

    def _numbers(self, entries: list[Entry]) -> pa.Array:
        """A column of numbers; when msgspec cannot read one of them, the judge gets to see all the lines that have one."""
        lines, starts, ends = self._together(entries)
        kind = entries[0].field.kind
        read = _read(self._page, starts, ends, kind)
        if read is None:
            self.good[lines] = False
            return pa.nulls(self._size, ARROW_TYPES[kind])
        values, absent = np.zeros(self._size, read.type.to_pandas_dtype()), np.ones(self._size, np.bool_)
        if read.null_count:
            lines, read = lines[col.mask(read.is_valid())], read.drop_null()
        values[lines], absent[lines] = read.to_numpy(), False
        for each in entries:
            self.good[each.lines] &= _allowed(each.field, values[each.lines], absent[each.lines])
        return pa.array(values, mask=absent)

    def _together(self, entries: list[Entry]) -> tuple[col.Places, col.Places, col.Places]:
        """The lines of all entries, in order, and from where to where the value goes in each."""
        if len(entries) == 1:
            return entries[0].lines, entries[0].starts, entries[0].ends
        starts, ends = np.zeros((2, self._size), np.int64)
        for each in entries:
            starts[each.lines], ends[each.lines] = each.starts, each.ends
        lines = ends.nonzero()[0]
        return (lines, starts, ends) if len(lines) == self._size else (lines, starts[lines], ends[lines])


def _allowed(field: Field, numbers: NDArray[Any], absent: col.Mask) -> col.Mask:
    """Where a number is plainly allowed, or is absent and may be."""
    wrong = col.negative_zero(numbers) | ~np.isfinite(numbers)
    least, most = bounds(field)
    if least is not None:
        wrong |= numbers < least
    if most is not None:
        wrong |= numbers > most
    return ~absent & ~wrong if field.required else absent | ~wrong


def _read(page: Page, starts: col.Places, ends: col.Places, kind: Kind) -> pa.Array | None:
    """The numbers that stand from ``starts`` to ``ends``, or null; None when msgspec cannot read one of them."""
    texts = page.cut(starts, ends)
    try:
        if _are_plain(texts):
            return texts.cast(ARROW_TYPES[kind])
        found = ARRAYS[kind].decode(_array(page.cut(starts, ends + 1)))  # with a letter behind each, to become a comma
        return pa.array(found, ARROW_TYPES[kind]) if len(found) == len(texts) else None
    except (*UNREADABLE, OverflowError, pa.ArrowInvalid):
        return None


def _are_plain(numbers: pa.StringArray) -> bool:
    """Whether all are digits with at most a point between them, which Arrow reads as JSON does, save a point too many.

    Arrow reads more: nan, +1, .5, 007. None of ``numbers`` is empty.
    """
    offsets = np.frombuffer(numbers.buffers()[1], np.int32)[: len(numbers) + 1]
    letters = np.frombuffer(numbers.buffers()[2], np.uint8, offsets[-1])
    digit = letters - DIGITS[0] < len(DIGITS)
    if not (digit | (letters == POINT)).all() or not (digit[offsets[:-1]] & digit[offsets[1:] - 1]).all():
        return False
    zero = np.flatnonzero(letters[offsets[:-1]] == DIGITS[0])
    second = offsets[zero] + 1
    return not digit[second[second < offsets[zero + 1]]].any()


def _array(numbers: pa.StringArray) -> memoryview:
    """A JSON array of ``numbers``, each of which has one letter too many at its end."""
    offsets = np.frombuffer(numbers.buffers()[1], np.int32)[: len(numbers) + 1]
    array = np.empty(1 + offsets[-1], np.uint8)
    array[1:] = np.frombuffer(numbers.buffers()[2], np.uint8, offsets[-1])
    array[offsets] = COMMA
    array[0], array[-1] = OPEN, CLOSE
    return array.data

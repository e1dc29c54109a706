"""Pages of lines, and the shapes that lines have.

One program writes a client's events, so that its lines differ in their values only. A *page* is a payload with the places of its
quotes and newlines, the *marks*. A *shape* is what a line looks like but for its values, learned from one line that msgspec has
read: which bytes stand at which marks. Another line has the shape when the same bytes stand at the same marks of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.codecs.columns import Mask, Places
from churnstream.codecs.judge import UNREADABLE
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, NUMERIC, Field, Kind, UseCase

QUOTE, NEWLINE, BACKSLASH, SPACE, DELETE = b'"\n\\ \x7f'
LONGEST = 4_096  # bytes of a line from which a shape is learned


@dataclass(frozen=True, slots=True)
class Fixed:
    """Bytes that every line of a shape has, ``shift`` bytes from the line's mark number ``mark``."""

    mark: int
    shift: int
    text: bytes


@dataclass(frozen=True, slots=True)
class Value:
    """What stands between two neighbouring fixed parts; ``field`` is None when the event has no field of that name."""

    name: str
    number: bool
    field: Field | None


@dataclass(frozen=True, slots=True)
class Shape:
    """How lines of one kind are written: ``values[n]`` stands between ``fixed[n]`` and ``fixed[n + 1]``.

    ``code`` is the place of the event type in the case; None when no line of this shape is a good event.
    """

    code: int | None
    quotes: int
    fixed: tuple[Fixed, ...]
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Alike:
    """The lines of one shape, in order, and from where to where each of the shape's values goes in each of them."""

    shape: Shape
    lines: Places
    spans: tuple[tuple[Places, Places], ...]


@dataclass(frozen=True, slots=True)
class Page:
    """A payload without its blank lines. Mark 0 of a line is the newline before it, its last one the newline behind it.

    ``heads`` has the place in ``marks`` of each line's first mark, ``quotes`` the number of its quotes. A line is ``plain`` when
    it holds no backslash and no control character, and is UTF-8.
    """

    body: bytes
    marks: Places
    heads: Places
    quotes: Places
    plain: Mask

    @classmethod
    def of(cls, data: bytes) -> "Page":
        """The page of ``data``; a carriage return ends a line as well, as it does for the judge."""
        if b"\r" in data:
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        padded = b"".join((b"\n", data, b"" if data.endswith(b"\n") else b"\n", bytes(LONGEST)))
        letters = np.frombuffer(padded, np.uint8, len(padded) - LONGEST)
        marks = ((letters == QUOTE) | (letters == NEWLINE)).nonzero()[0]
        newlines = (letters[marks] == NEWLINE).nonzero()[0]
        page = cls(padded, marks, newlines[:-1], np.diff(newlines) - 1, _plain(data, letters, marks[newlines]))
        return page._without_blank_lines()

    def _without_blank_lines(self) -> "Page":
        blank = [place for place in np.flatnonzero(self.quotes == 0).tolist() if not self.line(place).strip()]
        if not blank:
            return self
        filled = np.ones(len(self.heads), np.bool_)
        filled[blank] = False
        return Page(self.body, self.marks, self.heads[filled], self.quotes[filled], self.plain[filled])

    def line(self, place: int) -> bytes:
        """One line, without its newline."""
        head = self.heads[place]
        return self.body[self.marks[head] + 1 : self.marks[head + self.quotes[place] + 1]]

    def cut(self, starts: Places, ends: Places) -> pa.StringArray:
        """The bytes from each of ``starts`` to each of ``ends``, both increasing, as one text each."""
        size = len(starts)
        offsets = np.empty(2 * size + 1, np.int32)  # of the texts and of what lies between them
        offsets[0:-1:2], offsets[1::2], offsets[-1:] = starts, ends, ends[-1:]
        texts = pa.StringArray.from_buffers(2 * size, pa.py_buffer(offsets), pa.py_buffer(self.body))
        return texts.take(pa.array(np.arange(0, 2 * size, 2, np.int32)))

    def alike(self, shape: Shape, lines: Places) -> Alike:
        """Those of ``lines`` that have ``shape``; each of them has as many quotes as it."""
        heads = self.heads[lines]
        begins: list[Places] = []
        for each in shape.fixed:
            begins.append(self.marks[heads + each.mark] + each.shift)
            lines, heads, *begins = _where(self._texts(len(each.text))[begins[-1]] == each.text, lines, heads, *begins)
        for number, (before, value) in enumerate(zip(shape.fixed, shape.values, strict=False)):
            if value.number:  # the fixed parts around a text are apart by their quotes
                lines, *begins = _where(begins[number] + len(before.text) < begins[number + 1], lines, *begins)
        spans = ((begin + len(before.text), end) for before, (begin, end) in zip(shape.fixed, pairwise(begins), strict=False))
        return Alike(shape, lines, tuple(spans))

    def _texts(self, length: int) -> NDArray[np.bytes_]:
        """The texts of ``length`` bytes that begin at each byte of the body, without a copy of it."""
        return np.ndarray((len(self.body) - length + 1,), f"S{length}", self.body, strides=(1,))


def _where(chosen: Mask, *arrays: Places) -> list[Places]:
    everything = np.count_nonzero(chosen) == len(chosen)  # quicker than chosen.all()
    return list(arrays) if everything else [each[chosen] for each in arrays]


def _plain(data: bytes, letters: NDArray[np.uint8], newlines: Places) -> Mask:
    """Which lines hold no backslash and no control character, and are UTF-8."""
    plain = np.ones(len(newlines) - 1, np.bool_)
    control = letters < SPACE
    unicode = data.isascii() or _is_unicode(data)
    if unicode and b"\\" not in data and np.count_nonzero(control) == len(newlines):
        return plain
    strange = (control & (letters != NEWLINE)) | (letters == BACKSLASH)
    if not unicode:
        strange |= letters > DELETE
    plain[np.searchsorted(newlines, np.flatnonzero(strange)) - 1] = False
    return plain


def _is_unicode(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def learn(case: UseCase, line: bytes) -> Shape | None:
    """The shape of a plain line; None when it is no flat JSON object, or too long to be worth remembering."""
    if len(line) > LONGEST - 2:
        return None
    try:
        event = msgspec.json.decode(line)
    except UNREADABLE:
        return None
    if not isinstance(event, dict):
        return None
    text = b"\n" + line + b"\n"
    quotes = [place for place, letter in enumerate(text) if letter == QUOTE]
    spans = _spans(text, quotes, event)
    if spans is None:
        return None
    marks = [0, *quotes, len(text) - 1]
    ends = [(0, 0), *(span for _, span in spans), (len(text), len(text))]
    fixed: list[Fixed] = []
    for (_, start), (end, _) in pairwise(ends):
        mark = next(number for number, place in enumerate(marks) if place >= start)
        fixed.append(Fixed(mark, start - marks[mark], text[start:end]))
    code, fields = _fields(case, event)
    values = tuple(Value(name, not isinstance(event[name], str), fields.get(name)) for name, _ in spans)
    return Shape(code, len(quotes), tuple(fixed), values)


def _spans(text: bytes, quotes: list[int], event: Mapping[str, Any]) -> list[tuple[str, tuple[int, int]]] | None:
    """From where to where each text and number of ``event`` goes in ``text``, but for the event type.

    None when a value is nested, or when there are more strings than names and texts: then a name is there twice.
    """
    values = event.values()
    if any(isinstance(each, list | dict) for each in values):
        return None
    if len(quotes) != 2 * (len(event) + sum(isinstance(each, str) for each in values)):
        return None
    spans: list[tuple[str, tuple[int, int]]] = []
    turn = iter(quotes)
    for name, value in event.items():
        _, end = next(turn), next(turn)
        if isinstance(value, str):
            span = next(turn) + 1, next(turn)
            if name != EVENT_TYPE:
                spans.append((name, span))
        elif isinstance(value, int | float) and not isinstance(value, bool):
            following = min((place for place in quotes if place > end), default=len(text))
            spans.append((name, _number(text, end + 1, following)))
    return spans


def _number(text: bytes, start: int, end: int) -> tuple[int, int]:
    """From where to where the number goes that stands in ``text[start:end]`` after a colon, before a comma or a brace."""
    begin = text.index(b":", start) + 1
    stop = max(text.rfind(b",", begin, end), text.rfind(b"}", begin, end))
    number = text[begin:stop].strip()
    first = text.index(number, begin)
    return first, first + len(number)


def _fields(case: UseCase, event: Mapping[str, Any]) -> tuple[int | None, dict[str, Field]]:
    """The event type of ``event`` as its place in the case, and its fields; None when it cannot be a good event."""
    if event.get(EVENT_TYPE) not in case.event_names:
        return None, {}
    code = case.event_names.index(event[EVENT_TYPE])
    every = (Field(KEY, Kind.TEXT), Field(EVENT_TIME, Kind.TEXT), Field(EVENT_ID, Kind.TEXT, required=False))
    fields = {each.name: each for each in (*every, *case.events[code].fields)}
    for each in fields.values():
        value = event.get(each.name)
        fits = isinstance(value, int | float) and not isinstance(value, bool) if each.kind in NUMERIC else isinstance(value, str)
        if not fits and (value is not None or each.required):
            return None, {}
    return code, fields

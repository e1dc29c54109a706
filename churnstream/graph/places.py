"""Which place of the engine's rows a customer has: a hash table over the bytes of the keys, compiled.

Keys stand one after another in ``text``, the key of place ``p`` in ``text[starts[p]:starts[p + 1]]``. A cell is empty, or holds
the upper half of the key's hash above its place plus 1; collisions move on to the next cell. Two keys are the same when their
bytes are. Bytes are read eight at a time: seven more than there are keys are there to be read.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.graph.table import compiled, fetch, inlined, table, word_at

Bytes = NDArray[np.uint8]
Whole = NDArray[np.int64]

UNKNOWN = -1
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # the golden ratio of 64 bits (Knuth, The Art of Computer Programming 3, 6.4), odd
STEP, WORD = 8, np.uint64(8)
HALF, LOWER, EMPTY = np.uint64(32), np.uint64(0xFFFFFFFF), np.uint64(0)
AHEAD = 16  # keys between two steps of fetching


@inlined
def word_of(data, place, end):
    """The bytes from ``place`` to before ``end``, eight at most, as a number; beyond the end there are seven more to be read."""
    word, left = word_at(data, place), np.uint64(end - place)
    return word if left >= WORD else word & ((np.uint64(1) << (np.uint64(8) * left)) - np.uint64(1))


@inlined
def hash_of(data, start, end):
    """A hash of some bytes, eight at a time; every bit of it depends on all of them."""
    code = np.uint64(end - start)
    for place in range(start, end, STEP):
        code = (code ^ word_of(data, place, end)) * FACTOR
        code ^= code >> HALF
    code *= FACTOR
    return code ^ (code >> HALF)


@inlined
def is_same(data, start, end, text, first, last):
    """Whether two stretches of bytes are equal."""
    if end - start != last - first:
        return False
    for place in range(0, end - start, STEP):
        if word_of(data, start + place, end) != word_of(text, first + place, last):
            return False
    return True


@inlined
def fetch_ahead(row, hashes, cells, starts, text, found):
    """Have what later keys will be compared with fetched, in three steps, each of which needs what the one before has fetched:
    the cell of a key, then where the key that stands there lies, then its bytes. ``found`` is room for what a step has read."""
    mask = np.uint64(len(cells) - 1)
    if row + 3 * AHEAD < len(found):
        fetch(cells, np.int64(hashes[row + 3 * AHEAD] & mask), 0)
    if row + 2 * AHEAD < len(found):
        place = np.int64(cells[np.int64(hashes[row + 2 * AHEAD] & mask)] & LOWER) - 1
        found[row + 2 * AHEAD] = place
        if place >= 0:
            fetch(starts, place, 0)
    if row >= AHEAD and row + AHEAD < len(found) and found[row + AHEAD] >= 0:
        fetch(text, starts[found[row + AHEAD]], 0)


@compiled
def find(data, offsets, add, cells, text, starts, known, found):
    """The place of each key ``data[offsets[i]:offsets[i + 1]]`` into ``found``; returns how many places there are.

    A key that is not there gets the next place if ``add``, else UNKNOWN; the arrays have room, the caller saw to it.
    """
    hashes = np.empty(len(found), np.uint64)
    data, offsets, cells, text, starts, found = (
        table(data),
        table(offsets),
        table(cells),
        table(text),
        table(starts),
        table(found),
    )
    for row in range(len(found)):
        hashes[row] = hash_of(data, np.int64(offsets[row]), np.int64(offsets[row + 1]))
    mask = np.uint64(len(cells) - 1)
    for row in range(len(found)):
        fetch_ahead(row, hashes, cells, starts, text, found)
        start, end = np.int64(offsets[row]), np.int64(offsets[row + 1])
        code = hashes[row]
        cell = code & mask
        while True:
            held = cells[cell]
            if held == EMPTY:
                found[row] = UNKNOWN
                if add:
                    first = starts[known]
                    for place in range(end - start):
                        text[first + place] = data[start + place]
                    known += 1
                    starts[known] = first + end - start
                    cells[cell] = ((code >> HALF) << HALF) | np.uint64(known)
                    found[row] = known - 1
                break
            at = np.int64(held & LOWER) - 1
            if held >> HALF == code >> HALF and is_same(data, start, end, text, starts[at], starts[at + 1]):
                found[row] = at
                break
            cell = (cell + np.uint64(1)) & mask
    return known


@compiled
def index(cells, text, starts, known):
    """Enter the first ``known`` keys into empty cells."""
    cells, text, starts = table(cells), table(text), table(starts)
    mask = np.uint64(len(cells) - 1)
    for place in range(known):
        code = hash_of(text, starts[place], starts[place + 1])
        cell = code & mask
        while cells[cell] != EMPTY:
            cell = (cell + np.uint64(1)) & mask
        cells[cell] = ((code >> HALF) << HALF) | np.uint64(place + 1)


class Places:
    """The keys of one shard's customers, numbered in the order in which they came."""

    def __init__(self) -> None:
        self._known = 0
        self._cells = np.zeros(1024, np.uint64)
        self._text = np.zeros(4096, np.uint8)
        self._starts = np.zeros(513, np.int64)

    def __len__(self) -> int:
        return self._known

    def of(self, keys: pa.Array, add: bool = True) -> Whole:
        """(n,) the place of each key of a string array without nulls; new keys get one, or UNKNOWN unless ``add``."""
        data, offsets = _text_of(keys)
        found = np.empty(len(keys), np.int64)
        if add:
            self._make_room(len(keys), int(offsets[-1] - offsets[0]))
        self._known = find(data, offsets, add, self._cells, self._text, self._starts, self._known, found)
        return found

    def one(self, key: str) -> int:
        """The place of ``key``, UNKNOWN when it has none."""
        return int(self.of(pa.array([key], pa.string()), add=False)[0])

    def keys(self, places: Sequence[int] | Whole | None = None) -> list[str]:
        """The keys of some places, by default of all."""
        text, starts = self._text.data, self._starts
        chosen = np.arange(self._known) if places is None else np.asarray(places, np.int64)
        bounds = zip(starts[chosen].tolist(), starts[chosen + 1].tolist(), strict=True)
        return [str(text[first:last], "utf-8") for first, last in bounds]

    def _make_room(self, keys: int, size: int) -> None:
        self._starts = grown(self._starts, self._known + keys + 1)
        self._text = grown(self._text, int(self._starts[self._known]) + size + STEP)
        wanted = 2 * (self._known + keys)
        if len(self._cells) < wanted:
            self._cells = np.zeros(1 << wanted.bit_length(), np.uint64)
            index(self._cells, self._text, self._starts, self._known)


def grown(array: Any, length: int) -> Any:
    """``array`` with room for ``length`` rows or more, new ones zero; where the system can, without copying the old ones.

    Views of the array must be made again.
    """
    if len(array) < length:
        array.resize((max(length, len(array) + len(array) // 8), *array.shape[1:]), refcheck=False)
    return array


def _text_of(keys: pa.Array) -> tuple[Bytes, NDArray[np.int32]]:
    """The bytes of a string array, with some to spare, and where each of its strings begins; the last offset is the end."""
    _, offsets, data = keys.buffers()
    if len(keys) == 0 or offsets is None:
        return np.zeros(STEP, np.uint8), np.zeros(1, np.int32)
    starts = np.frombuffer(offsets, np.int32)[keys.offset : keys.offset + len(keys) + 1]
    first, last = int(starts[0]), int(starts[-1])
    text = np.zeros(last - first + STEP, np.uint8)
    if last > first:
        text[:-STEP] = np.frombuffer(data, np.uint8)[first:last]
    return text, starts - starts[0]

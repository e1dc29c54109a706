"""The fast answer: features of one shard's customers, kept up to date a micro-batch at a time.

Equal to ``features/reference.py`` at every instant (``tests/graph/test_engine_equals_reference.py``): counts and sums
exactly, the rest within 1e-9. State grows with what customers did within their windows; it is restored from the bytes that
``apply`` hands out, never from a pickle.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.failpoints import reach
from churnstream.features.windows import MICROSECOND
from churnstream.graph import kernel, state
from churnstream.graph import memory as me
from churnstream.graph.batch import Batch, arrange, group
from churnstream.graph.desk import Desk
from churnstream.graph.memory import Memory
from churnstream.graph.places import UNKNOWN, Places, grown
from churnstream.graph.plan import DISTINCT_OF, IS_SET_FROM_ANCHOR, SERVES, TRACK, TRACK_END, Plan, Real, Whole, compile_plan
from churnstream.graph.vectors import read_customer
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
RESTORED_AT_ONCE = 8192


@dataclass(frozen=True, slots=True)
class Applied:
    """What one batch did.

    ``emitted`` (n,) are the rows, in order, after which a vector stands in ``vectors`` (n, features; order of ``Plan.names``); a
    vector is as of the newest instant of its customer. ``late`` are the rows that changed nothing. ``states`` are the customers
    that changed, as bytes to store.
    """

    emitted: Whole
    vectors: Real
    late: Whole
    states: dict[str, bytes]


class WindowEngine:
    """The customers of one shard. Not for several threads. Engines that take turns may share a ``desk``."""

    def __init__(self, case: UseCase, desk: Desk | None = None):
        self._desk = desk or Desk()
        self.plan: Plan = compile_plan(case)
        self._names = pa.array(case.event_names, pa.string())
        self._places = Places()
        self._memory = Memory(self.plan)
        self._mark = np.full(64, -1, np.int64)
        tracks = self.plan.arrays.code[:, [TRACK, TRACK_END]]
        self._tracks_touched = int((tracks[:, 1] - tracks[:, 0]).max())
        self._sets_from_anchor = int((self.plan.arrays.track[:, DISTINCT_OF] == IS_SET_FROM_ANCHOR).sum())

    def __len__(self) -> int:
        return len(self._places)

    def apply(self, batch: pa.RecordBatch, states: bool = True) -> Applied:
        """Apply the rows of ``batch`` in order; its columns are those of the case's schema, and the enrichment's.

        ``states=False`` leaves the changed customers' bytes out, for who keeps none.
        """
        rows, arrays = batch.num_rows, self.plan.arrays
        who = self._places.of(batch.column(batch.schema.get_field_index(KEY)))
        codes = self._codes(batch.column(batch.schema.get_field_index(EVENT_TYPE)))
        served = int(arrays.code[codes, SERVES].sum())
        work = self._room(rows, served)
        groups = group(who, self._marks(), work.customers, work.ends, work.order)
        times = _buffer(batch.column(batch.schema.get_field_index(EVENT_TIME)), np.int64)
        arrange(arrays.code[:, SERVES].copy(), codes, times, self._values(batch), work)
        waits = rows if arrays.anchored else 0
        nodes = rows * self._tracks_touched
        slots = min(groups * len(arrays.track), nodes + groups * self._sets_from_anchor)
        self._memory.make_room(len(self._places), slots, nodes, waits)
        count = kernel.apply_rows(arrays, self._memory.layout, self._memory.pools, work, groups)
        emitted, vectors = work.emitted[:count], work.vectors[:count]
        late = np.flatnonzero(work.outcome == kernel.LATE)
        if not states:
            return Applied(emitted, vectors, late, {})
        changed = work.customers[:groups] if not len(late) else np.unique(who[work.outcome == kernel.APPLIED])
        reach("features.before-snapshot")
        packed = state.pack(self.plan, self._memory.layout, self._memory.pools, changed)
        reach("features.after-snapshot")
        return Applied(emitted, vectors, late, dict(zip(self._places.keys(changed), packed, strict=True)))

    def restore(self, states: Iterable[tuple[str, bytes]]) -> None:
        """Take up customers who are not known here yet, as they were stored; raises UnknownVersion or FingerprintMismatch."""
        stored = iter(states)
        while some := list(islice(stored, RESTORED_AT_ONCE)):
            restore(self.plan, self._memory, self._places, some)
            reach("features.in-restore")

    def vector(self, key: str, as_of: datetime | None = None) -> Real | None:
        """The customer's features at ``as_of``, which is not before their newest instant (the default).

        None while they are not defined. A silent customer's windows empty as ``as_of`` moves on; nothing is changed by looking.
        """
        place = self._places.one(key)
        return None if place == UNKNOWN else read(self.plan, self._memory, place, as_of)

    def newest(self, key: str) -> datetime:
        """The newest instant of a customer; raises KeyError for one who is not known here."""
        place = self._places.one(key)
        if place == UNKNOWN:
            raise KeyError(key)
        return EPOCH + timedelta(microseconds=int(self._memory.pools.irows[place, me.NEWEST]))

    def keys(self) -> tuple[str, ...]:
        """Every customer, in the order in which they came."""
        return tuple(self._places.keys())

    # -- the inside ---------------------------------------------------------------------------------------------------------

    def _room(self, rows: int, served: int) -> Batch:
        """Arrays for a batch of so many rows, of which so many are served."""
        fields, features, width, desk = len(self.plan.fields), len(self.plan.names), self.plan.arrays.width, self._desk
        desk.clear(rows * (7 + fields) + served * (1 + features) + width)
        return Batch(
            customers=desk.words(rows),
            ends=desk.words(rows),
            order=desk.words(rows),
            codes=desk.words(rows),
            times=desk.words(rows),
            values=desk.real(rows, fields),
            ranks=desk.words(rows),
            outcome=desk.words(rows),
            emitted=desk.words(served),
            vectors=desk.real(served, features),
            scratch=desk.real(1, width),
        )

    def _codes(self, types: pa.DictionaryArray) -> Whole:
        codes = _buffer(types.indices, np.int8).astype(np.int64)
        if types.dictionary.equals(self._names):
            return codes
        numbers = {name: code for code, name in enumerate(self.plan.event_names)}
        return np.array([numbers[name] for name in types.dictionary.to_pylist()], np.int64)[codes]

    def _values(self, batch: pa.RecordBatch) -> Real:
        """(rows, fields) the numbers; what an event does not have is not read, or NaN where it may be missing."""
        values = np.empty((batch.num_rows, len(self.plan.fields)))
        for place, name in enumerate(self.plan.fields):
            column = batch.column(batch.schema.get_field_index(name))
            if column.type != pa.float64():
                column = column.cast(pa.float64())
            if name in self.plan.may_be_missing:
                values[:, place] = column.to_numpy(zero_copy_only=False)
            else:
                values[:, place] = _buffer(column, np.float64)
        return values

    def _marks(self) -> Whole:
        known = len(self._mark)
        if known < len(self._places):
            self._mark = grown(self._mark, len(self._places))
            self._mark[known:] = -1
        return self._mark


class StateReader:
    """Reads one customer's features from the bytes that the engine stored, in any process."""

    def __init__(self, case: UseCase):
        self.plan = compile_plan(case)
        self._layout = me.layout(self.plan)

    def vector(self, packed: bytes, as_of: datetime | None = None) -> Real | None:
        """(features,) at ``as_of``, by default the customer's newest instant; None while they are not defined.

        Raises UnknownVersion, FingerprintMismatch, or ValueError for an instant before the customer's newest event.
        """
        if as_of is None or as_of == self.newest(packed):
            words, _ = state.words_of(self.plan, self._layout, [packed])
            if not _is_defined(self.plan, words[state.HEADER : state.HEADER + self._layout.row].reshape(1, -1), 0):
                return None
            start = state.HEADER + self._layout.vector
            return words[start : start + len(self.plan.names)].view(np.float64).copy()
        memory = Memory(self.plan)
        restore(self.plan, memory, Places(), [("", packed)])
        return read(self.plan, memory, 0, as_of)

    def newest(self, packed: bytes) -> datetime:
        """The instant of the newest event behind the features, UTC."""
        words, _ = state.words_of(self.plan, self._layout, [packed])
        return EPOCH + timedelta(microseconds=int(words[state.HEADER + me.NEWEST]))


def restore(plan: Plan, memory: Memory, places: Places, stored: Sequence[tuple[str, bytes]]) -> None:
    """Put stored customers into memory."""
    words, starts = state.words_of(plan, memory.layout, [packed for _, packed in stored])
    chosen = places.of(pa.array([key for key, _ in stored], pa.string()))
    row = starts + state.HEADER
    waiting = int(words[row + memory.layout.row - me.WAITING].sum()) if memory.layout.edges else 0
    nodes = int(words[starts + state.NODES_AT].sum())
    memory.make_room(len(places), len(stored) * len(plan.arrays.track), nodes, waiting)
    state.read(memory.layout, chosen, plan.arrays.track, plan.arrays.views, plan.arrays.width, words, memory.pools)


def read(plan: Plan, memory: Memory, place: int, as_of: datetime | None) -> Real | None:
    """One customer's vector at ``as_of``; raises ValueError for an instant before what is known, which nothing here remembers."""
    irows = memory.pools.irows
    if not _is_defined(plan, irows, place):
        return None
    newest = int(irows[place, me.NEWEST])
    at = newest if as_of is None else (as_of - EPOCH) // MICROSECOND
    if at < newest:
        raise ValueError(
            f"{as_of} is before the customer's newest event, and windows are not kept for the past; replay the archive"
        )
    out, scratch = np.empty((1, plan.arrays.columns)), np.empty((1, plan.arrays.width))
    read_customer(plan.arrays, memory.layout, memory.pools, place, at, out, scratch)
    return out[0, : len(plan.names)]


def _is_defined(plan: Plan, irows: Whole, place: int) -> bool:
    anchor, requires = plan.arrays.anchor, plan.arrays.requires
    if irows[place, me.NEWEST] == me.LONG_AGO or (anchor >= 0 and irows[place, -me.ANCHOR] == me.NEVER):
        return False
    return requires < 0 or bool(irows[place, -me.REQUIRED] != me.NEVER)


def _buffer(column: pa.Array, kind: type) -> NDArray[Any]:
    """The values of a column without copying; where one is missing, whatever stands there."""
    data = column.buffers()[1]
    return np.frombuffer(data, kind)[column.offset : column.offset + len(column)] if data is not None else np.zeros(0, kind)

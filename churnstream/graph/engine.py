"""The fast answer: features of one shard's customers, kept up to date a micro-batch at a time.

Equal to ``features/reference.py`` at every instant (``tests/graph/test_engine_equals_reference.py``): counts and sums
exactly, the rest within 1e-9. State grows with what customers did within their windows; it is restored from the bytes that
``apply`` hands out, never from a pickle.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from churnstream.features.windows import MICROSECOND
from churnstream.graph import kernel, state
from churnstream.graph.plan import Plan, Real, Whole, compile_plan
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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
    """The customers of one shard. Not for several threads."""

    def __init__(self, case: UseCase):
        self.plan: Plan = compile_plan(case)
        self._places: dict[str, int] = {}
        self._keys: list[str] = []
        self._new_whole, self._new_real = state.newcomer(self.plan)
        self._whole = np.tile(self._new_whole, (64, 1))
        self._real = np.tile(self._new_real, (64, 1))
        self._pools = state.empty_pools(self.plan)
        self._scratch = np.empty((1, len(self.plan.arrays.views) * self.plan.arrays.width))

    def __len__(self) -> int:
        return len(self._keys)

    def apply(self, batch: pa.RecordBatch, states: bool = True) -> Applied:
        """Apply the rows of ``batch`` in order; its columns are those of the case's schema, and the enrichment's.

        ``states=False`` leaves the changed customers' bytes out, for who keeps none.
        """
        rows, arrays = batch.num_rows, self.plan.arrays
        who = self._who(batch.column(batch.schema.get_field_index(KEY)))
        codes = batch.column(batch.schema.get_field_index(EVENT_TYPE)).indices.to_numpy(zero_copy_only=False).astype(np.int64)
        times = batch.column(batch.schema.get_field_index(EVENT_TIME)).cast(pa.int64()).to_numpy(zero_copy_only=False)
        values = np.full((rows, len(self.plan.columns)), np.nan)
        for place, name in enumerate(self.plan.columns):
            values[:, place] = batch.column(batch.schema.get_field_index(name)).cast(pa.float64()).to_numpy(zero_copy_only=False)
        outcome, emitted = np.empty(rows, np.int8), np.empty(rows, np.int64)
        vectors = np.empty((int(arrays.serves[codes].sum()), len(self.plan.names)))
        events = rows if arrays.anchor >= 0 else 0
        self._pools = state.with_room(self._pools, events, rows * len(arrays.track))
        count = kernel.apply_rows(
            arrays, who, codes, times, values, self._whole, self._real, self._pools, outcome, emitted, vectors, self._scratch
        )
        changed = np.unique(who[outcome == kernel.APPLIED]) if states else ()
        packed = {self._keys[place]: self._pack(place) for place in changed}
        return Applied(emitted[:count], vectors[:count], np.flatnonzero(outcome == kernel.LATE), packed)

    def restore(self, states: Iterable[tuple[str, bytes]]) -> None:
        """Take up customers as they were stored; raises UnknownVersion or FingerprintMismatch."""
        for key, packed in states:
            unpacked = state.unpack(packed, self.plan)
            self._pools = state.with_room(self._pools, len(unpacked.wait), len(unpacked.held))
            place = self._place(key)
            state.fill(unpacked, self.plan, self._whole, self._real, place, self._pools)

    def vector(self, key: str, as_of: datetime | None = None) -> Real | None:
        """The customer's features at ``as_of``, which is not before their newest instant (the default).

        None while they are not defined. A silent customer's windows empty as ``as_of`` moves on; nothing is changed by looking.
        """
        place = self._places.get(key)
        if place is None:
            return None
        return read(self._whole, self._real, place, self.plan, self._pools, self._scratch, as_of)

    def newest(self, key: str) -> datetime:
        """The newest instant of a customer that is known here."""
        return EPOCH + timedelta(microseconds=int(self._whole[self._places[key], kernel.NEWEST]))

    def keys(self) -> tuple[str, ...]:
        return tuple(self._keys)

    # -- the inside ---------------------------------------------------------------------------------------------------------

    def _who(self, keys: pa.Array) -> Whole:
        encoded = keys.dictionary_encode()
        places = np.array([self._place(key) for key in encoded.dictionary.to_pylist()], np.int64)
        return places[encoded.indices.to_numpy(zero_copy_only=False)] if len(places) else np.zeros(0, np.int64)

    def _place(self, key: str) -> int:
        place = self._places.get(key)
        if place is not None:
            return place
        place = self._places[key] = len(self._keys)
        self._keys.append(key)
        if place == len(self._whole):
            more = max(64, place // 2)
            self._whole = np.vstack([self._whole, np.tile(self._new_whole, (more, 1))])
            self._real = np.vstack([self._real, np.tile(self._new_real, (more, 1))])
        return place

    def _pack(self, place: int) -> bytes:
        return state.pack(self.plan, self._whole[place], self._real[place], self._pools)


class StateReader:
    """Reads one customer's features from the bytes that the engine stored, in any process."""

    def __init__(self, case: UseCase):
        self.plan = compile_plan(case)
        self._scratch = np.empty((1, len(self.plan.arrays.views) * self.plan.arrays.width))

    def vector(self, packed: bytes, as_of: datetime | None = None) -> Real | None:
        """(features,) at ``as_of``, by default the customer's newest instant; None while they are not defined."""
        unpacked = state.unpack(packed, self.plan)
        new_whole, new_real = state.newcomer(self.plan)
        whole, real = new_whole.reshape(1, -1), new_real.reshape(1, -1)
        pools = state.empty_pools(self.plan, len(unpacked.wait), len(unpacked.held))
        state.fill(unpacked, self.plan, whole, real, 0, pools)
        return read(whole, real, 0, self.plan, pools, self._scratch, as_of)

    def newest(self, packed: bytes) -> datetime:
        """The instant of the newest event behind the features, UTC."""
        return EPOCH + timedelta(microseconds=int(state.unpack(packed, self.plan).whole[kernel.NEWEST]))


def read(
    whole: Whole, real: Real, place: int, plan: Plan, pools: kernel.Pools, scratch: Real, as_of: datetime | None
) -> Real | None:
    """One customer's vector at ``as_of``; raises ValueError for an instant before what is known, which nothing here remembers."""
    if not kernel.is_defined(plan.arrays.anchor, plan.arrays.requires, whole, place):
        return None
    newest = int(whole[place, kernel.NEWEST])
    at = newest if as_of is None else (as_of - EPOCH) // MICROSECOND
    if at < newest:
        raise ValueError(
            f"{as_of} is before the customer's newest event, and windows are not kept for the past; replay the archive"
        )
    out = np.empty((1, len(plan.names)))
    kernel.read_customer(plan.arrays, whole, real, place, pools, at, scratch, out)
    return out[0]

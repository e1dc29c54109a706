"""The fast answer: features of one shard's customers, kept up to date a micro-batch at a time.

Equal to ``features/reference.py`` at every instant (``tests/graph/test_engine_equals_reference.py``): counts and sums exactly,
the rest within 1e-9. State grows with customers that were seen; it is restored from the bytes that ``apply`` hands out, never
from a pickle.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa

from churnstream.errors import FingerprintMismatch, UnknownVersion
from churnstream.graph import kernel
from churnstream.graph.plan import Plan, Real, Whole, compile_plan
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

STATE_VERSION = 1
HEADER = struct.Struct("<B8s")
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
        whole = kernel.HEAD_WHOLE + self.plan.accumulators * kernel.ACC_WHOLE + self.plan.attributes
        real = self.plan.accumulators * kernel.ACC_REAL + self.plan.attributes
        self._new_whole, self._new_real = np.zeros(whole, np.int64), np.zeros(real, np.float64)
        self._describe_newcomer()
        self._whole, self._real = np.tile(self._new_whole, (64, 1)), np.tile(self._new_real, (64, 1))
        self._pool_whole, self._pool_real = np.zeros((0, 3), np.int64), np.zeros((0, len(self.plan.columns)))
        self._free = np.array([-1, 0], np.int64)  # the first free place of the pool, and how many are free

    def __len__(self) -> int:
        return len(self._keys)

    def apply(self, batch: pa.RecordBatch) -> Applied:
        """Apply the rows of ``batch`` in order; its columns are those of the case's schema, and the enrichment's."""
        rows = batch.num_rows
        who = self._who(batch.column(batch.schema.get_field_index(KEY)))
        codes = batch.column(batch.schema.get_field_index(EVENT_TYPE)).indices.to_numpy(zero_copy_only=False).astype(np.int64)
        times = batch.column(batch.schema.get_field_index(EVENT_TIME)).cast(pa.int64()).to_numpy(zero_copy_only=False)
        values = np.full((rows, len(self.plan.columns)), np.nan)
        for place, name in enumerate(self.plan.columns):
            values[:, place] = batch.column(batch.schema.get_field_index(name)).cast(pa.float64()).to_numpy(zero_copy_only=False)
        outcome, emitted = np.empty(rows, np.int8), np.empty(rows, np.int64)
        vectors = np.empty((int(self.plan.serves[codes].sum()), len(self.plan.names)))
        self._make_room(rows)
        plan = self.plan
        count = kernel.apply_rows(
            who, codes, times, values, self._whole, self._real, self._pool_whole, self._pool_real, self._free,
            outcome, emitted, vectors, plan.anchor, plan.requires, plan.lateness, plan.acc_event, plan.acc_column,
            plan.acc_span, plan.att_event, plan.att_column, plan.op, plan.source, plan.serves,
        )  # fmt: skip
        late = np.flatnonzero(outcome == kernel.LATE)
        return Applied(emitted[:count], vectors[:count], late, self._states(np.unique(who[outcome == kernel.APPLIED])))

    def restore(self, states: Iterable[tuple[str, bytes]]) -> None:
        """Take up customers as they were stored; raises UnknownVersion or FingerprintMismatch."""
        for key, state in states:
            whole, real, waiting = _unpack(state, self.plan)
            place = self._place(key)
            self._whole[place], self._real[place] = whole, real
            self._make_room(len(waiting[0]))
            self._whole[place, [kernel.WAITING, kernel.FIRST_WAITING, kernel.LAST_WAITING]] = 0, -1, -1
            for (at, code), values in zip(waiting[0], waiting[1], strict=True):
                kernel.wait(self._whole[place], code, at, values, self._pool_whole, self._pool_real, self._free)

    def vector(self, key: str) -> Real | None:
        """The customer's features as of their newest instant; None while they are not defined."""
        place = self._places.get(key)
        return None if place is None else _vector(self._whole[place], self._real[place], self.plan)

    def newest(self, key: str) -> datetime:
        """The newest instant of a customer that is known here."""
        return EPOCH + timedelta(microseconds=int(self._whole[self._places[key], kernel.NEWEST]))

    def keys(self) -> tuple[str, ...]:
        return tuple(self._keys)

    # -- the inside ---------------------------------------------------------------------------------------------------------

    def _describe_newcomer(self) -> None:
        plan = self.plan
        self._new_whole[[kernel.ANCHOR, kernel.REQUIRED]] = kernel.NEVER
        self._new_whole[kernel.NEWEST] = kernel.LONG_AGO
        self._new_whole[[kernel.FIRST_WAITING, kernel.LAST_WAITING]] = -1
        self._new_whole[kernel.WAIT_LIMIT] = kernel.FIRST_LIMIT
        for acc in range(plan.accumulators):
            kernel.empty_accumulator(self._new_whole, self._new_real, acc)
        self._new_whole[kernel.HEAD_WHOLE + plan.accumulators * kernel.ACC_WHOLE :] = kernel.LONG_AGO
        self._new_real[plan.accumulators * kernel.ACC_REAL :] = plan.att_default

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
            self._whole = np.vstack([self._whole, np.tile(self._new_whole, (place, 1))])
            self._real = np.vstack([self._real, np.tile(self._new_real, (place, 1))])
        return place

    def _make_room(self, events: int) -> None:
        """At least ``events`` free places in the pool, chained from ``_free``."""
        if self._free[1] >= events:
            return
        old, more = len(self._pool_whole), max(events, len(self._pool_whole), 1_024)
        fresh = np.zeros((more, 3), np.int64)
        fresh[:, 2] = np.arange(old + 1, old + more + 1)
        fresh[-1, 2] = self._free[0]
        self._free[:] = old, self._free[1] + more
        self._pool_whole = np.vstack([self._pool_whole, fresh])
        self._pool_real = np.vstack([self._pool_real, np.zeros((more, self._pool_real.shape[1]))])

    def _states(self, places: Whole) -> dict[str, bytes]:
        if not len(places):
            return {}
        head = HEADER.pack(STATE_VERSION, self.plan.fingerprint)
        states = {}
        for place in places.tolist():
            whole = self._whole[place]
            state = head + whole.tobytes() + self._real[place].tobytes()
            if whole[kernel.WAITING]:
                state += self._waiting(whole)
            states[self._keys[place]] = state
        return states

    def _waiting(self, whole: Whole) -> bytes:
        places, place = [], int(whole[kernel.FIRST_WAITING])
        while place >= 0:
            places.append(place)
            place = int(self._pool_whole[place, 2])
        return bytes(self._pool_whole[places, :2].tobytes() + self._pool_real[places].tobytes())


class StateReader:
    """Reads one customer's features from the bytes that the engine stored, in any process."""

    def __init__(self, case: UseCase):
        self.plan = compile_plan(case)

    def vector(self, state: bytes) -> Real | None:
        """(features,) as of the customer's newest instant; None while they are not defined."""
        whole, real, _ = _unpack(state, self.plan)
        return _vector(whole, real, self.plan)

    def newest(self, state: bytes) -> datetime:
        """The instant of the newest event behind the features, UTC."""
        whole, _, _ = _unpack(state, self.plan)
        return EPOCH + timedelta(microseconds=int(whole[kernel.NEWEST]))


def _vector(whole: Whole, real: Real, plan: Plan) -> Real | None:
    if not kernel.is_defined(whole, plan.requires):
        return None
    out = np.empty(len(plan.names))
    kernel.read_vector(whole, real, out, plan.op, plan.source, plan.accumulators)
    return out


def _unpack(state: bytes, plan: Plan) -> tuple[Whole, Real, tuple[Whole, Real]]:
    version, fingerprint = HEADER.unpack_from(state)
    if version != STATE_VERSION:
        raise UnknownVersion(f"a customer's state has layout {version}, this version reads {STATE_VERSION}")
    if fingerprint != plan.fingerprint:
        raise FingerprintMismatch(
            f"a customer's state was kept for the features {fingerprint.hex()}, the running ones are {plan.fingerprint.hex()};"
            " replay the archive into empty streams, or go back to the definitions that wrote it"
        )
    size = kernel.HEAD_WHOLE + plan.accumulators * kernel.ACC_WHOLE + plan.attributes
    real_size = plan.accumulators * kernel.ACC_REAL + plan.attributes
    # Copies: the kernel compiles once more for arrays that may not be written.
    whole = np.frombuffer(state, np.int64, size, HEADER.size).copy()
    real = np.frombuffer(state, np.float64, real_size, HEADER.size + 8 * size).copy()
    rest, count = HEADER.size + 8 * (size + real_size), int(whole[kernel.WAITING])
    moments = np.frombuffer(state, np.int64, 2 * count, rest).reshape(count, 2)
    values = np.frombuffer(state, np.float64, count * len(plan.columns), rest + 16 * count)
    return whole, real, (moments, values.reshape(count, len(plan.columns)).copy())

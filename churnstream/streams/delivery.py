"""How a record is handed to a function: for good, on trial, or without the rows that it cannot apply.

Who hands records over puts a ``Delivery`` beside each (``event.delivery``); the unit of work that the function begins for it
keeps to what it says. On trial everything is done and nothing kept: ``commit`` raises TrialPassed where all else has worked. Rows
that were left out of the payload go to the dead letters in the same transaction as the effects of the others.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

import numpy as np
from numpy.typing import NDArray

from churnstream.errors import TrialPassed
from churnstream.records import Record
from churnstream.streams.base import Unit


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that a function cannot apply: its number in the record (None: the whole of it), why, as text, and as it was sent."""

    row: int | None
    reason: str
    payload: bytes
    original: Record


@dataclass(slots=True)
class Delivery:
    """One handing over of one record. ``left_out`` are the rows that its payload is without, in order.

    What became of it: ``joined`` when the function began a unit of work for it, ``passed`` when a trial did everything but keep
    it, ``cause`` what went wrong within the unit, also where the function made an answer of it.
    """

    trial: bool = False
    left_out: tuple[LeftOut, ...] = ()
    joined: bool = False
    passed: bool = False
    cause: BaseException | None = None

    @property
    def rows_left_out(self) -> tuple[int, ...]:
        """Their numbers in the record, in order."""
        return tuple(each.row for each in self.left_out if each.row is not None)


def places_in_record(places: NDArray[np.int64], left_out: Sequence[int]) -> NDArray[np.int64]:
    """Where rows of a payload, (n,), stood in their record before the rows ``left_out``, in order, were taken out of it.

    >>> places_in_record(np.array([0, 1, 2, 3]), (1, 2)).tolist()
    [0, 3, 4, 5]
    """
    kept_before = np.asarray(left_out, np.int64) - np.arange(len(left_out))  # how many stay before each that is left out
    return places + np.searchsorted(kept_before, places, side="right")


class DeliveredUnit(Unit):
    """A unit of work that keeps to a delivery, and notes in it what happened."""

    def __init__(self, unit: Unit, delivery: Delivery):
        self._unit, self._delivery = unit, delivery
        self.replayed = unit.replayed
        delivery.joined = True

    def append(self, stream: str, record: Record) -> None:
        self._unit.append(stream, record)

    def put(self, table: str, key: str, value: bytes, owner: str | None = None) -> None:
        self._unit.put(table, key, value, owner)

    def stored(self, table: str, key: str, owner: str | None = None) -> bytes | None:
        return self._unit.stored(table, key, owner)

    def stored_many(self, table: str, keys: Sequence[str], owner: str) -> dict[str, bytes]:
        return self._unit.stored_many(table, keys, owner)

    def recall(self, memory: str, keys: Collection[bytes], owner: str, span: timedelta) -> dict[bytes, bytes]:
        return self._unit.recall(memory, keys, owner, span)

    def recall_in_every_shard(self, memory: str, key: bytes, span: timedelta) -> dict[int, bytes]:
        return self._unit.recall_in_every_shard(memory, key, span)

    def remember(self, memory: str, entries: Mapping[bytes, bytes], owner: str, span: timedelta) -> None:
        self._unit.remember(memory, entries, owner, span)

    def refuse(self, reason: str, payload: bytes, row: int | None = None, original: Record | None = None) -> None:
        rows = self._delivery.rows_left_out
        if row is not None and rows:
            row = int(places_in_record(np.array([row]), rows)[0])
        self._unit.refuse(reason, payload, row, original)

    def count(self, outcome: str, rows: int, owner: str | None = None) -> None:
        self._unit.count(outcome, rows, owner)

    def produced(self, producer: str, sequence: int, key: str) -> None:
        self._unit.produced(producer, sequence, key)

    def commit(self) -> None:
        if self._delivery.trial:
            self._delivery.passed = True
            raise TrialPassed("the record was on trial: everything worked, and nothing was kept")
        for each in self._delivery.left_out:
            self._unit.refuse(each.reason, each.payload, each.row, each.original)
        self._unit.count("invalid", len(self._delivery.left_out))
        try:
            self._unit.commit()
        except Exception as cause:
            self._delivery.cause = cause
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and not self.replayed:
            self.commit()
        elif isinstance(error, BaseException) and not self._delivery.passed:
            self._delivery.cause = error

"""When two numbers are the same.

Counts, sums, picks (min, max, first, last, an attribute) and times must be equal to the last bit. What rounds on its way (a mean,
a variance, a standard deviation, a trend, a ratio) may differ by 1e-9 of its size. A variance, and the square of a standard
deviation, counts as no smaller than a millionth of the largest squared value in its window: of amounts that are all equal only
rounding is left. A trend counts as no smaller than the larger of the two numbers that it takes from one another.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from math import inf, isnan

import numpy as np
from numpy.typing import NDArray

from churnstream.certificate.tally import Column, Difference, Point, Real, Tally
from churnstream.features.definitions import Attribute, Definition, Feature, FeatureTable, Op, Trend
from churnstream.features.reference import feature_vector

TOLERANCE = 1e-9
LEAST_SHARE = 1e-6  # of the largest squared value: no variance counts as smaller
ROUNDS = frozenset({Op.MEAN, Op.VAR, Op.STD})


class Judge:
    """Judges the points of one table, a block at a time."""

    def __init__(self, name: str, table: FeatureTable, block: int = 1_024):
        self.tally = Tally([Column() for _ in table.features])
        self._name, self._table, self._block = name, table, block
        self._rounds = np.array([_rounds(each) for each in table.features])
        self._sizes: dict[int, FeatureTable] = {}
        self._waiting: list[Point] = []

    def add(self, point: Point) -> None:
        self._waiting.append(point)
        if len(self._waiting) >= self._block:
            self.flush()

    def differ(self, customer: str, at: datetime, what: str, batch: str, stream: str) -> None:
        """Note that the stream did something else with an event than the rules say."""
        self.tally.differ(Difference(self._name, customer, at, what, batch, stream, ""))

    def flush(self) -> None:
        """Judge what waits for its block."""
        tally, pairs = self.tally, []
        for point in self._waiting:
            found = (*point.streamed, *point.served)
            tally.points[point.moment] += 1
            tally.without += point.wanted is None
            tally.streamed += len(point.streamed)
            tally.served += len(point.served)
            if any((each is None) != (point.wanted is None) for each in found):
                values = (_presence(point.wanted, each) for each in ((point.wanted,), point.streamed, point.served))
                tally.differ(Difference(self._name, point.customer, point.at, "(the vector)", *values))
            elif point.wanted is not None:
                pairs += [(point, vector) for vector in found]
        self._waiting = []
        if pairs:
            self._compare([point for point, _ in pairs], np.array([vector for _, vector in pairs]))

    def _compare(self, points: Sequence[Point], found: Real) -> None:
        wanted = np.array([point.wanted for point in points], np.float64)
        equal = (wanted == found) | (np.isnan(wanted) & np.isnan(found))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.where(equal, 0.0, np.abs(wanted - found) / np.abs(wanted))
        error[np.isnan(error)] = np.inf
        for row, column in np.argwhere((error > TOLERANCE) & self._rounds & np.isfinite(wanted) & np.isfinite(found)).tolist():
            point, size = points[row], self._size(column, points[row])
            error[row, column] = _error(self._table.features[column], wanted[row, column], found[row, column], size)
            self.tally.columns[column].rounding += 1
        self._count(points, wanted, equal, error)
        wrong = (error > TOLERANCE) | (~equal & ~self._rounds)
        listed: set[tuple[int, int]] = set()
        for row, column in np.argwhere(wrong).tolist():
            point = points[row]
            if (id(point), column) not in listed:
                listed.add((id(point), column))
                self.tally.differ(self._difference(point, column))

    def _count(self, points: Sequence[Point], wanted: Real, equal: NDArray[np.bool_], error: Real) -> None:
        equals, filled = equal.sum(axis=0), ((wanted != 0) & ~np.isnan(wanted)).sum(axis=0)
        worst = error.argmax(axis=0)
        for place, column in enumerate(self.tally.columns):
            column.numbers += len(points)
            column.equal += int(equals[place])
            column.filled += int(filled[place])
            if error[worst[place], place] > column.worst:
                column.worst = float(error[worst[place], place])
                column.worst_of, column.worst_at = points[worst[place]].customer, points[worst[place]].at

    def _difference(self, point: Point, column: int) -> Difference:
        assert point.wanted is not None
        wanted = point.wanted[column]
        values = [
            _furthest(wanted, [float(each[column]) for each in way if each is not None]) for way in (point.streamed, point.served)
        ]
        return Difference(self._name, point.customer, point.at, self._table.names[column], wanted, *values)

    def _size(self, column: int, point: Point) -> float:
        """What a number is to be measured by, where its own size says little: see the head of this module."""
        table = self._sizes.get(column)
        if table is None:
            table = self._sizes[column] = replace(self._table, features=_parts(self._table.features[column]))
        vector = feature_vector(table, point.history[: point.known], point.at)
        return max((abs(value) for value in vector or () if not isnan(value)), default=0.0)


def _rounds(each: Definition) -> bool:
    return each.op in ROUNDS if isinstance(each, Feature) else not isinstance(each, Attribute)


def _parts(feature: Definition) -> tuple[Feature, ...]:
    """What else is read of the window, under names of its own, to know by what size an error is to be measured."""
    if isinstance(feature, Trend):
        return replace(feature.of, name="of"), replace(feature.earlier, name="earlier")
    if isinstance(feature, Feature) and feature.op in (Op.VAR, Op.STD):
        return replace(feature, name="min", op=Op.MIN), replace(feature, name="max", op=Op.MAX)
    return ()


def _error(feature: Definition, wanted: float, found: float, size: float) -> float:
    if isinstance(feature, Feature) and feature.op in (Op.VAR, Op.STD):
        power = 2 if feature.op is Op.STD else 1
        wanted, found, size = wanted**power, found**power, LEAST_SHARE * size**2
    size = max(abs(wanted), size)
    return abs(wanted - found) / size if size else inf


def _presence(wanted: object, found: Sequence[object]) -> str:
    """Whether there is a vector, of the first of ``found`` that is not as wanted, if any is not."""
    one = next((each for each in found if (each is None) != (wanted is None)), wanted)
    return "no vector" if one is None else "a vector"


def _furthest(wanted: float, found: Sequence[float]) -> float:
    """The first of ``found`` that is not ``wanted``; ``wanted`` when all are."""
    return next((each for each in found if not (each == wanted or (isnan(each) and isnan(wanted)))), wanted)

"""A point, what can be wrong with it, and the tally of a great many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from churnstream.features.reference import Observed

LISTED = 20
Real = NDArray[np.float64]
Found = tuple[Real | None, ...]


class Moment(StrEnum):
    """What is special about the instant of a point."""

    EVENT = "at an event"
    BETWEEN = "between two events"
    EDGE = "at the edge of a window"
    SILENCE = "in silence"


@dataclass(frozen=True, slots=True)
class Point:
    """One customer at one instant: the vector recomputed from the history, those of the stream, and those that serving reads.

    None stands for no vector yet. ``known`` is how much of ``history`` had arrived.
    """

    customer: str
    at: datetime
    moment: Moment
    wanted: Sequence[float] | None
    streamed: Found
    served: Found
    history: Sequence[Observed]
    known: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not the same at one point: a feature's three values, or in words what else is not as it should be."""

    table: str
    customer: str
    at: datetime
    feature: str
    batch: float | str
    stream: float | str
    serving: float | str


@dataclass(slots=True)
class Column:
    """The judgements about one feature. ``filled`` are those in which it was neither 0 nor unknown.

    ``worst`` is the largest relative error, of ``worst_of`` (customer) at ``worst_at``; ``rounding`` were judged by the size of
    what went in.
    """

    numbers: int = 0
    equal: int = 0
    filled: int = 0
    rounding: int = 0
    worst: float = 0.0
    worst_of: str = ""
    worst_at: datetime | None = None

    def add(self, other: "Column") -> None:
        """Count what another replay found as well."""
        for name in ("numbers", "equal", "filled", "rounding"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        if other.worst > self.worst:
            self.worst, self.worst_of, self.worst_at = other.worst, other.worst_of, other.worst_at


@dataclass(slots=True)
class Tally:
    """What came of the points of one table; ``listed`` are the first of the ``differences``."""

    columns: list[Column]
    points: dict[str, int] = field(default_factory=lambda: dict.fromkeys(Moment, 0))
    without: int = 0
    streamed: int = 0
    served: int = 0
    differences: int = 0
    listed: list[Difference] = field(default_factory=list)

    def differ(self, each: Difference) -> None:
        self.differences += 1
        if len(self.listed) < LISTED:
            self.listed.append(each)

    def add(self, other: "Tally") -> None:
        """Count what another replay found as well."""
        for mine, theirs in zip(self.columns, other.columns, strict=True):
            mine.add(theirs)
        for moment, points in other.points.items():
            self.points[moment] += points
        for name in ("without", "streamed", "served", "differences"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.listed = [*self.listed, *other.listed][:LISTED]

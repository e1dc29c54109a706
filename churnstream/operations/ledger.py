"""The conservation of events: what a function was given is what it applied, plus what it refused and why."""

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from datetime import datetime, timedelta

OUTCOMES = ("applied", "duplicate", "late", "invalid", "erased")
REMOVED = "removed"
"""Rows of the source that were removed by its retention before the function was there to be given them."""


@dataclass(frozen=True, slots=True)
class Line:
    """One function's account of one source in one shard (``shard`` None: all of them). Counts are rows.

    ``given`` comes from the source's own log (over HTTP, from the door), the outcomes from the function: two ways to count the
    same thing. ``waiting`` is what stands in the source beyond what was given. ``began`` to ``ended`` spans the work, of which
    ``busy`` was spent on it.
    """

    function: str
    source: str
    shard: int | None
    given: int = 0
    applied: int = 0
    duplicate: int = 0
    late: int = 0
    invalid: int = 0
    erased: int = 0
    waiting: int = 0
    began: datetime | None = None
    ended: datetime | None = None
    busy: timedelta = timedelta(0)

    @property
    def unaccounted(self) -> int:
        """``given`` less every outcome; anything but 0 is a fault."""
        return self.given - sum(getattr(self, name) for name in OUTCOMES)

    @property
    def rows_per_s(self) -> float:
        """Rows given for each second of work; 0 before any."""
        return self.given / (self.busy / timedelta(seconds=1)) if self.busy else 0.0

    def sentence(self) -> str:
        """``in = applied + duplicate + late + invalid + erased``, in numbers."""
        parts = " + ".join(f"{getattr(self, name):,} {name}" for name in OUTCOMES)
        verdict = "exact" if self.unaccounted == 0 else f"{self.unaccounted:,} UNACCOUNTED FOR"
        return f"{self.function} from {self.source}: {self.given:,} in = {parts} ({verdict})"


COUNTS = tuple(each.name for each in fields(Line) if each.type is int or each.type == "int")


def total(lines: Iterable[Line]) -> list[Line]:
    """One line a (function, source), over all shards, in the order in which they first come."""
    sums: dict[tuple[str, str], Line] = {}
    for line in lines:
        key = (line.function, line.source)
        known = sums.get(key, Line(line.function, line.source, None))
        counts = {name: getattr(known, name) + getattr(line, name) for name in COUNTS}
        began = min((each for each in (known.began, line.began) if each is not None), default=None)
        ended = max((each for each in (known.ended, line.ended) if each is not None), default=None)
        sums[key] = replace(known, **counts, began=began, ended=ended, busy=known.busy + line.busy)
    return list(sums.values())

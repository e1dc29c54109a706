"""What a function says of itself in numbers, beside what its platform counts: sources that whoever measures the process asks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Name:
    """What a number is called: as Prometheus calls it, without ``_total``, what it ``says``, and its labels with their values.

    One that ``counts`` only grows; another one is as it is at the moment.
    """

    name: str
    says: str
    labels: tuple[tuple[str, str], ...] = ()
    counts: bool = True


Source = Callable[[], Iterable[tuple[Name, float]]]
_sources: list[Source] = []
_left: dict[Name, float] = {}  # what sources that have ended had counted


def tell(source: Source) -> None:
    """Ask ``source`` from now on, now and then."""
    _sources.append(source)


def end(source: Source) -> None:
    """Ask it no more; what it counted stays."""
    if source in _sources:
        _sources.remove(source)
        for name, value in source():
            if name.counts:
                _left[name] = _left.get(name, 0.0) + value


def told() -> dict[Name, float]:
    """What every source says now; of those that say the same name, the sum."""
    found = dict(_left)
    for source in _sources:
        for name, value in source():
            found[name] = found.get(name, 0.0) + value
    return found

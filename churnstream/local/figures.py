"""What the workers of a function say of themselves, written down and read for all of them together."""

from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from churnstream.operations.figures import Name


class Figures:
    """Of one worker, or several. Counters go on where they were before a restart; gauges are each worker's own, and do not."""

    def __init__(self) -> None:
        self.values: dict[Name, float] = {}
        self._last: Mapping[Name, float] = {}

    def look(self, told: Mapping[Name, float], worker: int) -> None:
        """Take in what this process says now."""
        self.values = {name: value for name, value in self.values.items() if name.counts}
        for name, value in told.items():
            if name.counts:
                before = self._last.get(name, 0.0)
                self.values[name] = self.values.get(name, 0.0) + (value - before if value >= before else value)
            else:
                named = Name(name.name, name.says, (*name.labels, ("worker", str(worker))), counts=False)
                self.values[named] = value
        self._last = dict(told)

    def written(self) -> list[Any]:
        """What JSON is made of, which ``add`` reads."""
        return [[each.name, each.says, each.labels, each.counts, value] for each, value in self.values.items()]

    def add(self, written: Iterable[Any]) -> None:
        """What another has written; raises ValueError or TypeError for what is damaged."""
        for name, says, labels, counts, value in written:
            named = Name(name, says, tuple((label, text) for label, text in labels), counts)
            self.values[named] = self.values.get(named, 0.0) + value


def families(functions: Iterable[tuple[list[str], Figures]], whose: tuple[str, ...]) -> list[Metric]:
    """One for each name; ``whose`` are the labels of a function, of which each of ``functions`` brings the values."""
    found: dict[str, Any] = {}
    for values, figures in functions:
        for each, value in figures.values.items():
            labels = dict(each.labels)
            family = CounterMetricFamily if each.counts else GaugeMetricFamily
            known = found.setdefault(each.name, family(each.name, each.says, labels=(*whose, *labels)))
            known.add_metric([*values, *labels.values()], value)
    return list(found.values())

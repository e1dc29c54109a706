"""How far every function is, as families for Prometheus: from the ledger, the journals and the streams, only read."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from churnstream import topology
from churnstream.local.home import Home
from churnstream.local.metrics import Meter, counted, metrics_folder, page
from churnstream.local.specification import Specification
from churnstream.operations.ledger import OUTCOMES, Line, total
from churnstream.settings import Settings, read_settings
from churnstream.wiring import open_journal, open_stream

WHOSE = ("project", "case", "function")
FRESH_S = 3.0  # for so long a page stands: to count takes longer than to ask


class Page:
    """The metrics of one deployed function, all its workers together, as one of them answers."""

    def __init__(self, specification: Specification, home: Home, meter: Meter):
        self._meter = meter
        self._folder = metrics_folder(home, specification.project, specification.name)
        self._standings = Standings(home)
        self._specification = specification

    async def text(self) -> bytes:
        """The page: this worker's counts of this moment, others' of the last second, and the journals' of the last few."""
        self._meter.save()
        return await asyncio.to_thread(self._text)

    def _text(self) -> bytes:
        return page([*counted([self._folder]), *self._standings.of([self._specification])])


class Standings:
    """What the journals of deployed functions say, remembered for a few seconds."""

    def __init__(self, home: Home, clock: Callable[[], float] = time.monotonic):
        self._home, self._clock = home, clock
        self._known: tuple[float, tuple[str, ...], list[Metric]] | None = None
        self._one_at_a_time = threading.Lock()

    def of(self, specifications: Iterable[Specification]) -> list[Metric]:
        """Those of functions of the topology; others have none. Raises StorageFailed when a journal cannot be read."""
        chosen = list(specifications)
        names = tuple(f"{each.project}/{each.name}/{each.deployed_at}" for each in chosen)
        with self._one_at_a_time:
            if self._known is None or self._known[1] != names or self._clock() - self._known[0] > FRESH_S:
                found = (Deployed.of(each, self._home.root) for each in chosen)
                self._known = self._clock(), names, standings(each for each in found if each is not None)
            return self._known[2]


@dataclass(frozen=True, slots=True)
class Deployed:
    """A function of the topology and the settings that it was deployed with."""

    name: str
    settings: Settings

    @classmethod
    def of(cls, specification: Specification, home: Path) -> "Deployed | None":
        """None for a function that the topology does not know, or that reads nothing: there is no ledger for it."""
        name = specification.function["metadata"]["name"]
        if not any(each.name == name and each.reads for each in topology.FUNCTIONS):
            return None
        told = {**specification.environment, "CHURNSTREAM_HOME": str(home), "CHURNSTREAM_PROJECT": specification.project}
        return cls(name, read_settings(told))

    @property
    def labels(self) -> list[str]:
        return [self.settings.project, self.settings.case, self.name]


def standings(functions: Iterable[Deployed], now: datetime | None = None) -> list[Metric]:
    """Rows by outcome, the unaccounted, positions, lag and sizes of journals."""
    now = now or datetime.now(UTC)
    functions = list(functions)
    rows = _rows(functions)
    return [*rows, *_lags(functions, now), _sizes(functions)]


def _rows(functions: Iterable[Deployed]) -> list[Metric]:
    from churnstream.reading import ledger  # imports pandas, which takes a while and who only supervises can do without

    outcomes = CounterMetricFamily(
        "churnstream_rows", "Rows by what became of them, out of `in`", labels=(*WHOSE, "source", "shard", "outcome")
    )
    missing = GaugeMetricFamily("churnstream_events_unaccounted", "in - every outcome; not 0: a fault", labels=(*WHOSE, "source"))
    waiting = GaugeMetricFamily("churnstream_lag_rows", "Rows to be read", labels=(*WHOSE, "source", "shard"))
    for each in functions:
        lines = ledger(each.settings, each.name)
        for line in lines:
            place = [*each.labels, line.source, str(line.shard)]
            for outcome, count in _outcomes(line).items():
                outcomes.add_metric([*place, outcome], count)
            waiting.add_metric(place, line.waiting)
        for line in total(lines):
            missing.add_metric([*each.labels, line.source], line.unaccounted)
    return [outcomes, missing, waiting]


def _outcomes(line: Line) -> Mapping[str, int]:
    return {"in": line.given, **{name: getattr(line, name) for name in OUTCOMES}}


def _lags(functions: Iterable[Deployed], now: datetime) -> list[Metric]:
    labels = (*WHOSE, "stream", "shard")
    position = GaugeMetricFamily("churnstream_position_records", "The offset of the next record to apply", labels=labels)
    records = GaugeMetricFamily("churnstream_lag_records", "Records to be read", labels=labels)
    seconds = GaugeMetricFamily(
        "churnstream_lag_seconds", "How long the next record has been waiting; 0: none waits", labels=labels
    )
    for each in functions:
        for stream in topology.function(each.name).reads:
            reader = open_stream(stream, each.settings)
            try:
                for shard in range(reader.shards):
                    place = [*each.labels, stream, str(shard)]
                    at, end = _position(each, stream, shard), reader.end(shard)
                    position.add_metric(place, at)
                    records.add_metric(place, max(0, end - at))
                    next_one = reader.read(shard, at, max_records=1) if at < end else ()
                    waits = [(now - record.appended_at) / timedelta(seconds=1) for record in next_one]
                    seconds.add_metric(place, max([0.0, *waits]))
            finally:
                reader.close()
    return [position, records, seconds]


def _position(each: Deployed, stream: str, shard: int) -> int:
    journal = open_journal(each.name, shard, each.settings)
    try:
        return journal.position(stream, shard)
    finally:
        journal.close()


def _sizes(functions: Iterable[Deployed]) -> Metric:
    sizes = GaugeMetricFamily("churnstream_journal_size_bytes", "On disk, with what waits to be merged", labels=(*WHOSE, "shard"))
    for each in functions:
        for shard in range(topology.SHARDS):
            journal = open_journal(each.name, shard, each.settings)
            path = Path(journal.path)
            journal.close()
            found = [path, path.with_name(f"{path.name}-wal")]
            sizes.add_metric([*each.labels, str(shard)], sum(file.stat().st_size for file in found if file.exists()))
    return sizes


def states(functions: Iterable[Mapping[str, Any]], home: Home) -> list[Metric]:
    """What the supervisor of ``home`` knows: its version, and of each function whether it is ready, its workers and restarts.

    ``functions`` as ``Deployment.status`` gives them.
    """
    build = GaugeMetricFamily("churnstream_build_info", "1, about what runs here", labels=("version", "python", "home"))
    build.add_metric([version("churnstream"), python_version(), str(home.root)], 1)
    ready = GaugeMetricFamily("churnstream_function_ready", "1: it answers, 0: it does not", labels=("project", "function"))
    workers = GaugeMetricFamily("churnstream_workers", "Processes by state", labels=("project", "function", "state"))
    restarts = CounterMetricFamily(
        "churnstream_worker_restarts", "Of a worker that ended", labels=("project", "function", "worker")
    )
    for each in functions:
        whose = [each["project"], each["name"]]
        ready.add_metric(whose, each["state"] == "ready")
        found = [worker["state"] for worker in each["workers"]]
        for state in sorted({*found, "ready"}):
            workers.add_metric([*whose, state], found.count(state))
        for worker in each["workers"]:
            restarts.add_metric([*whose, str(worker["number"])], worker["restarts"])
    return [build, ready, workers, restarts]

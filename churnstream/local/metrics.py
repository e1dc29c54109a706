"""What a worker counts for Prometheus, beside what stands in journals: requests, and the time that handlers take.

A worker counts in memory, which costs a request next to nothing, and writes that down a second later, in a file of its own: any
worker, and the supervisor, reads the files of all and answers for them together. What the function says of itself
(``operations.figures``) is written down with it. A worker that is started again goes on from its
file, so that no counter falls; one that is killed loses the counts of its last second. Labels name routes, streams and statuses;
nothing in them comes from a request.
"""

import asyncio
import json
import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from churnstream.local.figures import Figures, families
from churnstream.local.home import Home
from churnstream.operations.figures import told

SAVE_S = 1.0
BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds
WHOSE = ("project", "function")
Key = tuple[str | int, ...]


class Times:
    """How often something took how long: ``counts`` within each bound, and beyond the last; ``total`` seconds."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS) + 1)
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Once more."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.total += seconds

    def add(self, counts: Iterable[int], total: float) -> None:
        """What another has seen."""
        self.counts = [mine + theirs for mine, theirs in zip(self.counts, counts, strict=True)]
        self.total += total


class Counts:
    """What one worker, or several, have counted: requests by (route, status), the handler's work by what called it, and failures
    of records by (stream, shard); and what the function says of itself."""

    def __init__(self) -> None:
        self.requests: dict[Key, Times] = defaultdict(Times)
        self.handling: dict[Key, Times] = defaultdict(Times)
        self.failures: dict[Key, int] = defaultdict(int)
        self.figures = Figures()

    def written(self) -> str:
        """As JSON, which ``add`` reads."""
        timed = [[[*key, each.counts, each.total] for key, each in some.items()] for some in (self.requests, self.handling)]
        failures = [[*key, count] for key, count in self.failures.items()]
        return json.dumps([BOUNDS, *timed, failures, self.figures.written()])

    def add(self, written: str) -> None:
        """What another has written; raises ValueError or TypeError for what is damaged, or has other bounds."""
        bounds, requests, handling, failures, *figures = json.loads(written)
        if tuple(bounds) != BOUNDS:
            raise ValueError("these were counted within other bounds")
        for mine, theirs in ((self.requests, requests), (self.handling, handling)):
            for *key, counts, total in theirs:
                mine[tuple(key)].add(counts, total)
        for *key, count in failures:
            self.failures[tuple(key)] += count
        for each in figures:  # none in what an older version has written
            self.figures.add(each)


class Meter:
    """What one worker counts; made, and told, inside its event loop."""

    def __init__(self, home: Home, project: str, function: str, number: int, log: logging.Logger):
        self._path = metrics_folder(home, project, function) / f"worker-{number}.json"
        self._number, self._log = number, log
        self._counts = read([self._path])
        self._saving: asyncio.TimerHandle | None = None
        self._warned = False

    def request(self, route: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self._counts.requests[route, status].observe(seconds)
        if self._saving is None:
            self._save_soon()

    def handled(self, event: Any, seconds: float, failed: bool) -> None:
        """The handler is through with an event; a stream's record that it failed with is tried again."""
        kind = event.trigger.kind
        called_by = kind if kind in ("http", "cron") else "stream"
        self._counts.handling[called_by,].observe(seconds)
        if failed and called_by == "stream":
            self._counts.failures[event.topic, str(event.shard_id)] += 1
        if self._saving is None:
            self._save_soon()

    def save(self) -> None:
        """Write down what was counted; a disk that is full costs the metrics, and nothing else."""
        if self._saving is not None:
            self._saving.cancel()
            self._saving = None
        self._counts.figures.look(told(), self._number)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = self._path.with_suffix(".draft")
            draft.write_text(self._counts.written())
            draft.replace(self._path)
        except OSError as cause:
            if not self._warned:
                self._log.warning("what this worker counts cannot be written, and only it knows it: %s", cause.strerror)
            self._warned = True

    def _save_soon(self) -> None:
        self._saving = asyncio.get_running_loop().call_later(SAVE_S, self.save)


def metrics_folder(home: Home, project: str, function: str) -> Path:
    """Where the workers of a function count; raises InvalidSetting for a name that is no file name."""
    return home.root / "metrics" / project / home.spec(project, function).stem


def read(files: Iterable[Path]) -> Counts:
    """What stands in ``files``, together; what cannot be read, after a power cut, counts nothing."""
    counts = Counts()
    for path in files:
        try:
            alone = Counts()
            alone.add(path.read_text())
        except (OSError, ValueError, TypeError):
            continue
        counts.add(alone.written())
    return counts


def counted(functions: Iterable[Path]) -> list[Metric]:
    """What the workers of functions have counted, whose folders these are."""
    requests = CounterMetricFamily("churnstream_http_requests", "Requests answered", labels=(*WHOSE, "route", "status"))
    took = _histogram("churnstream_http_request_duration_seconds", "From a request's headers to its answer", "route")
    handling = _histogram("churnstream_handler_duration_seconds", "In the function's handler", "trigger")
    failures = CounterMetricFamily(
        "churnstream_record_failures", "Attempts at a stream's record that failed", labels=(*WHOSE, "stream", "shard")
    )
    said = []
    for folder in functions:
        whose = [folder.parent.name, folder.name]
        counts = read(sorted(folder.glob("worker-*.json")))
        said.append((whose, counts.figures))
        routes: dict[Key, Times] = defaultdict(Times)
        for (route, status), times in counts.requests.items():
            requests.add_metric([*whose, str(route), str(status)], sum(times.counts))
            routes[route,].add(times.counts, times.total)
        for histogram, timed in ((took, routes), (handling, counts.handling)):
            for labels, times in timed.items():
                histogram.add_metric([*whose, *map(str, labels)], _buckets(times), times.total)
        for labels, count in counts.failures.items():
            failures.add_metric([*whose, *map(str, labels)], count)
    return [requests, took, handling, failures, *families(said, WHOSE)]


def _buckets(times: Times) -> list[tuple[str, float]]:
    return list(zip([*map(str, BOUNDS), "+Inf"], accumulate(times.counts), strict=True))


def page(families: Iterable[Metric]) -> bytes:
    """As Prometheus reads it."""
    return generate_latest(_Families(list(families)))


class _Families:
    def __init__(self, families: list[Metric]):
        self._families = families

    def collect(self) -> list[Metric]:
        return self._families


def _histogram(name: str, says: str, label: str) -> HistogramMetricFamily:
    return HistogramMetricFamily(name, says, labels=(*WHOSE, label))

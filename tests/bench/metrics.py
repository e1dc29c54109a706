"""What it costs the features function that its work is counted: `python -m tests.bench.metrics`, or `make bench-metrics`.

The function works in this process as in its worker, on an enriched stream of the first day. Of its calls, every other one is
counted as always and the others are not, in a random order, so that whatever else the machine does falls on both; beside, the
counting itself is timed, and so is writing the counts down, once a second. One JSON line: ``cost_pct`` is what these two take, in
percent of the work's time without; ``difference_pct`` is by how much the medians of both kinds of calls differ, which is all of
the truth on a quiet machine and mostly noise on any other.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from churnstream.local.contract import Answer
from churnstream.local.function import RunningFunction
from churnstream.local.metrics import Meter
from churnstream.local.specification import Specification
from churnstream.local.worker import WiredStreams, enter
from tests.bench.common import fresh, say
from tests.bench.river import PROJECT, deployed, keep_to, let_in
from tests.bench.workers import LIMIT_S, LOOK_S, MEASURED, UPSTREAM

WARMING = 16  # calls that are not measured


class TimedMeter(Meter):
    """Says how many seconds counting and writing down took."""

    counting_s = saving_s = 0.0

    def handled(self, event: Any, seconds: float, failed: bool) -> None:
        began = time.perf_counter()
        super().handled(event, seconds, failed)
        self.counting_s += time.perf_counter() - began

    def save(self) -> None:
        began = time.perf_counter()
        super().save()
        self.saving_s += time.perf_counter() - began


class Sometimes(RunningFunction):
    """Counts some of its calls; ``took`` are the seconds of those that it did not count, and of those that it did."""

    def __init__(self, *given: Any, meter: Meter):
        super().__init__(*given, meter=meter)
        self.meter, self.took, self.calls = meter, ([], []), 0  # type: ignore[var-annotated]
        self._draw = random.Random(5)
        self._others: list[bool] = []

    async def call(self, event: Any) -> Answer:
        if not self._others:
            self._others = self._draw.sample([False, True], 2)
        counted = self._others.pop()
        self._meter = self.meter if counted else None
        began = time.perf_counter()
        answer = await super().call(event)
        seconds = time.perf_counter() - began
        self.calls += 1
        if self.calls > WARMING:
            self.took[counted].append(seconds)
        return answer


def cost(without: Sequence[float], counted: Sequence[float], counting: float, saving: float) -> dict[str, Any]:
    """The figures of calls, in seconds each; ``counting`` are the seconds that it takes a call, ``saving`` those a second."""
    usual = median(without)
    return {
        "records": len(without) + len(counted),
        "without_us": round(1e6 * usual, 1),
        "counted_us": round(1e6 * median(counted), 1),
        "difference_pct": round(100 * (median(counted) / usual - 1), 2),
        "counting_us": round(1e6 * counting, 1),
        "cost_pct": round(100 * (counting / usual + saving), 3),
    }


async def _work(specification: Specification, meter: TimedMeter) -> dict[str, Any]:
    function = Sometimes(specification.function, WiredStreams(), logging.getLogger("bench"), 0, meter=meter)
    began = time.perf_counter()
    await function.start()
    async with asyncio.timeout(LIMIT_S):
        while function.report()["streams"][0]["lag"]:
            await asyncio.sleep(LOOK_S)
    seconds = time.perf_counter() - began
    await function.stop()
    return cost(*function.took, 2 * meter.counting_s / function.calls, meter.saving_s / seconds)


def measure(folder: Path) -> dict[str, Any]:
    """The figures over the stream that ``workers.enrich`` has left in ``folder``."""
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as name:
        journals = Path(shutil.copytree(folder / UPSTREAM[-1], Path(name) / UPSTREAM[-1]))
        with deployed(Path(name), (MEASURED,)) as river:  # as a worker is told what to do
            specification = Specification.load(river.home.spec(PROJECT, MEASURED))
        let_in(journals, river)
        enter(specification, river.home)
        return asyncio.run(_work(specification, TimedMeter(river.home, PROJECT, MEASURED, 0, logging.getLogger("bench"))))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure what metrics cost the features function.")
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=2_000_000, help="beside one registration a customer")
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.measure:
        say(**measure(given.measure))
        return 0
    cores = keep_to(1)
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as folder:
        sizes = ("--customers", given.customers, "--events", given.events)
        sent = fresh("tests.bench.workers", "--enrich", folder, *sizes, limit_s=LIMIT_S)
        told = fresh(__spec__.name, "--measure", folder, limit_s=LIMIT_S)
    say(bench="metrics", what=MEASURED, events=sent["events"], **told, cores=cores)
    return 0


if __name__ == "__main__":
    sys.exit(main())

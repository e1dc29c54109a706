"""What a second worker brings to the features function: `python -m tests.bench.workers`, or `make bench-workers`.

The first day's events flow once through the functions before it. Then, over and over in a home of its own, the features function
makes what it makes of the same enriched stream, with one worker and with two in turn, on as many cores. The clock runs from when
the first record of every shard is through, so that all workers are there and warm, until the last is, durably. One JSON line a
run; the last one has the speed-up of the medians, and whether all feature tables were equal, row by row and byte by byte. The
exit code is 1 when they were not.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import churnstream
from churnstream.settings import Settings
from churnstream.topology import ENRICHED, FEATURES, SHARDS
from churnstream.wiring import open_positions, open_stream, open_table
from tests.bench.common import fresh, median, say, tell
from tests.bench.river import deployed, fill, keep_to, let_in

UPSTREAM = ("incoming-event-handler", "enrich-stream")
MEASURED = "stream-to-features"
LOOK_S = 0.002
LIMIT_S = 1_800.0


def enrich(folder: Path, customers: int, events: int) -> dict[str, Any]:
    """Let the events flow through the functions before the measured one; leaves the last one's journals in ``folder``."""
    journals, sent = fill(folder / "filled", customers, events)
    with deployed(folder, UPSTREAM) as river:
        let_in(journals, river)
        for name in UPSTREAM:
            churnstream.settle(name)
    (where(river.settings) / UPSTREAM[-1]).rename(folder / UPSTREAM[-1])
    return {"events": sent}


def where(settings: Settings) -> Path:
    """The folder in which every function has its journals."""
    return Path(settings.streams.removeprefix("embedded://"))


def measure(folder: Path, workers: int) -> dict[str, Any]:
    """The figures of so many workers over the stream that ``enrich`` has left in ``folder``."""
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as name:
        journals = Path(shutil.copytree(folder / UPSTREAM[-1], Path(name) / UPSTREAM[-1]))
        with deployed(Path(name), (MEASURED,), workers) as river:
            let_in(journals, river)
            stream, positions = open_stream(ENRICHED, river.settings), open_positions(MEASURED, river.settings)
            at = lambda: [positions.get(ENRICHED, shard) for shard in range(SHARDS)]  # noqa: E731
            rows = lambda offsets: sum(stream.rows(shard, offset) for shard, offset in enumerate(offsets))  # noqa: E731
            ends = [stream.end(shard) for shard in range(SHARDS)]
            begins = until(at, [min(1, end) for end in ends])
            began = time.perf_counter()
            until(at, ends)
            seconds = time.perf_counter() - began
            applied = rows(ends) - rows(begins)
            stream.close()
            positions.close()
            churnstream.settle(MEASURED)
            table = open_table(FEATURES, river.settings)
            told = {"digest": digest(table.items()), "customers": len(table)}
            table.close()
    return {
        "who": "churnstream",
        "what": MEASURED,
        "events": applied,
        "workers": workers,
        "events_per_s": round(applied / max(seconds, LOOK_S)),
        **told,
    }


def until(at: Callable[[], list[int]], offsets: Sequence[int]) -> list[int]:
    """Where every shard is once none is before ``offsets``; raises TimeoutError after LIMIT_S."""
    deadline = time.perf_counter() + LIMIT_S
    while True:
        found = at()
        if all(reached >= offset for reached, offset in zip(found, offsets, strict=True)):
            return found
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{MEASURED} was not through after {LIMIT_S:g} s")
        time.sleep(LOOK_S)


def digest(rows: Iterable[tuple[str, bytes]]) -> str:
    """Of a whole table, in whatever order its rows come."""
    found = hashlib.sha256()
    for key, value in sorted(rows):
        found.update(b"%d %b %d %b" % (len(key.encode()), key.encode(), len(value), value))
    return found.hexdigest()


def compare(runs: dict[int, list[dict[str, Any]]]) -> dict[str, Any]:
    """The speed-up of the medians over the first number of workers, and whether all runs made the same table."""
    one, *others = (median(each) for each in runs.values())
    return {
        "bench": "workers",
        "events": one["events"],
        "events_per_s": {each["workers"]: each["events_per_s"] for each in (one, *others)},
        "range": {each["workers"]: each["range"] for each in (one, *others)},
        "speed_up": {each["workers"]: round(each["events_per_s"] / one["events_per_s"], 2) for each in others},
        "equal": len({each["digest"] for some in runs.values() for each in some}) == 1,
    }


def run(workers: Sequence[int], customers: int, events: int, rounds: int, cores: int) -> int:
    """All runs, printed; returns the exit code."""
    found: dict[int, list[dict[str, Any]]] = {each: [] for each in workers}
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as folder:
        sent = fresh(__spec__.name, "--enrich", folder, "--customers", customers, "--events", events, limit_s=LIMIT_S)
        tell(f"{sent['events']:,} events are enriched")
        for _ in range(rounds):
            for each in workers:
                figures = fresh(__spec__.name, "--measure", folder, "--workers", each, limit_s=LIMIT_S)
                say(**figures)
                found[each].append(figures)
    told = compare(found)
    say(**told, cores=cores)
    return 0 if told["equal"] else 1


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the features function with one worker and with two.")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=2_000_000, help="beside one registration a customer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--enrich", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.enrich:
        say(**enrich(given.enrich, given.customers, given.events))
        return 0
    if given.measure:
        say(**measure(given.measure, given.workers[0]))
        return 0
    return run(given.workers, given.customers, given.events, given.rounds, keep_to(given.cores))


if __name__ == "__main__":
    sys.exit(main())

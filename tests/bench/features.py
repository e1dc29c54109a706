"""How fast features are computed, beside others who can: `python -m tests.bench.features`, or `make bench-features`.

Everything reads the same file, one after another, each in a process of its own on one core, and all of it `--runs` times; a
figure is the median. Rows of every run are compared with the slow exact answer: a wrong one has no figures. One JSON line a
result; the last line compares. `--quick` is the same over few events in this process, for the tests, and says nothing of speed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.bench.common import FOLDER, Figures, RunFailed, fresh, machine, median, say, tell
from tests.bench.features_churnstream import WHATS
from tests.bench.features_data import Files
from tests.bench.features_peers import ENVIRONMENTS, ONE_THREAD, PEERS, Peer
from tests.bench.peers.run import measure

OURS = "churnstream"
RESULTS = FOLDER / "features.jsonl"
CUSTOMERS = 2_000
MANY = (200_000, 1_000_000)
NONE = "none"


@dataclass(eq=False)
class Job:
    """One figure to be: who computes what, of how many customers, and what has come out so far."""

    who: str
    what: str
    customers: int
    run: Callable[[], Figures]
    by: str = "events_per_s"
    results: list[Figures] = field(default_factory=list)
    skipped: str | None = None

    def try_once(self) -> None:
        """Run it, unless it failed before; raises RunFailed for Churnstream, whose figures may not be missing."""
        if self.skipped is not None:
            return
        tell(f"{self.who}: {self.what} ({self.customers:,} customers)")
        try:
            self.results.append(self.run())
        except RunFailed as failure:
            if self.who == OURS:
                raise
            self.skipped = str(failure)
            tell(f"{self.who} is skipped: {failure}")

    def line(self) -> Figures:
        """The result as it is printed; a peer that is missing says why."""
        told: Figures = {"who": self.who, "what": self.what, "events": None, "customers": self.customers}
        if self.skipped is not None:
            return {**told, "events_per_s": None, "cores": None, "peak_rss_mb": None, "skipped": self.skipped}
        return {**told, **median(self.results, self.by)}


# -- what is run ----------------------------------------------------------------------------------------------------------------


def ours(what: str, events: int, customers: int, here: Path | None = None) -> Job:
    """A run of Churnstream's, in a fresh process, or in this one over files in the folder ``here``; its file is made first."""
    chosen = WHATS[what]
    files = chosen.files(events, customers, here or FOLDER)
    run = partial(chosen.run, files) if here else partial(fresh, "tests.bench.features_churnstream", what, events, customers)
    return Job(OURS, chosen.title, customers, run, "seconds" if what == "start" else "events_per_s")


def theirs(peer: Peer, files: Files, here: bool = False) -> Job:
    """A peer's run over as much of the file as it is given."""
    events = min(peer.events, files.events)
    run = partial(measure if here else fresh_peer, peer, files.ndjson, files.expected, events)
    return Job(peer.name, peer.what, files.customers, run)


def fresh_peer(peer: Peer, ndjson: Path, expected: Path, events: int) -> Figures:
    """A peer's run in its own environment; raises RunFailed with the reason when that is not there."""
    python = sys.executable if peer.ours else ENVIRONMENTS / peer.name / "bin" / "python"
    if not Path(python).exists():
        why = ENVIRONMENTS / f"{peer.name}.why"
        said = why.read_text().strip() if why.exists() else "scripts/set-up-peers, which make bench-features runs, installs it"
        raise RunFailed(f"it is not installed: {said}")
    return fresh("tests.bench.peers.run", peer.name, ndjson, expected, events, python=python, environment=ONE_THREAD)


def full(events: int, peers: Sequence[Peer]) -> list[Job]:
    """Everything, over ``events`` events."""
    tell("making the files, unless they are there")
    files = WHATS["json"].files(events, CUSTOMERS)
    return [
        *(ours(what, events, CUSTOMERS) for what in WHATS),
        *(theirs(peer, files) for peer in peers),
        *(ours("arrow", events, customers) for customers in MANY),
    ]


def quick(folder: Path, events: int = 10_000, customers: int = 200) -> list[Job]:
    """Everything that is installed with the project, small, in this process."""
    files = WHATS["json"].files(events, customers, folder)
    small = Files(events // 10, customers, files.ndjson, files.arrow, files.expected)
    return [
        *(ours(what, events, customers, folder) for what in WHATS if what != "start"),
        *(theirs(peer, small, here=True) for peer in PEERS if peer.ours),
    ]


# -- what is printed ------------------------------------------------------------------------------------------------------------


def rate(jobs: Iterable[Job], what: str) -> int:
    """Churnstream's events a second; of several such jobs the first, which reads the peers' file."""
    return next(int(job.line()["events_per_s"]) for job in jobs if (job.who, job.what) == (OURS, WHATS[what].title))


def ratios(ours_per_s: int, jobs: Iterable[Job]) -> Figures:
    """How many times as many events a second as each peer that ran."""
    ran = [job for job in jobs if job.who != OURS and job.skipped is None]
    return {job.who: round(ours_per_s / job.line()["events_per_s"], 1) for job in ran}


def report(jobs: Sequence[Job], command: str) -> list[Figures]:
    """Every line: the machine, the results, and the comparisons, from JSON as the peers do, and from Arrow batches."""
    from_arrow, from_json = rate(jobs, "arrow"), rate(jobs, "json")
    return [
        {"machine": machine(), "command": command},
        *(job.line() for job in jobs),
        {"bench": "features-from-json", "events_per_s": from_json, "ratios": ratios(from_json, jobs)},
        {
            "bench": "features",
            "events_per_s": from_arrow,
            "events_per_s_json": from_json,
            "ratios": ratios(from_arrow, jobs),
        },
    ]


def table(lines: Iterable[Figures]) -> str:
    """The results in Markdown, as the README shows them."""
    rows = ["| who | what | customers | events | events/s | cores | peak MB |", "|---|---|--:|--:|--:|--:|--:|"]
    for each in lines:
        if "who" not in each:
            continue
        if "skipped" in each:
            rows.append(f"| {each['who']} | {each['what']} | | | skipped: {each['skipped']} | | |")
            continue
        rate = f"{each['seconds']} s" if "seconds" in each else f"{each['events_per_s']:,}"
        cells = [
            each["who"],
            each["what"],
            f"{each['customers']:,}",
            f"{each['events']:,}",
            rate,
            each["cores"],
            each["peak_rss_mb"],
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    names = [peer.name for peer in PEERS]
    parser = argparse.ArgumentParser(description="Measure how fast features are computed, beside others who can.")
    parser.add_argument("--quick", action="store_true", help="few events, one run, nothing that has to be installed")
    parser.add_argument("--table", action="store_true", help=f"show the last results in Markdown, from {RESULTS.name}")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="*", choices=[*names, NONE], default=names, metavar="PEER", help=", ".join([*names, NONE])
    )
    given = parser.parse_args(arguments)
    if given.table:
        sys.stdout.write(table(map(json.loads, RESULTS.read_text().splitlines())) + "\n")
        return 0
    jobs = quick(FOLDER / "quick") if given.quick else full(given.events, [each for each in PEERS if each.name in given.peers])
    try:
        for _ in range(1 if given.quick else given.runs):
            for job in jobs:
                job.try_once()
    except RunFailed as failure:
        tell(f"{OURS} failed: {failure}")
        return 1
    words = sys.argv[1:] if arguments is None else arguments
    lines = report(jobs, " ".join(["python -m tests.bench.features", *words]))
    if not given.quick:
        RESULTS.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for line in lines:
        say(**line)
    return 0


if __name__ == "__main__":
    sys.exit(main())

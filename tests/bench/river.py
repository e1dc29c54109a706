"""How fast the whole river flows: `python -m tests.bench.river`, or `make bench-river`.

Every function is deployed on the local platform before the clock starts, as the notebooks deploy them, and has seen one customer.
Then the first-day events come. By default the generated stream is there at once: what is measured is the river from its first
function on, and nothing that only makes events shares the cores. With ``--over http`` the same records are posted as NDJSON, by a
client that does share them. The clock stops when the last function has drained: every prediction is durable, and so is every
Parquet file. One JSON line a stage, and a last one for the river; the exit code is 1 when an event is unaccounted for.
"""

import argparse
import contextlib
import http.client
import json
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

import churnstream
import project_setup
from churnstream import topology
from churnstream.codecs import NDJSON, encode_json
from churnstream.local import Home, SupervisorClient
from churnstream.operations.ledger import OUTCOMES, Line
from churnstream.reading import totals
from churnstream.settings import Settings, read_settings
from churnstream.stages.produce import Producer
from churnstream.usecases import load
from churnstream.wiring import open_parts, open_stream
from tests.bench.common import MEBI, say

PROJECT = "churnstream"
CASE = "first_day"
STAGES = tuple(each.name for each in topology.FUNCTIONS if each.kind != "job")
DOOR = STAGES[0]
MINUTES = 10
WARMING = 100  # events that are not measured


@dataclass(frozen=True)
class River:
    """The functions of the first day, deployed over ``home``."""

    home: Home
    settings: Settings

    def address(self, function: str) -> str:
        """host:port of the function's HTTP door."""
        return str(SupervisorClient(self.home).find(function)["address"])

    def settle(self) -> None:
        """Return when all that was sent has gone through every stage, durably; raises NotDrained."""
        for name in STAGES:
            churnstream.settle(name, MINUTES)


@contextlib.contextmanager
def deployed(folder: Path, stages: Sequence[str] = STAGES, workers: int = 1, **environment: str) -> Iterator[River]:
    """These functions of the first day, ready, over a home in ``folder``; gone when the block ends."""
    import mlrun  # takes seconds, which --help should not

    os.environ["CHURNSTREAM_CASE"] = CASE
    home = Home(folder / "home")
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for figures
            churnstream.connect(home.root)
            project = mlrun.load_project(str(project_setup.HERE), name=PROJECT, parameters={"case": CASE}, save=False)
            project.save_to_db()
            project.run_function("enrichment-table", params={"case": CASE}, local=True)
            for name in stages:
                function = project.get_function(name)
                function.spec.min_replicas = workers
                for key, value in environment.items():
                    function.set_env(key, value)
                function.deploy()
        yield River(home, read_settings({"CHURNSTREAM_HOME": str(home.root), "CHURNSTREAM_CASE": CASE}))
    finally:
        SupervisorClient(home).down(timedelta(0))


@dataclass(frozen=True, slots=True)
class Use:
    """What a function's processes have taken: CPU seconds, and the most memory that they ever held at once, in bytes."""

    cpu_s: float
    peak_rss: int


def uses(river: River) -> dict[str, Use]:
    """Each stage's use so far, by all of its workers. Pages that they share with the process that bore them count for each."""
    found: dict[str, Use] = {}
    for each in SupervisorClient(river.home).status()["functions"]:
        processes = [psutil.Process(worker["pid"]) for worker in each["workers"]]
        times = [process.cpu_times() for process in processes]
        found[each["name"]] = Use(sum(of.user + of.system for of in times), sum(_peak(process.pid) for process in processes))
    return found


def busy_s() -> float:
    """CPU seconds that the machine's cores have worked so far, for whomever."""
    times = psutil.cpu_times()
    return (
        sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )


def own_s(river: River) -> float:
    """Of these, what this process and all of the platform's have taken."""
    platform = psutil.Process(json.loads(river.home.supervisor_file.read_text())["pid"])
    times = [each.cpu_times() for each in (psutil.Process(), platform, *platform.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def _peak(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except FileNotFoundError:  # no Linux: what it holds now must do
        return int(psutil.Process(pid).memory_info().rss)
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


# -- the events -------------------------------------------------------------------------------------------------------------


def fill(folder: Path, customers: int, events: int, seed: int = 1) -> tuple[Path, int]:
    """The first day's events as the generator puts them into its stream, in ``folder``: where its journals lie, and how many.

    ``events`` come beside one registration a customer.
    """
    settings = Settings(PROJECT, CASE, f"embedded://{folder}", f"embedded://{folder}", folder)
    parts = open_parts("event-generator", settings)
    simulate = load(CASE).simulate
    assert simulate is not None
    producer = Producer(f"bench/seed {seed}", parts.begin, lambda shard, name: parts.journal(shard).sequence(name))
    for event in simulate(seed, customers, events):
        producer.add(event)
    producer.flush()
    parts.close()
    return folder / "event-generator", producer.sent


def meet_one(river: River) -> None:
    """Let one customer flow through every stage, so that no process is new to its work when the clock starts."""
    simulate = load(CASE).simulate
    assert simulate is not None
    post(river, [[encode_json(simulate(0, 1, WARMING - 1))]])
    river.settle()


def let_in(journals: Path, river: River) -> None:
    """Put a filled generated stream where the handler looks for it, in one move."""
    target = Path(river.settings.streams.removeprefix("embedded://")) / journals.name
    target.parent.mkdir(parents=True, exist_ok=True)
    journals.rename(target)


def payloads(folder: Path) -> list[list[bytes]]:
    """The filled stream's records, shard by shard: NDJSON of up to ``stages.produce.RECORD_ROWS`` events each."""
    settings = Settings(PROJECT, CASE, f"embedded://{folder}", f"embedded://{folder}", folder)
    reader = open_stream(topology.GENERATED, settings)
    found = [[each.payload for each in reader.read(shard, 0, 10**6, 10**12)] for shard in range(reader.shards)]
    reader.close()
    return found


def post(river: River, shards: Sequence[Sequence[bytes]]) -> None:
    """Post every body, those of a shard in order, the shards at once; raises RuntimeError for any answer but 202."""
    address, token = river.address(DOOR), river.home.token()
    failures: list[str] = []
    threads = [threading.Thread(target=_post, args=(address, token, bodies, failures)) for bodies in shards]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise RuntimeError(f"{len(failures)} posts failed, the first with {failures[0]}")


def _post(address: str, token: str, bodies: Sequence[bytes], failures: list[str]) -> None:
    connection = http.client.HTTPConnection(address, timeout=60 * MINUTES)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": NDJSON}
    for body in bodies:
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        text = answer.read()
        if answer.status != 202:
            failures.append(f"{answer.status}: {text[:200].decode(errors='replace')}")
    connection.close()


# -- the figures ------------------------------------------------------------------------------------------------------------


def since(after: Sequence[Line], before: Sequence[Line]) -> list[Line]:
    """What was added to each account."""
    known = {(line.function, line.source): line for line in before}
    found = []
    for line in after:
        was = known.get((line.function, line.source), Line(line.function, line.source, None))
        added = {name: getattr(line, name) - getattr(was, name) for name in (*OUTCOMES, "given", "busy")}
        found.append(replace(line, **added))
    return found


def unaccounted(lines: Sequence[Line], sent: int) -> int:
    """Events of ``sent`` that the door does not know of, and rows that any function lost, made up, or has not come to."""
    known = sum(line.given for line in lines if line.function == DOOR)
    return abs(sent - known) + sum(abs(line.unaccounted) + line.waiting for line in lines)


def figures(lines: Sequence[Line], used: Mapping[str, Use], began: float) -> dict[str, dict[str, Any]]:
    """Each stage's figures, over all of its sources.

    ``busy_s`` is the time in which it was at work, waiting for the disk or for a core included; ``done_s`` is when its last
    commit was, from ``began`` on (seconds since the epoch).
    """
    found = {}
    for name in STAGES:
        own = [line for line in lines if line.function == name and line.given]
        rows, busy = sum(line.given for line in own), sum(line.busy.total_seconds() for line in own)
        found[name] = {
            "rows": rows,
            "rows_per_busy_s": round(rows / busy) if busy else 0,
            "busy_s": round(busy, 2),
            "cpu_s": round(used[name].cpu_s, 2),
            "done_s": round(max((line.ended.timestamp() for line in own if line.ended), default=began) - began, 2),
            "peak_rss_mb": round(used[name].peak_rss / MEBI),
        }
    return found


def run(over: str, customers: int, events: int, cores: int) -> int:
    """One run, printed; returns the exit code."""
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as name:
        folder = Path(name)
        journals, sent = fill(folder / "filled", customers, events)
        bodies = payloads(folder / "filled") if over == "http" else []
        with deployed(folder) as river:
            meet_one(river)
            before, known = uses(river), totals(river.settings)
            others = busy_s() - own_s(river)
            began, clock = time.time(), time.perf_counter()
            if over == "http":
                post(river, bodies)
            else:
                let_in(journals, river)
            river.settle()
            seconds = time.perf_counter() - clock
            others = busy_s() - own_s(river) - others
            after, lines = uses(river), totals(river.settings)
    used = {each: Use(after[each].cpu_s - before[each].cpu_s, after[each].peak_rss) for each in STAGES}
    stages = figures(since(lines, known), used, began)
    for each, told in stages.items():
        say(
            who="churnstream",
            what=each,
            events=told["rows"],
            customers=customers,
            events_per_s=told["rows_per_busy_s"],
            cores=round(told["cpu_s"] / told["busy_s"], 2) if told["busy_s"] else 0,
            peak_rss_mb=told["peak_rss_mb"],
        )
    lost = unaccounted(lines, sent + WARMING)
    say(
        bench="river",
        over=over,
        events=sent,
        customers=customers,
        seconds=round(seconds, 2),
        events_per_s=round(sent / seconds),
        cores=cores,
        others_cores=round(others / seconds, 2),
        predictions=stages["serving"]["rows"],
        unaccounted=lost,
        stages=stages,
    )
    return 1 if lost else 0


def keep_to(cores: int) -> int:
    """Let this process and its children run on the first ``cores`` cores only; returns on how many they do run."""
    if not hasattr(os, "sched_setaffinity"):
        return os.cpu_count() or 1
    allowed = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, allowed[:cores])
    return min(cores, len(allowed))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure how fast first-day events flow through every stage.")
    parser.add_argument("--over", choices=("stream", "http"), default="stream", help="where the events come in")
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--events", type=int, default=2_000_000, help="beside one registration a customer")
    parser.add_argument("--cores", type=int, default=2)
    given = parser.parse_args(arguments)
    return run(given.over, given.customers, given.events, keep_to(given.cores))


if __name__ == "__main__":
    sys.exit(main())

"""How many requests a second a function takes, and how long they wait: `python -m tests.bench.worker`, or `make bench-worker`.

A handler that does nothing answers 64 connections, one worker serves them: ours, with its token asked for and its metrics kept,
and Nuclio's processor where CHURNSTREAM_NUCLIO_PROCESSOR (the program) and CHURNSTREAM_NUCLIO_WRAPPER (the folder of its Python
wrapper) say where they are. They take turns in one run; of the rounds of each the one in the middle counts. One JSON line a
round, one for each in the end, and the last says how many times the other's rate ours is.

The load comes from wrk (`apt-get install wrk`), which takes a share of the cores too: what counts is the comparison.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

from churnstream.local import Home, SupervisorClient
from tests.bench import wrk
from tests.bench.common import Figures, machine, median, say, tell
from tests.deployable import deployable

TRIVIAL = 'def handler(context, event):\n    return "hello"\n'
NAME = "trivial"
WARM_S = 1.0
OURS, NUCLIO = "churnstream", "nuclio"
PROCESSOR, WRAPPER = "CHURNSTREAM_NUCLIO_PROCESSOR", "CHURNSTREAM_NUCLIO_WRAPPER"
SCRIPT = """
local token = os.getenv("TOKEN")
if token then wrk.headers["Authorization"] = "Bearer " .. token end
"""

Load = Callable[[float], Figures]


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure requests a second of a handler that does nothing.")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args(words)
    if not wrk.is_there():
        return 1
    say(**machine(), allowed=_cores(), connections=chosen.connections)
    with tempfile.TemporaryDirectory() as short:
        folder = Path(short)
        (folder / f"{NAME}.py").write_text(TRIVIAL)
        script = folder / "load.lua"
        script.write_text(SCRIPT + wrk.DONE)
        command = ["--connections", str(chosen.connections), "--script", str(script)]
        with ours(folder) as (address, token):
            everyone: dict[str, Load] = {
                OURS: lambda seconds: wrk.load([*command, f"http://{address}/"], seconds, {"TOKEN": token})
            }
            with nuclio(folder) as other:
                if other:
                    everyone[NUCLIO] = lambda seconds: wrk.load([*command, f"http://{other}/"], seconds, {})
                return compare(everyone, chosen.rounds, chosen.seconds)


def compare(everyone: Mapping[str, Load], rounds: int, seconds: float) -> int:
    """Everyone in turns, and the last line; returns the exit code, 1 when a request failed."""
    results: dict[str, list[Figures]] = {who: [] for who in everyone}
    for run in everyone.values():
        run(WARM_S)
    for number in range(rounds):
        for who, run in everyone.items():
            results[who].append(run(seconds))
            say(who=who, round=number + 1, **results[who][-1])
    middle = {who: median(each, "requests_per_s") for who, each in results.items()}
    for who, figures in middle.items():
        say(who=who, **figures)
    best = middle[OURS]
    ratios = {who: round(best["requests_per_s"] / figures["requests_per_s"], 2) for who, figures in middle.items() if who != OURS}
    say(bench="worker", requests_per_s=best["requests_per_s"], p99_ms=best["p99_ms"], ratios=ratios)
    failed = sum(each["failed"] for of in results.values() for each in of)
    if failed:
        tell(f"{failed} requests failed: the figures mean nothing")
    return 1 if failed else 0


@contextmanager
def ours(folder: Path) -> Iterator[tuple[str, str]]:
    """The address of our worker and the token it asks for; gone when the block ends."""
    client = SupervisorClient(Home(folder / "home"))
    try:
        yield client.deploy("bench", NAME, deployable(TRIVIAL, NAME, "bench"))["address"], client.home.token()
    finally:
        client.down(timedelta(0))


@contextmanager
def nuclio(folder: Path) -> Iterator[str | None]:
    """The address of Nuclio's processor; None, and a sentence, where it is not."""
    missing = [name for name in (PROCESSOR, WRAPPER) if not os.environ.get(name)]
    if missing:
        tell(f"Nuclio's processor is left out: {' and '.join(missing)} unset")
        yield None
        return
    from tests.conformance.processor import NuclioProcessor

    notes, place = folder / "notes", folder / "processor"
    running = NuclioProcessor(Path(os.environ[PROCESSOR]), Path(os.environ[WRAPPER]), notes, place, NAME, folder=folder)
    try:
        yield running.address
    finally:
        running.stop()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


if __name__ == "__main__":
    began = time.perf_counter()
    code = main()
    tell(f"that took {time.perf_counter() - began:.0f} s")
    sys.exit(code)

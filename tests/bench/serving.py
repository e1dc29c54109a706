"""How fast one asks for a probability, here and of others: `python -m tests.bench.serving`, or `make bench-serving`.

Everybody serves the same trees, in one process on one core, and is asked for one vector a request, or a customer, by wrk on the
other cores, at 1, 8 and 64 connections; 2,000 different bodies, so that nothing learns an answer. Ours is the deployed
function, with its token asked for and its metrics kept; `customer` asks it by user_id, `bare` is a handler of ours that does
nothing. `asgi` is uvicorn with a bare application around the same prediction: the floor of who is asked over ASGI. They take
turns, round by round; of each, the round in the middle counts, and of latencies the one in the middle. One JSON line a peer and
number of connections; the last says how many times the others' rate ours is at the most connections, and what part of the bare
rates.

Peers live in environments of their own (scripts/set-up-serving-peers), and are left out aloud where they cannot be had. The
load comes from wrk (`apt-get install wrk`, `brew install wrk`).
"""

import argparse
import contextlib
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench import wrk
from tests.bench.common import ROOT, Figures, RunFailed, machine, median, pin, say, tell
from tests.bench.serving_home import INFER, Served, served
from tests.bench.serving_others import PEERS, Peer, running

BODIES = 2_000
WARM_S = 1
LATENCIES = ("p50_ms", "p99_ms")
CUSTOMERS = 2_000
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # those that there are
SCRIPT = """
local bodies, place = {}, 0
function init(arguments)
  local headers = {["Content-Type"] = "application/json"}
  if os.getenv("TOKEN") then headers["Authorization"] = "Bearer " .. os.getenv("TOKEN") end
  for line in io.lines(os.getenv("BODIES")) do bodies[#bodies + 1] = wrk.format("POST", nil, headers, line) end
end
function request() place = place % #bodies + 1; return bodies[place] end
"""


class Target:
    """Whom to ask, where, and with which bodies."""

    def __init__(self, name: str, url: str, bodies: Path, token: str = ""):
        self.name, self.url, self.bodies, self.token = name, url, bodies, token


def main(words: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure requests a second of serving, beside peers.")
    parser.add_argument("--connections", type=int, nargs="+", default=[1, 8, 64])
    parser.add_argument("--seconds", type=int, default=5, help="of each round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--peers", nargs="*", choices=[each.name for each in PEERS], help="by default all; none after it: ours only"
    )
    chosen = parser.parse_args(words)
    if not wrk.is_there():
        return 1
    say(**machine(), connections=chosen.connections)
    pin()  # and with it every server that is started from here
    peers = [each for each in PEERS if chosen.peers is None or each.name in chosen.peers]
    with tempfile.TemporaryDirectory() as short, contextlib.ExitStack() as stack:
        folder = Path(short)
        (folder / "load.lua").write_text(SCRIPT + wrk.DONE)
        ours = stack.enter_context(served(folder, CUSTOMERS))
        targets = _ours(folder, ours)
        for peer in peers:
            if (why := peer.missing()) or not (url := _started(stack, peer, folder)):
                tell(f"{peer.name} is left out: {why or 'it did not start'}")
                continue
            targets.append(Target(peer.name, url, _written(folder / f"{peer.name}.bodies", [peer.body(row) for row in rows()])))
        return compare(folder, targets, chosen)


def rows() -> list[list[float]]:
    """2,000 vectors, the same each time."""
    rng = random.Random(3)
    return [[round(rng.lognormvariate(0, 2), 4) for _ in range(13)] for _ in range(BODIES)]


def _ours(folder: Path, ours: Served) -> list[Target]:
    tensors = [{"name": "features", "shape": [1, 13], "datatype": "FP64", "data": row} for row in rows()]
    vectors = _written(folder / "vectors", [{"inputs": [each]} for each in tensors])
    customers = _written(folder / "customers", [{"inputs": [{"user_id": each}]} for each in ours.customers])
    return [
        Target("churnstream", f"http://{ours.address}{INFER}", vectors, ours.token),
        Target("customer", f"http://{ours.address}{INFER}", customers, ours.token),
        Target("bare", f"http://{ours.bare}/", vectors, ours.token),
    ]


def _written(path: Path, bodies: Sequence[object]) -> Path:
    path.write_text("\n".join(json.dumps(each) for each in bodies))
    return path


def _started(stack: contextlib.ExitStack, peer: Peer, folder: Path) -> str:
    try:
        return stack.enter_context(running(peer, folder, rows()[0]))
    except RunFailed as cause:
        tell(f"{peer.name}: {cause}")
        return ""


def compare(folder: Path, targets: Sequence[Target], chosen: argparse.Namespace) -> int:
    """Everyone in turns, and the last line; returns the exit code, 1 when a request failed."""
    middle: dict[tuple[str, int], Figures] = {}
    failed = 0
    for connections in chosen.connections:
        results: dict[str, list[Figures]] = {each.name: [] for each in targets}
        for target in targets:
            load(folder, target, connections, WARM_S)
        for _ in range(chosen.rounds):
            for target in targets:
                results[target.name].append(load(folder, target, connections, chosen.seconds))
        for name, each in results.items():
            middle[name, connections] = median(each, "requests_per_s") | {
                figure: round(statistics.median(one[figure] for one in each), 3) for figure in LATENCIES
            }
            failed += sum(one["failed"] for one in each)
            say(peer=name, connections=connections, **middle[name, connections])
    most = max(chosen.connections)
    best = middle["churnstream", most]
    rate = {name: figures["requests_per_s"] for (name, connections), figures in middle.items() if connections == most}
    parts = {name: round(rate["churnstream"] / rate[name], 2) for name in ("bare", "asgi") if name in rate}
    own = ("churnstream", "customer", "bare", "asgi")
    say(
        bench="serving",
        requests_per_s=best["requests_per_s"],
        p99_ms=best["p99_ms"],
        p99_ms_alone=middle["churnstream", min(chosen.connections)]["p99_ms"],
        customer=round(rate["customer"] / rate["churnstream"], 2),
        of=parts,
        ratios={name: round(rate["churnstream"] / each, 2) for name, each in rate.items() if name not in own},
        p99_ratios={name: round(middle[name, most]["p99_ms"] / best["p99_ms"], 2) for name in rate if name not in own},
    )
    if failed:
        tell(f"{failed} requests failed: the figures mean nothing")
    return 1 if failed else 0


def _beside() -> None:
    """Move this process to the cores that the servers do not have."""
    if len(CORES) > 1:
        os.sched_setaffinity(0, CORES - {max(CORES)})


def load(folder: Path, target: Target, connections: int, seconds: int) -> Figures:
    """One round against one address; raises RunFailed."""
    words = ["--connections", str(connections), "--script", str(folder / "load.lua"), target.url]
    return wrk.load(words, seconds, {"BODIES": str(target.bodies), **({"TOKEN": target.token} if target.token else {})}, _beside)


if __name__ == "__main__":
    began = time.perf_counter()
    os.chdir(ROOT)
    code = main()
    tell(f"that took {time.perf_counter() - began:.0f} s")
    sys.exit(code)

"""How soon it goes on after the worst: `python -m tests.bench.recovery`, or `make bench-recovery`.

The river of the first day makes the features of many customers, and stands still. Then every process of the platform, the
supervisor's too, is ended by SIGKILL at once, and the platform is started again as `churnstream up` does. The clock runs from the
first signal until a prediction can be read for an event that came afterwards: for it the function starts, takes its shard, and
reads the states of all of the shard's customers back. One JSON line; times in it are seconds from the first signal on. The exit
code is 1 when an event is unaccounted for.
"""

import argparse
import http.client
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import psutil

from churnstream.codecs import encode_json
from churnstream.errors import ChurnstreamError
from churnstream.local import SupervisorClient
from churnstream.reading import totals
from churnstream.stages.produce import Producer
from churnstream.topology import FEATURES, INFERENCE
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY
from churnstream.usecases.first_day import BET, CASE, PURCHASE, REGISTRATION
from churnstream.wiring import open_parts, open_stream, open_table
from tests.bench.common import say
from tests.bench.latency import BEGINS, DAY, user
from tests.bench.river import DOOR, River, deployed, keep_to, post, unaccounted

LOOK_S = 0.005
LAST_S = 600.0  # for the prediction
AWAY = (ChurnstreamError, OSError, http.client.HTTPException)  # what a client meets while nobody is there

Found = TypeVar("Found")


def acquaintances(customers: int) -> Iterator[Mapping[str, Any]]:
    """What makes the customers known: a registration and a purchase each."""
    registration = next(each for each in CASE.events if each.name == REGISTRATION)
    person = {each.name: "x" for each in registration.fields if each.required} | {"date_of_birth": "1990-01-31"}
    for number in range(customers):
        told = {KEY: user(number), EVENT_TIME: DAY + timedelta(seconds=number % 600)}
        yield told | {EVENT_TYPE: REGISTRATION, **person}
        yield told | {EVENT_TYPE: PURCHASE, "amount": 10.0}


def meet(river: River, customers: int) -> int:
    """Let the customers flow through the river; returns how many events that took."""
    parts = open_parts("event-generator", river.settings)
    producer = Producer(f"recovery/{customers}", parts.begin, lambda shard, name: parts.journal(shard).sequence(name))
    for event in acquaintances(customers):
        producer.add(event)
    producer.flush()
    parts.close()
    river.settle()
    return producer.sent


def kill_all(river: River) -> int:
    """End every process of the platform at once; returns how many there were."""
    supervisor = psutil.Process(SupervisorClient(river.home).status()["pid"])
    processes = [supervisor, *supervisor.children(recursive=True)]
    for each in processes:
        os.kill(each.pid, signal.SIGKILL)
    psutil.wait_procs(processes)
    return len(processes)


def until(look: Callable[[], Found | None]) -> Found:
    """What ``look`` finds in the end; raises TimeoutError. That nobody is there yet is no failure."""
    deadline = time.perf_counter() + LAST_S
    while True:
        try:
            found = look()
        except AWAY:
            found = None
        if found is not None:
            return found
        if time.perf_counter() > deadline:
            raise TimeoutError(f"nothing came for {LAST_S:g} s")
        time.sleep(LOOK_S)


def measure(river: River, customers: int) -> dict[str, Any]:
    """The figures of one recovery."""
    sent = meet(river, customers)
    table = open_table(FEATURES, river.settings)
    known = len(table)
    table.close()
    reader = open_stream(INFERENCE, river.settings)
    before = sum(reader.rows(shard) for shard in range(reader.shards))
    bet = {KEY: user(customers // 2), EVENT_TYPE: BET, EVENT_TIME: BEGINS, "bet_amount": 2.5}
    began = time.perf_counter()
    killed = kill_all(river)
    dead = time.perf_counter()
    until(lambda: SupervisorClient(river.home).up() or True)
    up = time.perf_counter()

    def send() -> bool:
        post(river, [[encode_json([bet])]])
        return True

    until(lambda: river.address(DOOR) or None)
    until(send)
    accepted = time.perf_counter()
    until(lambda: sum(reader.rows(shard) for shard in range(reader.shards)) > before or None)
    seen = time.perf_counter()
    reader.close()
    river.settle()
    return {
        "bench": "recovery",
        "customers": known,
        "killed": killed,
        "all_dead_s": round(dead - began, 2),
        "supervisor_s": round(up - began, 2),
        "accepted_s": round(accepted - began, 2),
        "prediction_s": round(seen - began, 2),
        "unaccounted": unaccounted(totals(river.settings), sent + 1),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure the time from SIGKILL of every process to the next prediction.")
    parser.add_argument("--customers", type=int, default=1_000_000, help="whose features are kept")
    parser.add_argument("--cores", type=int, default=2)
    given = parser.parse_args(arguments)
    cores = keep_to(given.cores)
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as folder, deployed(Path(folder)) as river:
        figures = measure(river, given.customers)
    say(**figures, cores=cores)
    return 1 if figures["unaccounted"] else 0


if __name__ == "__main__":
    sys.exit(main())

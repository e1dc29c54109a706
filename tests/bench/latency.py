"""How long an event takes from the door to a readable prediction: `python -m tests.bench.latency`, or `make bench-latency`.

Events are posted at a steady rate, each request at its instant whether or not earlier ones were answered (an open loop), to
functions that are deployed and know their customers. A reader of the inference stream notes when each prediction can be read.
Every event has an event time of its own, by which its prediction is found again. One JSON line for each rate:

- ``p50_ms`` … ``max_ms``: from the answer (202: accepted, durable) to the readable prediction;
- ``sent_p50_ms`` …: from the instant at which the request was due, so that a client kept waiting counts;
- ``answer_p50_ms`` …: from that instant to the answer;
- ``cores_used``: CPU seconds of all functions for each second; ``others_cores`` of whatever has nothing to do with this run, and
  should be next to none.

A line before them says what the functions take while nothing comes. The exit code is 1 when a prediction is missing, or a request
was not accepted.
"""

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from churnstream.codecs import NDJSON, decode_batch, encode_json
from churnstream.operations.ledger import Line
from churnstream.reading import totals
from churnstream.topology import INFERENCE
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY
from churnstream.usecases.first_day import BET, CASE, PURCHASE, REGISTRATION, WIN
from churnstream.wiring import open_stream
from tests.bench.common import say
from tests.bench.river import DOOR, River, busy_s, deployed, keep_to, own_s, uses

DAY = datetime(2026, 3, 1, tzinfo=UTC)
BEGINS = DAY + timedelta(hours=1)  # of the events that are measured; a millisecond each, so that 80 million fit into a first day
LOOK_S = 0.002  # between two looks at the inference stream
LAST_S = 60.0  # for the last prediction
CONNECTIONS = 128
KEEPS_UP_MS = 250.0  # the p99 of a rate that counts as steady


# -- the events -------------------------------------------------------------------------------------------------------------


def acquaintances(customers: int) -> list[Mapping[str, Any]]:
    """What makes the customers known: a registration, a purchase and a bet each, before any event that is measured."""
    events: list[Mapping[str, Any]] = []
    registration = next(each for each in CASE.events if each.name == REGISTRATION)
    person = {each.name: "x" for each in registration.fields if each.required} | {"date_of_birth": "1990-01-31"}
    for number in range(customers):
        told = {KEY: user(number), EVENT_TIME: DAY + timedelta(seconds=number % 600)}
        events.append(told | {EVENT_TYPE: REGISTRATION, **person})
        events.append(told | {EVENT_TYPE: PURCHASE, "amount": 10.0})
        events.append(told | {EVENT_TYPE: BET, "bet_amount": 2.0})
    return events


def play(customers: int, first: int, seed: int = 1) -> Iterator[Mapping[str, Any]]:
    """Bets, wins and purchases of known customers, without end, numbered from ``first`` on; an event's time is its number's."""
    rng = random.Random(f"latency {seed} {first}")
    kinds = ((BET, "bet_amount"), (WIN, "win_amount"), (PURCHASE, "amount"))
    number = first
    while True:
        kind, amount = rng.choices(kinds, (65, 28, 7))[0]
        at = BEGINS + timedelta(milliseconds=number)
        yield {
            KEY: user(rng.randrange(customers)),
            EVENT_TYPE: kind,
            EVENT_TIME: at,
            amount: round(rng.lognormvariate(1.0, 0.8), 2),
        }
        number += 1


def user(number: int) -> str:
    return f"c{number:06d}"


def number_of(at: datetime) -> int:
    """Which event has this event time."""
    return round((at - BEGINS) / timedelta(milliseconds=1))


# -- the client -------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Request:
    """One request on its way: when it was due and when it was answered, in seconds of the performance counter."""

    body: bytes
    due: float = 0.0
    answered: float = 0.0
    status: int = 0


class Connection(asyncio.Protocol):
    """Posts one request after another over one connection; cheap, so that the client leaves the cores to the functions."""

    def __init__(self, head: bytes, idle: "asyncio.LifoQueue[Connection]"):
        self._head, self._idle = head, idle
        self._request: Request | None = None
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def post(self, request: Request) -> None:
        self._request, self._received = request, b""
        self._transport.write(b"%s%d\r\n\r\n%s" % (self._head, len(request.body), request.body))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, body = self._received.partition(b"\r\n\r\n")
        if not separator or len(body) < _length(head) or self._request is None:
            return
        self._request.answered = time.perf_counter()
        self._request.status = int(head.split(b" ", 2)[1])
        self._request = None
        self._idle.put_nowait(self)

    def close(self) -> None:
        self._transport.close()


def _length(head: bytes) -> int:
    return next(int(line.partition(b":")[2]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))


async def send(river: River, requests: Sequence[Request], per_s: float) -> None:
    """Post ``per_s`` of the ``requests`` each second, each when it is due or as soon as a connection is free."""
    host, _, port = river.address(DOOR).rpartition(":")
    told = {"Host": host, "Authorization": f"Bearer {river.home.token()}", "Content-Type": NDJSON}
    head = "".join(
        ["POST / HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in told.items()), "Content-Length: "]
    ).encode()
    loop = asyncio.get_running_loop()
    idle: asyncio.LifoQueue[Connection] = asyncio.LifoQueue()
    connections = [await loop.create_connection(lambda: Connection(head, idle), host, int(port)) for _ in range(CONNECTIONS)]
    for _, connection in connections:
        idle.put_nowait(connection)
    began = time.perf_counter() + 0.05
    for place, request in enumerate(requests):
        request.due = began + place / per_s
        await asyncio.sleep(max(0.0, request.due - time.perf_counter()))
        (await idle.get()).post(request)
    for _ in connections:  # each comes back when it is answered
        (await idle.get()).close()


# -- the reader -------------------------------------------------------------------------------------------------------------


@dataclass
class Watch:
    """Reads the inference stream as it grows."""

    river: River
    found: list[tuple[float, bytes]] = field(default_factory=list)
    rows: int = 0

    def __post_init__(self) -> None:
        self._reader = open_stream(INFERENCE, self.river.settings)
        self._next = [self._reader.end(shard) for shard in range(self._reader.shards)]

    async def until(self, rows: int, done: asyncio.Event) -> None:
        """Look until ``rows`` predictions have come, or none has for a long time after ``done``."""
        last = time.perf_counter()
        while self.rows < rows and not (done.is_set() and time.perf_counter() - last > LAST_S):
            if self._look():
                last = time.perf_counter()
            await asyncio.sleep(LOOK_S)
        self._reader.close()

    def _look(self) -> bool:
        grown = False
        for shard, offset in enumerate(self._next):
            records = self._reader.read(shard, offset)
            now = time.perf_counter()
            for record in records:
                self.found.append((now, record.payload))
                self.rows += record.rows
                self._next[shard] = record.offset + 1
            grown = grown or bool(records)
        return grown

    def times(self) -> dict[int, float]:
        """Event number -> when its prediction could be read."""
        return {
            number_of(at): when for when, payload in self.found for at in decode_batch(payload).column(EVENT_TIME).to_pylist()
        }


# -- the figures ------------------------------------------------------------------------------------------------------------


def percentiles(seconds: Sequence[float], prefix: str = "") -> dict[str, float]:
    """The p50, p95, p99 and maximum, in milliseconds; nothing for no values."""
    if not len(seconds):
        return {}
    values = np.asarray(seconds) * 1_000
    found = {f"{prefix}p{each}_ms": round(float(np.percentile(values, each)), 1) for each in (50, 95, 99)}
    return found | {f"{prefix}max_ms": round(float(values.max()), 1)}


async def measure(river: River, per_s: float, per_request: int, seconds: float, customers: int, first: int) -> dict[str, Any]:
    """Events number ``first`` and on at ``per_s`` for ``seconds``, in requests of ``per_request``: the figures of one rate."""
    count = max(1, round(per_s * seconds / per_request))
    source = play(customers, first)
    requests: list[Request] = []
    asked: dict[int, Request] = {}
    for _ in range(count):
        events = [next(source) for _ in range(per_request)]
        requests.append(Request(encode_json(events)))
        scored = (each for each in events if each[EVENT_TYPE] in CASE.serving_events)
        asked |= {number_of(each[EVENT_TIME]): requests[-1] for each in scored}
    done = asyncio.Event()
    watch = Watch(river)
    watching = asyncio.create_task(watch.until(len(asked), done))
    before, others, began = uses(river), busy_s() - own_s(river), time.perf_counter()
    await send(river, requests, per_s / per_request)
    sent, after, others = time.perf_counter() - began, uses(river), busy_s() - own_s(river) - others
    done.set()
    await watching
    readable = watch.times()
    accepted = {number: request for number, request in asked.items() if request.status == 202}
    paired = [(readable[number], request) for number, request in accepted.items() if number in readable]
    return {
        "bench": "latency",
        "events_per_s": round(per_s),
        "events_per_request": per_request,
        "seconds": round(seconds, 1),
        "events": count * per_request,
        "predictions": len(readable),
        "records": len(watch.found),
        "missing": len(accepted) - len(paired),
        "not_accepted": sum(each.status != 202 for each in requests),
        "answered_per_s": round(count * per_request / (max(each.answered for each in requests) - requests[0].due)),
        "cores_used": round(sum(after[each].cpu_s - before[each].cpu_s for each in after) / sent, 2),
        "others_cores": round(others / sent, 2),
        "cores_used_by": {each: round((after[each].cpu_s - before[each].cpu_s) / sent, 3) for each in after},
        **percentiles([read - request.answered for read, request in paired]),
        **percentiles([read - request.due for read, request in paired], "sent_"),
        **percentiles([each.answered - each.due for each in requests], "answer_"),
    }


async def idle(river: River, seconds: float) -> dict[str, Any]:
    """What each function takes while nothing comes, in cores."""
    before = uses(river)
    await asyncio.sleep(seconds)
    after = uses(river)
    return {
        "bench": "idle",
        "cores_used_by": {each: round((after[each].cpu_s - before[each].cpu_s) / seconds, 4) for each in after},
    }


async def meet(river: River, customers: int) -> None:
    """Make the customers known, in requests of a thousand events; raises RuntimeError when one is not accepted."""
    events = acquaintances(customers)
    requests = [Request(encode_json(events[start : start + 1_000])) for start in range(0, len(events), 1_000)]
    await send(river, requests, per_s=10)
    if any(each.status != 202 for each in requests):
        raise RuntimeError("the customers could not be made known: a request was not accepted")


def keeps_up(figures: Mapping[str, Any]) -> bool:
    """Whether a rate is one that the river can hold: everything arrived, in time."""
    lost = figures["missing"] or figures["not_accepted"]
    return not lost and figures.get("sent_p99_ms", float("inf")) <= KEEPS_UP_MS


async def _all(river: River, given: argparse.Namespace) -> bool:
    await meet(river, given.customers)
    await asyncio.to_thread(river.settle)
    say(**await idle(river, given.idle_seconds))
    number, good = 0, True

    async def one(per_s: float, per_request: int, seconds: float) -> dict[str, Any]:
        nonlocal number, good
        figures = await measure(river, per_s, per_request, seconds, given.customers, number)
        number += figures["events"]
        good = good and not figures["missing"] and not figures["not_accepted"]
        await asyncio.to_thread(river.settle)
        return figures

    await one(given.rate / 5, given.per_request, 2.0)  # the first events of a process pay for what it loads
    say(**await one(given.rate, given.per_request, given.seconds))
    rate, step = given.single, 0
    while rate and step < given.steps:
        figures = await one(rate, 1, given.single_seconds)
        steady = keeps_up(figures)
        say(**figures, steady=steady)
        if not steady:
            break
        rate, step = rate * 1.5, step + 1
    return good


def lost(lines: Sequence[Line]) -> int:
    """Rows that a function lost or made up, over all functions."""
    return sum(abs(line.unaccounted) for line in lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure how soon a prediction can be read after its event was accepted.")
    parser.add_argument("--rate", type=float, default=5_000, help="events each second")
    parser.add_argument("--per-request", type=int, default=50, help="events in each request")
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--single", type=float, default=500, help="first rate of requests of one event; 0 for none")
    parser.add_argument("--single-seconds", type=float, default=5)
    parser.add_argument("--steps", type=int, default=6, help="how often that rate is raised by half while it can be held")
    parser.add_argument("--idle-seconds", type=float, default=5, help="how long to look at functions that have nothing to do")
    parser.add_argument("--customers", type=int, default=2_000)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the functions")
    given = parser.parse_args(arguments)
    keep_to(given.cores)
    settings = dict(each.split("=", 1) for each in given.set)
    with tempfile.TemporaryDirectory(prefix="churnstream-bench-") as folder, deployed(Path(folder), **settings) as river:
        good = asyncio.run(_all(river, given))
        unaccounted = lost(totals(river.settings))
    if unaccounted:
        say(bench="latency", unaccounted=unaccounted)
    return 0 if good and not unaccounted else 1


if __name__ == "__main__":
    sys.exit(main())

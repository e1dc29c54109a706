"""Sends the door whatever somebody may send: `python -m tests.fuzz.door --bodies 100000`, or `make fuzz`.

The real handler, behind the real gateway, on journals of its own. Prints one JSON line: how many bodies, how they were answered,
and how many events are unaccounted for: by the ledger, and by what the answers said. Ends with 1 when there was an answer of the
kind 5xx, or an event is unaccounted for. A line before it names each body that was answered so.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from churnstream.local import Home
from churnstream.local.function import RunningFunction
from churnstream.local.gateway import Gateway
from churnstream.local.guard import Guard
from churnstream.local.limits import Limits
from churnstream.local.openapi import document
from churnstream.local.routes import Behind
from churnstream.local.specification import Specification
from churnstream.operations.ledger import Line
from churnstream.reading import HTTP, totals
from churnstream.settings import read_settings
from churnstream.usecases import load
from tests.deployable import deployable
from tests.fuzz.bodies import Sent, requests

NAME = "incoming-event-handler"
FILE = Path(__file__).parents[2] / "functions" / "incoming_event_handler.py"
TOGETHER = 64  # requests at a time
PROJECT = "fuzz"


class FuzzedDoor:
    """``with`` sets the environment of a worker; the function begins in the event loop of the first request."""

    def __init__(self, folder: Path, case: str = "first_day", body_limit: int = 1_000_000):
        self.home = Home(folder)
        self.home.ensure()
        self._environment = {
            "CHURNSTREAM_HOME": str(folder),
            "CHURNSTREAM_PROJECT": PROJECT,
            "CHURNSTREAM_CASE": case,
            "CHURNSTREAM_BATCH_WAIT_MS": "2",
        }
        self._before: dict[str, str | None] = {}
        self._limits = Limits(body_limit)
        self._function = deployable(FILE.read_bytes(), NAME, PROJECT, env={"CHURNSTREAM_CASE": case})
        self.document = document(Specification(PROJECT, NAME, self._function), self._limits)
        self._gateway: Gateway | None = None
        self.answers: Counter[int] = Counter()
        self.told = 0
        """How many events the answers spoke of."""

    def __enter__(self) -> "FuzzedDoor":
        self._before = {name: os.environ.get(name) for name in self._environment}
        os.environ.update(self._environment)
        return self

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value

    async def application(self, scope: Any, receive: Any, send: Any) -> None:
        """The door, as an ASGI application."""
        if self._gateway is None:
            self._gateway = await self._open()
        await self._gateway(scope, receive, send)

    async def ask(self, sent: Sent) -> int:
        """The status of the answer."""
        waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in sent.pieces]
        waiting[-1]["more_body"] = False
        answered: list[Any] = []

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            answered.append(message)

        headers = {"authorization": f"Bearer {self.home.token()}", **sent.headers}
        raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        scope = {"type": "http", "method": sent.method, "path": "/", "query_string": b"", "headers": raw}
        await self.application(scope, receive, send)
        status, body = answered[0]["status"], b"".join(each.get("body", b"") for each in answered[1:])
        self.answers[status] += 1
        self.told += _events(status, body)
        return int(status)

    def line(self) -> Line:
        """The door's account."""
        told = {each.source: each for each in totals(read_settings(self._environment)) if each.function == NAME}
        return told.get(HTTP, Line(NAME, HTTP, None))

    def unaccounted(self) -> int:
        """Events that the ledger lacks, or that it has and no answer spoke of, or the other way round."""
        line = self.line()
        return abs(line.unaccounted) + abs(line.given - self.told)

    async def _open(self) -> Gateway:
        log = logging.getLogger("fuzz")
        function = RunningFunction(self._function, None, log)  # type: ignore[arg-type] - it reads no stream
        await function.start()

        async def drain(deadline: timedelta) -> dict[str, Any]:
            return await function.drain(deadline)

        async def metrics() -> bytes:
            return b""

        behind = Behind(
            function.call, drain, function.report, function.why_not_ready, metrics, lambda: self.document, lambda *_: None
        )
        return Gateway(Guard(self.home), "ingest", behind, log, "http", self._limits)


def _events(status: int, body: bytes) -> int:
    """How many events an answer of the handler speaks of; a body that nobody could read counts as one."""
    told: Mapping[str, Any] = json.loads(body) if body[:1] == b"{" else {}
    if status == 202:
        return int(told["accepted"] + told["refused"] + told["duplicates"])
    return 1 if status == 400 else 0


async def fuzz(door: FuzzedDoor, sent: Iterable[Sent]) -> list[tuple[int, Sent]]:
    """Send all of it; returns what was answered with 5xx."""
    bad: list[tuple[int, Sent]] = []
    waiting = iter(sent)
    while some := list(islice(waiting, TOGETHER)):
        statuses = await asyncio.gather(*(door.ask(each) for each in some))
        bad += [(status, each) for status, each in zip(statuses, some, strict=True) if status >= 500]
    return bad


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Send the door whatever somebody may send.")
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--case", default="first_day")
    given = parser.parse_args()
    logging.disable(logging.CRITICAL)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, FuzzedDoor(Path(folder), given.case) as door:
        bad = asyncio.run(fuzz(door, islice(requests(load(given.case), given.seed), given.bodies)))
        for status, sent in bad[:20]:
            sys.stderr.write(f"{status} {sent.method} {dict(sent.headers)} {b''.join(sent.pieces)[:200]!r}\n")
        told = {
            "bodies": sum(door.answers.values()),
            "by_status": {str(status): count for status, count in sorted(door.answers.items())},
            "events": door.line().given,
            "unaccounted": door.unaccounted(),
            "seed": given.seed,
            "seconds": round(time.perf_counter() - began, 1),
        }
    sys.stdout.write(json.dumps(told) + "\n")
    sys.exit(1 if bad or told["unaccounted"] else 0)


if __name__ == "__main__":
    main()

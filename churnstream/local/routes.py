"""The platform's own routes, beside those of a function: whether it lives and is ready, what it does, and how it is drained."""

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

from churnstream.errors import NotDrained
from churnstream.local.answers import Send, answer, answer_json
from churnstream.local.contract import Answer
from churnstream.local.scopes import Scope

DRAIN_WAIT_S = 60.0
LONGEST_DRAIN_S = 24 * 3600.0
OURS = "/-/"
LIVE, READY, STATUS, DRAIN, METRICS, OPENAPI = (
    f"{OURS}{name}" for name in ("live", "ready", "status", "drain", "metrics", "openapi.json")
)
OPEN = (LIVE, READY)
METHODS: Mapping[str, tuple[str, ...]] = {
    LIVE: ("GET", "HEAD"),
    READY: ("GET", "HEAD"),
    STATUS: ("GET", "HEAD"),
    DRAIN: ("POST",),
    METRICS: ("GET", "HEAD"),
    OPENAPI: ("GET", "HEAD"),
}
"""The platform's own routes; every other path is the function's."""
FUNCTIONS_OWN = "function"  # what those are called together in the metrics: a path may hold a customer's name
PAGE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind the door.

    ``call_at_once`` gives the answer itself where nobody has to wait for it, and None where ``call`` is to be asked.
    ``ready`` says why not, or nothing; ``metrics`` is a page for Prometheus; ``describe`` an OpenAPI document; ``measured`` is
    told of every request its route, its status and how many seconds it took.
    """

    call: Callable[[Any], Awaitable[Answer]]
    drain: Callable[[timedelta], Awaitable[dict[str, Any]]]
    report: Callable[[], dict[str, Any]]
    ready: Callable[[], str]
    metrics: Callable[[], Awaitable[bytes]]
    describe: Callable[[], dict[str, Any]]
    measured: Callable[[str, int, float], None]
    call_at_once: Callable[[Any], Answer | Awaitable[Answer] | None] = lambda event: None


def asks(path: str, own: Scope) -> Scope | None:
    """The scope that a path asks for; None: anyone may come. ``own`` is the function's."""
    if path in OPEN:
        return None
    return "operate" if path.startswith(OURS) else own


class Routes:
    """Answers requests for the platform's own routes."""

    def __init__(self, behind: Behind, log: logging.Logger):
        self._behind, self._log = behind, log

    async def answer(self, path: str, scope: dict[str, Any], send: Send) -> int:
        """One request for a path below /-/; returns the status."""
        methods = METHODS.get(path)
        if methods is None:
            return await answer(send, 404, f"There is nothing here; the platform's routes are {', '.join(METHODS)}.".encode())
        if scope["method"] not in methods:
            sentence = b"Draining changes state: POST it." if path == DRAIN else f"This is for {methods[0]} only.".encode()
            return await answer(send, 405, sentence, headers={"allow": ", ".join(methods)})
        if path == LIVE:
            return await answer(send, 200, b"")
        if path == READY:
            why = self._behind.ready()
            return await answer(send, 503 if why else 200, why.encode())
        if path == STATUS:
            return await answer_json(send, 200, self._behind.report())
        if path == OPENAPI:
            return await answer_json(send, 200, self._behind.describe())
        if path == METRICS:
            return await answer(send, 200, await self._behind.metrics(), PAGE)
        return await self._answer_drain(scope, send)

    async def _answer_drain(self, scope: dict[str, Any], send: Send) -> int:
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("deadline", str(DRAIN_WAIT_S))
        try:
            seconds = float(given)
        except ValueError:
            seconds = -1.0
        if not 0 <= seconds <= LONGEST_DRAIN_S:
            return await answer(send, 400, f"deadline is a number of seconds, from 0 to {LONGEST_DRAIN_S:.0f}.".encode())
        try:
            return await answer_json(send, 200, await self._behind.drain(timedelta(seconds=seconds)))
        except NotDrained as cause:
            return await answer(send, 409, str(cause).encode())
        except Exception as cause:
            self._log.error("draining failed", exc_info=cause)
            sentence = f"The drain callback failed with {type(cause).__name__}; the log holds its traceback."
            return await answer(send, 500, sentence.encode())

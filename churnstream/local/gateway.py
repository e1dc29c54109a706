"""A function's HTTP door: asks for a token, bounds what comes in, and turns requests into Nuclio's events."""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl

import nuclio_sdk

from churnstream.errors import NotDrained
from churnstream.local.connection import WHOLE
from churnstream.local.contract import Answer
from churnstream.local.events import request_event
from churnstream.local.guard import Guard, Receive, Send, answer, answer_json, begin, turned_away
from churnstream.local.limits import BODY_S, BODY_WAIT_S, Limits
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


def asks(path: str, own: Scope) -> Scope | None:
    """The scope that a path asks for; None: anyone may come. ``own`` is the function's."""
    if path in OPEN:
        return None
    return "operate" if path.startswith(OURS) else own


class Gateway:
    """A bare ASGI application around one function."""

    def __init__(self, guard: Guard, scope: Scope, behind: Behind, log: logging.Logger, trigger: str, limits: Limits):
        self._guard, self._scope, self._behind, self._log = guard, scope, behind, log
        self._trigger = nuclio_sdk.event.TriggerInfo("http", trigger)
        self._limits = limits
        self._requests = self._memory = 0  # what is held at this moment

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        path = scope["path"]
        route = path if path in METHODS else FUNCTIONS_OWN
        asked = asks(path, self._scope)
        status = 0 if asked is None else await turned_away(self._guard, asked, scope["headers"], send)
        if not status and path.startswith(OURS):
            status = await self._answer_ours(path, scope, send)
        elif not status:
            status = await self._serve(scope, receive, send)
        self._behind.measured(route, status, time.perf_counter() - began)

    async def _answer_ours(self, path: str, scope: dict[str, Any], send: Send) -> int:
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

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> int:
        if self._requests >= self._limits.requests:
            return await self._too_busy(send)
        self._requests += 1
        taken = _Taken()
        try:
            return await self._take(scope, receive, send, taken)
        finally:
            self._requests -= 1
            self._memory -= taken.size

    async def _take(self, scope: dict[str, Any], receive: Receive, send: Send, taken: "_Taken") -> int:
        try:
            body = await self._body(scope, receive, taken)
        except _TooLarge:
            sentence = f"The body exceeds the {self._limits.body} bytes that this function takes; send it in parts."
            return await answer(send, 413, sentence.encode(), headers={"connection": "close"})
        except _NoRoom:
            return await self._too_busy(send)
        except TimeoutError:
            sentence = f"The body did not arrive: nothing came for {BODY_WAIT_S:.0f} s, or not all of it in {BODY_S:.0f} s."
            return await answer(send, 408, sentence.encode(), headers={"connection": "close"})
        if body is None:
            return 499  # as others count those who went away
        event = request_event(scope, body, self._trigger)
        try:
            answered = await self._behind.call(event)
        except Exception as cause:
            self._log.error("a request failed", exc_info=cause)
            sentence = f"The function failed with {type(cause).__name__}; its log holds the traceback."
            return await answer(send, 500, sentence.encode())
        return await _send_answer(send, answered)

    async def _too_busy(self, send: Send) -> int:
        sentence = b"This worker holds as many requests as it takes on at once; send this again."
        return await answer(send, 503, sentence, headers={"retry-after": "1", "connection": "close"})

    async def _body(self, scope: dict[str, Any], receive: Receive, taken: "_Taken") -> bytes | None:
        for name, value in scope["headers"]:
            if name == b"content-length":
                announced = int(value) if value.isdigit() else 0
                if announced > self._limits.body:
                    raise _TooLarge
                if self._memory + announced > self._limits.memory:
                    raise _NoRoom
        if scope.get(WHOLE):
            return await self._whole_body(receive, taken)
        pieces: list[bytes] = []
        clock = asyncio.get_running_loop().time
        end = clock() + BODY_S
        async with asyncio.timeout(BODY_WAIT_S) as patience:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    return None
                piece = message.get("body", b"")
                pieces.append(piece)
                taken.size += len(piece)
                self._memory += len(piece)
                if taken.size > self._limits.body:
                    raise _TooLarge
                if self._memory > self._limits.memory:
                    raise _NoRoom
                if not message.get("more_body"):
                    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
                patience.reschedule(min(end, clock() + BODY_WAIT_S))

    async def _whole_body(self, receive: Receive, taken: "_Taken") -> bytes | None:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body: bytes = message["body"]
        taken.size = len(body)
        self._memory += taken.size
        if taken.size > self._limits.body:
            raise _TooLarge
        if self._memory > self._limits.memory:
            raise _NoRoom
        return body

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


class _Taken:
    """How many bytes of a body are in memory."""

    size = 0


class _TooLarge(Exception):
    pass


class _NoRoom(Exception):
    pass


async def _send_answer(send: Send, answered: Answer) -> int:
    if answered.rest is None:
        return await answer(send, answered.status, answered.body, answered.content_type, _text(answered))
    await begin(send, answered.status, answered.content_type, _text(answered))
    await send({"type": "http.response.body", "body": answered.body, "more_body": True})
    async for chunk in answered.rest:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return answered.status


def _text(answered: Answer) -> dict[str, str]:
    return {name: given if isinstance(given, str) else json.dumps(given) for name, given in answered.headers.items()}

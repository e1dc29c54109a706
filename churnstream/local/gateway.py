"""A function's HTTP door: asks for a token, bounds what comes in, and turns requests into Nuclio's events."""

import asyncio
import logging
import time
from collections.abc import Awaitable
from typing import Any

import nuclio_sdk

from churnstream.local.answers import Application, Receive, Send, answer, send_answer
from churnstream.local.connection import WHOLE
from churnstream.local.contract import Answer
from churnstream.local.events import request_event
from churnstream.local.guard import Guard, turned_away
from churnstream.local.limits import BODY_S, BODY_WAIT_S, Limits
from churnstream.local.routes import FUNCTIONS_OWN, METHODS, OURS, Behind, Routes, asks
from churnstream.local.scopes import Scope, opens


class Gateway:
    """A bare ASGI application around one function."""

    def __init__(self, guard: Guard, scope: Scope, behind: Behind, log: logging.Logger, trigger: str, limits: Limits):
        self._guard, self._scope, self._behind, self._log = guard, scope, behind, log
        self._routes = Routes(behind, log)
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
            status = await self._routes.answer(path, scope, send)
        elif not status:
            status = await self._serve(scope, receive, send)
        self._behind.measured(route, status, time.perf_counter() - began)

    def at_once(self, scope: dict[str, Any], body: bytes) -> Answer | Application | None:
        """The answer to a request that is all there, or an application that gives it when it is ready.

        None: nothing was done, and the request takes the usual way; so do all that are refused here.
        """
        began = time.perf_counter()
        if (
            scope["path"].startswith(OURS)
            or not self._has_room(len(body))
            or (held := self._guard.scope_of(scope["headers"])) is None
            or not opens(held, self._scope)
        ):
            return None
        try:
            answered = self._behind.call_at_once(request_event(scope, body, self._trigger))
        except Exception as cause:
            answered = self._failed(cause)
        if answered is None:
            return None
        if not isinstance(answered, Answer):
            return self._later(answered, len(body), began)
        self._behind.measured(FUNCTIONS_OWN, answered.status, time.perf_counter() - began)
        return answered

    def _has_room(self, size: int) -> bool:
        limits = self._limits
        return self._requests < limits.requests and size <= limits.body and self._memory + size <= limits.memory

    def _later(self, answering: Awaitable[Answer], size: int, began: float) -> Application:
        """An application that waits for an answer."""
        self._requests += 1
        self._memory += size

        async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
            try:
                try:
                    answered = await answering
                except Exception as cause:
                    answered = self._failed(cause)
                status = await send_answer(send, answered)
            finally:
                self._requests -= 1
                self._memory -= size
            self._behind.measured(FUNCTIONS_OWN, status, time.perf_counter() - began)

        return application

    def _failed(self, cause: Exception) -> Answer:
        self._log.error("a request failed", exc_info=cause)
        return Answer(500, f"The function failed with {type(cause).__name__}; its log holds the traceback.".encode())

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
            answered = self._failed(cause)
        return await send_answer(send, answered)

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


class _Taken:
    """How many bytes of a body are in memory."""

    size = 0


class _TooLarge(Exception):
    pass


class _NoRoom(Exception):
    pass

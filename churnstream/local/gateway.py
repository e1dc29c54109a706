"""A function's HTTP door: asks for the token, bounds the body, and turns requests into Nuclio's events."""

import asyncio
import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl

import nuclio_sdk

from churnstream.errors import NotDrained
from churnstream.local.contract import Answer, decode_body
from churnstream.local.guard import Guard, Receive, Send, answer, answer_json, begin, refuse

BODY_WAIT_S = 30.0  # for the next piece of a request's body
DRAIN_WAIT_S = 60.0
LIVE, READY, STATUS, DRAIN = "/-/live", "/-/ready", "/-/status", "/-/drain"


class Gateway:
    """A bare ASGI application around one function."""

    def __init__(
        self,
        guard: Guard,
        call: Callable[[Any], Awaitable[Answer]],
        drain: Callable[[timedelta], Awaitable[dict[str, Any]]],
        report: Callable[[], dict[str, Any]],
        log: logging.Logger,
        trigger: str,
        body_limit: int,
    ):
        self._guard = guard
        self._call = call
        self._drain = drain
        self._report = report
        self._log = log
        self._trigger = nuclio_sdk.event.TriggerInfo("http", trigger)
        self._body_limit = body_limit
        self.stopping = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            return
        path = scope["path"]
        if path == LIVE:
            await answer(send, 200, b"")
        elif path == READY:
            await answer(send, 503 if self.stopping else 200, b"")
        elif not self._guard.admits(scope["headers"]):
            await refuse(send)
        elif path == STATUS:
            await answer_json(send, 200, self._report())
        elif path == DRAIN:
            await self._answer_drain(scope, send)
        elif self.stopping:
            await answer(send, 503, b"The function is stopping; send this again.", headers={"retry-after": "1"})
        else:
            await self._serve(scope, receive, send)

    async def _serve(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        try:
            body = await self._body(scope, receive)
        except _TooLarge:
            sentence = f"The body exceeds the {self._body_limit} bytes that this function takes; send it in parts."
            await answer(send, 413, sentence.encode(), headers={"connection": "close"})
            return
        except TimeoutError:
            sentence = f"The body did not arrive: nothing came for {BODY_WAIT_S:.0f} s."
            await answer(send, 408, sentence.encode(), headers={"connection": "close"})
            return
        if body is None:
            return
        event = self._event(scope, body)
        try:
            answered = await self._call(event)
        except Exception as cause:
            self._log.error("%s %s failed", event.method, event.path, exc_info=cause)
            sentence = f"The function failed with {type(cause).__name__}; its log holds the traceback."
            await answer(send, 500, sentence.encode())
            return
        await _send_answer(send, answered)

    async def _body(self, scope: dict[str, Any], receive: Receive) -> bytes | None:
        for name, value in scope["headers"]:
            if name == b"content-length" and int(value) > self._body_limit:
                raise _TooLarge
        pieces: list[bytes] = []
        size = 0
        while True:
            message = await asyncio.wait_for(receive(), BODY_WAIT_S)
            if message["type"] == "http.disconnect":
                return None
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > self._body_limit:
                raise _TooLarge
            if not message.get("more_body"):
                return b"".join(pieces)

    def _event(self, scope: dict[str, Any], body: bytes) -> Any:
        headers = {_canonical(name): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        content_type = headers.get("Content-Type", "")
        return nuclio_sdk.Event(
            body=decode_body(body, content_type) if body else body,
            content_type=content_type,
            trigger=self._trigger,
            fields=dict(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            _id=uuid.uuid4().hex,
            method=scope["method"],
            path=scope["path"],
            size=len(body),
            timestamp=datetime.now(UTC).replace(tzinfo=None),
            url=scope["path"] + (f"?{query}" if query else ""),
            shard_id=0,
            num_shards=0,
        )

    async def _answer_drain(self, scope: dict[str, Any], send: Send) -> None:
        if scope["method"] != "POST":
            await answer(send, 405, b"Draining changes state: POST it.", headers={"allow": "POST"})
            return
        given = dict(parse_qsl(scope["query_string"].decode("latin-1"))).get("deadline", str(DRAIN_WAIT_S))
        try:
            deadline = timedelta(seconds=float(given))
        except (ValueError, OverflowError):
            await answer(send, 400, b"deadline is a number of seconds.")
            return
        try:
            await answer_json(send, 200, await self._drain(deadline))
        except NotDrained as cause:
            await answer(send, 504, str(cause).encode())
        except Exception as cause:
            self._log.error("draining failed", exc_info=cause)
            sentence = f"The drain callback failed with {type(cause).__name__}; the log holds its traceback."
            await answer(send, 500, sentence.encode())


class _TooLarge(Exception):
    pass


async def _send_answer(send: Send, answered: Answer) -> None:
    if answered.rest is None:
        await answer(send, answered.status, answered.body, answered.content_type, _text(answered))
        return
    await begin(send, answered.status, answered.content_type, _text(answered))
    await send({"type": "http.response.body", "body": answered.body, "more_body": True})
    async for chunk in answered.rest:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _text(answered: Answer) -> dict[str, str]:
    return {name: given if isinstance(given, str) else json.dumps(given) for name, given in answered.headers.items()}


def _canonical(name: bytes) -> str:
    return "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))

"""Answers to HTTP requests, as ASGI wants them told."""

import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any

from churnstream.local.contract import Answer

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Application = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]


async def answer(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "text/plain",
    headers: Mapping[str, object] | None = None,
) -> int:
    """Send one whole response; returns its status."""
    if headers:
        await begin(send, status, content_type, {**headers, "content-length": str(len(body))})
    else:
        raw = [(b"content-type", content_type.encode("latin-1")), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})
    return status


async def begin(send: Send, status: int, content_type: str, headers: Mapping[str, object]) -> None:
    """Send a response's status and headers; the caller sends its body."""
    await send({"type": "http.response.start", "status": status, "headers": header_lines(content_type, headers)})


async def answer_json(send: Send, status: int, body: object) -> int:
    """Send ``body`` as JSON; returns the status."""
    return await answer(send, status, json.dumps(body).encode(), "application/json")


async def send_answer(send: Send, answered: Answer) -> int:
    """Send what a handler said; returns its status."""
    if answered.rest is None:
        return await answer(send, answered.status, answered.body, answered.content_type, answered.headers)
    await begin(send, answered.status, answered.content_type, answered.headers)
    await send({"type": "http.response.body", "body": answered.body, "more_body": True})
    async for chunk in answered.rest:
        await send({"type": "http.response.body", "body": chunk, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
    return answered.status


def header_lines(content_type: str, headers: Mapping[str, object]) -> list[tuple[bytes, bytes]]:
    """Headers as ASGI wants them: what is no text is told as JSON, and each stands on one line, as Nuclio does it: a second line
    would be a header of its own."""
    lines = [_content_type(content_type)]
    for name, value in {name.lower(): value for name, value in headers.items()}.items() if headers else ():
        if name != "content-type":
            text = value if isinstance(value, str) else json.dumps(value)
            lines.append((name.encode(), text.replace("\r", " ").replace("\n", " ").encode()))
    return lines


@lru_cache(maxsize=64)
def _content_type(content_type: str) -> tuple[bytes, bytes]:
    return b"content-type", content_type.encode("latin-1")

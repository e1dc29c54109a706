"""Who may enter: every door of a home asks for its token."""

import base64
import binascii
import hmac
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from typing import Any

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
RawHeaders = Iterable[tuple[bytes, bytes]]

UNAUTHORISED = "This door needs the home's token: 'Authorization: Bearer <token>'; `churnstream token` prints it."


class Guard:
    """Compares a request's token with the home's, in a time that does not tell how much of it was right."""

    def __init__(self, token: str):
        self._token = token.encode()

    def admits(self, headers: RawHeaders) -> bool:
        """True for ``Bearer <token>``, and for Basic with the token as password, whatever the login."""
        for name, value in headers:
            if name == b"authorization":
                scheme, _, given = value.strip().partition(b" ")
                if scheme.lower() == b"bearer":
                    return hmac.compare_digest(given.strip(), self._token)
                if scheme.lower() == b"basic":
                    return hmac.compare_digest(_password(given.strip()), self._token)
        return False


def _password(credentials: bytes) -> bytes:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return b""


async def answer(
    send: Send,
    status: int,
    body: bytes,
    content_type: str = "text/plain",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send one whole response."""
    await begin(send, status, content_type, {**(headers or {}), "content-length": str(len(body))})
    await send({"type": "http.response.body", "body": body})


async def begin(send: Send, status: int, content_type: str, headers: Mapping[str, str]) -> None:
    """Send a response's status and headers; the caller sends its body."""
    given = {name.lower(): value for name, value in headers.items()}
    raw = [(b"content-type", content_type.encode("latin-1"))]
    raw += [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in given.items() if name != "content-type"]
    await send({"type": "http.response.start", "status": status, "headers": raw})


async def answer_json(send: Send, status: int, body: object) -> None:
    """Send ``body`` as JSON."""
    await answer(send, status, json.dumps(body).encode(), "application/json")


async def refuse(send: Send) -> None:
    """Send 401, and how to come in."""
    await answer(send, 401, UNAUTHORISED.encode(), headers={"www-authenticate": 'Bearer realm="churnstream"'})

"""Doors as they stand: a gateway or a control behind the server that the platform runs, on a socket of its own."""

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from churnstream.local import Home
from churnstream.local.contract import Answer
from churnstream.local.gateway import Gateway
from churnstream.local.guard import Guard
from churnstream.local.limits import Limits
from churnstream.local.routes import Behind
from churnstream.local.scopes import SCOPES, Scope
from churnstream.local.server import Server

Call = Callable[[Any], Awaitable[Answer]]


async def echo(event: Any) -> Answer:
    """Answers with how long the body was."""
    return Answer(200, str(event.size).encode())


def furnished(home: Home) -> Home:
    """The home, with a token of every scope."""
    for scope in SCOPES:
        home.issue(scope)
    return home


def gateway(home: Home, scope: Scope = "ingest", call: Call = echo, limits: Limits | None = None) -> Gateway:
    """The door of a function that does nothing but ``call``."""

    async def drain(deadline: timedelta) -> dict[str, Any]:
        return {"drained": True, "positions": {}}

    async def metrics() -> bytes:
        return b""

    behind = Behind(call, drain, lambda: {"streams": []}, str, metrics, dict, lambda *_: None)
    return Gateway(Guard(home), scope, behind, logging.getLogger("test"), "web", limits or Limits(1_000_000))


@contextmanager
def served(application: Any) -> Iterator[int]:
    """The port on which ``application`` answers while the block runs."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(application)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(20)
        listener.close()
    assert not thread.is_alive()


async def ask(application: Any, method: str, path: str, token: str | None = None) -> tuple[int, bytes]:
    """Status and body of a request without one, without a network."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [] if token is None else [(b"authorization", f"Bearer {token}".encode())]
    scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"", "headers": headers}
    await application(scope | {"root_path": "", "http_version": "1.1"}, receive, send)
    return sent[0]["status"], b"".join(each.get("body", b"") for each in sent[1:])

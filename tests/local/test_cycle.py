"""What goes over the wire, asked byte by byte."""

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from churnstream.local.server import Server

ASK = b"%s / HTTP/1.1\r\nhost: x\r\n%s\r\n"
HEADERS = [(b"content-type", b"text/plain"), (b"x-one", b"1")]
App = Callable[[Any, Any, Any], Awaitable[None]]


def said(app: App, request: bytes) -> bytes:
    """All that a server around the application answers until it hangs up, without its date."""

    async def ask() -> bytes:
        listener = socket.create_server(("127.0.0.1", 0))
        server = Server(app)
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        async with asyncio.timeout(10):
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            writer.write(request)
            heard = await reader.read()
            writer.close()
            await writer.wait_closed()
            server.should_exit = True
            await serving
        return b"\r\n".join(line for line in heard.split(b"\r\n") if not line.startswith(b"date: "))

    return asyncio.run(ask())


def answering(status: int = 200, *pieces: bytes, headers: Any = HEADERS, fails: bool = False) -> App:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if fails:
            raise ValueError("no more")
        for number, piece in enumerate(pieces, 1):
            await send({"type": "http.response.body", "body": piece, "more_body": number < len(pieces)})

    return app


LAST = b"connection: close\r\n"


def test_an_answer_that_is_whole_says_its_length_and_the_connection_stays() -> None:
    heard = said(answering(200, b"hello"), ASK % (b"GET", b"") + ASK % (b"GET", LAST))
    first, second = heard.split(b"hello", 1)
    assert first == b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nx-one: 1\r\ncontent-length: 5\r\n\r\n"
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert second.endswith(b"\r\n\r\nhello")
    assert b"connection: close" in second


def test_a_length_that_the_application_gives_is_said_once() -> None:
    headers = [*HEADERS, (b"content-length", b"5")]
    assert (
        said(answering(200, b"hello", headers=headers), ASK % (b"GET", b"") + ASK % (b"GET", LAST)).count(b"content-length") == 2
    )


@pytest.mark.parametrize("last", [b"", LAST])
def test_an_answer_in_pieces_is_chunked(last: bytes) -> None:
    heard = said(answering(200, b"a", b"bc"), ASK % (b"GET", b"") + ASK % (b"GET", LAST))
    assert heard.count(b"transfer-encoding: chunked") == 2
    assert heard.count(b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n") == 2


def test_head_says_the_length_and_sends_no_body() -> None:
    headers = [*HEADERS, (b"content-length", b"5")]
    heard = said(answering(200, b"hello", headers=headers), ASK % (b"HEAD", LAST))
    assert b"content-length: 5\r\n" in heard
    assert b"hello" not in heard


def test_no_content_has_none() -> None:
    heard = said(answering(204, b""), ASK % (b"GET", LAST))
    assert heard.startswith(b"HTTP/1.1 204 No Content\r\n")
    assert b"chunked" not in heard


def test_an_application_that_fails_between_head_and_body_is_cut_off() -> None:
    assert said(answering(200, fails=True), ASK % (b"GET", b"")) == b""


@pytest.mark.parametrize("header", [(b"x-bad", b"a\r\nx-evil: 1"), (b"x bad", b"1")])
def test_no_header_smuggles_another(header: tuple[bytes, bytes]) -> None:
    heard = said(answering(200, b"hello", headers=[header]), ASK % (b"GET", b"") + ASK % (b"GET", LAST))
    assert b"x-evil" not in heard
    assert b"hello" not in heard

"""A request that is all there is answered without a detour; nobody can tell from the answer."""

import asyncio
import base64
import logging
import socket
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from churnstream.local import Home
from churnstream.local.connection import Connection
from churnstream.local.function import RunningFunction
from churnstream.local.gateway import Gateway
from churnstream.local.guard import Guard
from churnstream.local.limits import HEAD_BYTES, Limits
from churnstream.local.metrics import Meter
from churnstream.local.routes import Behind
from churnstream.local.server import Server

CODE = """
import asyncio, contextvars
import nuclio_sdk

told = contextvars.ContextVar("told", default="nothing")

async def later(value):
    await asyncio.sleep(0)
    return value

async def pieces():
    for each in ("one", "two", "three"):
        yield each

async def last():
    await asyncio.sleep(0)
    raise ValueError("late")

def handler(context, event):
    path = event.path
    if path == "/text":
        return "hello"
    if path == "/echo":
        return {"body": str(event.body), "fields": event.fields, "method": event.method, "host": event.headers["Host"]}
    if path == "/response":
        headers = {"X-One": 1, "x-two": "a\\r\\nx-evil: 1"}
        return nuclio_sdk.Response(headers=headers, body=b"\\x00\\xff", content_type="a/b", status_code=418)
    if path == "/none":
        return nuclio_sdk.Response(body="", status_code=204)
    if path == "/bad-header":
        return nuclio_sdk.Response(headers={"x bad": "1"}, body="hello")
    if path == "/close":
        return nuclio_sdk.Response(headers={"Connection": "close"}, body="hello")
    if path == "/nothing":
        return None
    if path == "/later":
        return later(nuclio_sdk.Response(body="late", status_code=201))
    if path == "/pieces":
        return pieces()
    if path == "/fails":
        raise ValueError("secret")
    if path == "/fails-later":
        return last()
    if path == "/exits":
        raise SystemExit(1)
    if path == "/remembers":
        before = told.get()
        told.set("me")
        return before
"""
PATHS = (
    *("/text", "/echo?a=1&b=", "/response", "/none", "/bad-header", "/close", "/nothing", "/later", "/pieces", "/fails"),
    *("/fails-later", "/exits", "/remembers", "/%74ext", "//text", "/-/live", "/-/status"),
)


class NoStreams:
    """For a function that reads none."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"nobody asks for {name}")


class Asked:
    """A deployed function behind its door; ``ways`` says how each request came to it."""

    def __init__(self, home: Home, limits: Limits):
        log = logging.getLogger("test")
        source = base64.b64encode(CODE.encode()).decode()
        spec = {"build": {"functionSourceCode": source}, "config": {}, "env": []}
        self.meter = Meter(home, "p", "alpha", 0, log)
        function = {"kind": "remote", "metadata": {"name": "alpha", "project": "p"}, "spec": spec}
        self.function = RunningFunction(function, NoStreams(), log, 0, self.meter)
        self.ways: list[str] = []
        self.measured: list[tuple[str, int]] = []
        nobody: Any = None
        behind = Behind(
            self._call,
            self.function.drain,
            lambda: {"streams": []},
            self.function.why_not_ready,
            nobody,
            dict,
            lambda route, status, seconds: self.measured.append((route, status)),
            self._call_at_once,
        )
        self.gateway = Gateway(Guard(home), "operate", behind, log, "web", limits)

    async def _call(self, event: Any) -> Any:
        self.ways.append("usual")
        return await self.function.call(event)

    def _call_at_once(self, event: Any) -> Any:
        self.ways.append("at once")
        answered = self.function.call_at_once(event)
        if answered is None:
            self.ways.pop()
        return answered


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = Home(tmp_path_factory.mktemp("home"))
    home.issue("operate")
    return home


@asynccontextmanager
async def listening(home: Home, limits: Limits = Limits(100_000)) -> Any:  # noqa: B008 - a frozen value
    """(what is asked, its address)."""
    asked = Asked(home, limits)
    await asked.function.start()
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(asked.gateway)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        async with asyncio.timeout(20):
            yield asked, listener.getsockname()
    finally:
        server.should_exit = True
        await serving
        await asked.function.stop()


def request(
    home: Home, path: str, method: str = "POST", body: bytes = b'{"n": 1}', more: str = "", version: str = "1.1"
) -> bytes:
    head = f"{method} {path} HTTP/{version}\r\nhost: x\r\nauthorization: Bearer {home.token()}\r\n{more}"
    kind = "content-type: application/json\r\n"
    return f"{head}{kind}content-length: {len(body)}\r\n\r\n".encode() + body


async def heard(address: Any, *pieces: bytes) -> bytes:
    """All that is answered until the other side hangs up, without dates; each piece is sent when the one before was taken in."""
    reader, writer = await asyncio.open_connection(*address)
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        for _ in range(20):  # both ends live in this loop: the other one reads meanwhile
            await asyncio.sleep(0)
    told = await reader.read()
    writer.close()
    await writer.wait_closed()
    return b"\r\n".join(line for line in told.split(b"\r\n") if not line.startswith(b"date: "))


LAST = "connection: close\r\n"


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD"])
def test_the_answer_is_the_same_at_once_and_the_usual_way(home: Home, path: str, method: str) -> None:
    async def ask() -> tuple[bytes, bytes, Asked]:
        async with listening(home) as (asked, address):
            whole = request(home, path, method, more=LAST)
            return await heard(address, whole), await heard(address, whole[:-3], whole[-3:]), asked

    at_once, usual, asked = asyncio.run(ask())
    assert at_once == usual
    assert b"secret" not in at_once
    assert b"\r\nx-evil" not in at_once
    ours = path.startswith("/-/")
    assert asked.ways == ([] if ours else ["usual" if method == "HEAD" else "at once", "usual"])
    if path != "/bad-header":  # which the usual way cannot send, and does not count
        assert len(asked.measured) == 2
        assert asked.measured[0] == asked.measured[1]


def test_what_a_handler_keeps_in_a_context_ends_with_the_request(home: Home) -> None:
    async def ask() -> bytes:
        async with listening(home) as (_, address):
            return await heard(address, request(home, "/remembers"), request(home, "/remembers", more=LAST))

    told = asyncio.run(ask())
    assert told.count(b"\r\n\r\nnothing") == 2


@pytest.mark.parametrize("cut", [0, 40, 700])
def test_requests_that_come_together_are_answered_in_turn(home: Home, cut: int) -> None:
    paths = ("/text", "/later", "/text", "/pieces", "/later", "/response")
    together = b"".join(request(home, path) for path in paths) + request(home, "/text", more=LAST)

    async def ask() -> bytes:
        async with listening(home) as (_, address):
            return await heard(address, *([together[:cut], together[cut:]] if cut else [together]))

    told = asyncio.run(ask())
    places = [told.index(word) for word in (b"hello", b"late", b"one", b"three", b"\x00\xff")]
    assert places == sorted(places)
    assert [told.count(word) for word in (b"hello", b"late", b"three", b"\x00\xff")] == [3, 2, 1, 1]


@pytest.mark.parametrize("last", ["/text", "/later"])
def test_what_follows_a_last_request_is_not_done(home: Home, last: str) -> None:
    async def ask() -> tuple[bytes, list[str]]:
        async with listening(home) as (asked, address):
            return await heard(address, request(home, last, more=LAST) + request(home, "/text")), asked.ways

    told, ways = asyncio.run(ask())
    assert told.count(b"HTTP/1.1 ") == 1
    assert ways == ["at once"]


@pytest.mark.parametrize("more", [{"version": "1.0"}, {"more": f"expect: 100-continue\r\n{LAST}"}])
def test_an_unusual_request_takes_the_usual_way(home: Home, more: dict[str, Any]) -> None:
    async def ask() -> tuple[bytes, list[str]]:
        async with listening(home) as (asked, address):
            return await heard(address, request(home, "/text", **more)), asked.ways

    told, ways = asyncio.run(ask())
    assert told.endswith(b"hello")
    assert ways == ["usual"]


@pytest.mark.parametrize(
    ("limits", "status"), [(Limits(4), b"413"), (Limits(100, requests=1), b"200"), (Limits(100, memory=4), b"503")]
)
def test_limits_hold_at_once_as_well(home: Home, limits: Limits, status: bytes) -> None:
    async def ask() -> bytes:
        async with listening(home, limits) as (_, address):
            return await heard(address, request(home, "/text", more=LAST))

    assert asyncio.run(ask()).split(b" ")[1] == status


def test_a_wrong_token_is_refused_and_calls_nobody(home: Home) -> None:
    async def ask() -> tuple[bytes, list[str]]:
        async with listening(home) as (asked, address):
            told = await heard(address, request(home, "/text", more=LAST).replace(home.token().encode(), b"wrong"))
            return told, asked.ways

    told, ways = asyncio.run(ask())
    assert told.startswith(b"HTTP/1.1 401 ")
    assert ways == []


def test_a_head_that_is_too_large_is_refused_in_whatever_piece_it_comes(home: Home) -> None:
    async def ask() -> bytes:
        async with listening(home) as (_, address):
            return await heard(address, request(home, "/text", more=f"x-long: {'x' * HEAD_BYTES}\r\n"))

    assert asyncio.run(ask()).startswith(b"HTTP/1.1 431 ")


def test_while_the_function_flushes_a_request_waits(home: Home) -> None:
    async def ask() -> tuple[bytes, list[str]]:
        async with listening(home) as (asked, address):
            async with asked.function._turnstile.closed():
                asking = asyncio.create_task(heard(address, request(home, "/text", more=LAST)))
                while "usual" not in asked.ways:
                    await asyncio.sleep(0)
                assert not asking.done()
            return await asking, asked.ways

    told, ways = asyncio.run(ask())
    assert told.endswith(b"hello")
    assert ways == ["usual"]


def test_a_flush_waits_for_what_is_answered_later(home: Home) -> None:
    async def ask() -> Any:
        async with listening(home) as (asked, address):
            event = asyncio.create_task(heard(address, request(home, "/later", more=LAST)))
            while not asked.ways:
                await asyncio.sleep(0)
            told = await asked.function.drain(timedelta(seconds=5))
            await event
            return told, asked.function._turnstile._inside

    told, inside = asyncio.run(ask())
    assert told["drained"] is True
    assert inside == 0


def test_it_is_counted_as_every_request_is(home: Home) -> None:
    async def ask() -> Any:
        async with listening(home) as (asked, address):
            for path in ("/text", "/later", "/fails", "/pieces"):
                await heard(address, request(home, path, more=LAST))
            return asked.meter._counts

    counts = asyncio.run(ask())
    assert {key: sum(each.counts) for key, each in counts.handling.items()} == {("http",): 4}
    assert not counts.failures


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Connection.__init__

    def sooner(self: Connection, *arguments: Any, **named: Any) -> None:
        made(self, *arguments, **named)
        self.timeout_keep_alive = 0.05  # type: ignore[assignment]

    monkeypatch.setattr(Connection, "__init__", sooner)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("path", ["/text", "/later"])
def test_a_connection_that_rests_too_long_is_closed_and_not_while_it_is_used(home: Home, path: str) -> None:
    async def ask() -> tuple[int, float]:
        async with listening(home) as (_, address):
            loop = asyncio.get_running_loop()
            reader, writer = await asyncio.open_connection(*address)
            answered, until = 0, loop.time() + 0.2
            asking = partial(writer.write, request(home, path))
            while loop.time() < until:
                asking()
                head = await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]))
                answered += 1
            rested = loop.time()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return answered, loop.time() - rested

    answered, rested = asyncio.run(ask())
    assert answered > 1
    assert 0.03 < rested < 5

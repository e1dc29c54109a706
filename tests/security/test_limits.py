"""The limits of a door, tried over real connections."""

import asyncio
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from churnstream.local import Home, connection, gateway
from churnstream.local.contract import Answer
from churnstream.local.limits import HEAD_BYTES, HEAD_COUNT, Limits
from tests.security import doors

DEADLINE_S = 20.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return doors.furnished(Home(tmp_path / "home"))


@pytest.fixture
def port(home: Home) -> Iterator[int]:
    """Of a door that takes a million bytes."""
    with doors.served(doors.gateway(home)) as port:
        yield port


class Client:
    """A connection that sends what it is told to, and reads until the other side has answered or hung up."""

    def __init__(self, port: int):
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self, *pieces: bytes) -> "Client":
        for piece in pieces:
            try:
                self._socket.sendall(piece)
            except ConnectionError:  # it was refused before all of it was sent
                break
        return self

    def answer(self) -> tuple[int, bytes]:
        """Status and the whole answer, headers too; 0 when there is none."""
        received = b""
        while b"\r\n\r\n" not in received or not _complete(received):
            try:
                piece = self._socket.recv(65536)
            except ConnectionError:
                piece = b""
            if not piece:
                break
            received += piece
        return (int(received.split(b" ", 2)[1]) if received else 0), received


def _complete(received: bytes) -> bool:
    head, _, body = received.partition(b"\r\n\r\n")
    length = next(line.partition(b":")[2] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
    return len(body) >= int(length)


def head(home: Home, *more: str, token: str | None = None) -> bytes:
    lines = ("POST / HTTP/1.1", "Host: x", f"Authorization: Bearer {token or home.token()}", *more)
    return "".join(f"{line}\r\n" for line in lines).encode() + b"\r\n"


def asked(port: int, *pieces: bytes) -> tuple[int, bytes]:
    with Client(port) as client:
        return client.send(*pieces).answer()


def test_a_request_within_every_limit_is_served(home: Home, port: int) -> None:
    status, answered = asked(port, head(home, "Content-Length: 5"), b"hello")
    assert (status, answered.endswith(b"\r\n\r\n5")) == (200, True)


def test_one_connection_serves_requests_one_after_another_and_in_a_heap(home: Home, port: int) -> None:
    with Client(port) as client:
        for _ in range(3):
            assert client.send(head(home, "Content-Length: 5"), b"hello").answer()[0] == 200
        heap = head(home, "Content-Length: 2") + b"ab" + head(home, "Content-Length: 3") + b"abc"
        _, first = client.send(heap).answer()
        while first.count(b"HTTP/1.1 200") < 2:
            first += client.answer()[1]
        assert first.endswith(b"3")


@pytest.mark.parametrize("lines", [[f"X-{n}: y" for n in range(HEAD_COUNT + 1)], [f"X-{n}: {'y' * 600}" for n in range(60)]])
def test_too_many_or_too_large_headers_are_refused_with_431(home: Home, port: int, lines: list[str]) -> None:
    status, answered = asked(port, head(home, *lines))
    assert status == 431
    assert f"{HEAD_COUNT} headers".encode() in answered


@pytest.mark.parametrize("endless", [b"X-Long: " + b"y" * 4 * HEAD_BYTES, b"X: y\r\n" * HEAD_BYTES])
def test_a_head_without_an_end_is_refused_before_it_fills_the_memory(home: Home, port: int, endless: bytes) -> None:
    assert asked(port, b"POST / HTTP/1.1\r\n", endless)[0] in (431, 0)  # 0: it hung up while this side was still sending
    assert asked(port, b"GET /" + b"a" * 4 * HEAD_BYTES)[0] in (431, 0)
    assert asked(port, head(home, "Content-Length: 0"))[0] == 200


def test_a_head_that_comes_too_slowly_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.2)
    with doors.served(doors.gateway(home)) as port, Client(port) as client, Client(port) as silent:
        began = time.monotonic()
        client.send(b"POST / HTTP/1.1\r\nHost: x\r\n")
        assert client.answer()[0] == 408
        assert silent.answer()[0] == 408
        assert time.monotonic() - began < DEADLINE_S


def test_a_head_that_drips_is_given_up_although_something_always_comes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    with doors.served(doors.gateway(home)) as port, Client(port) as client:
        client._socket.settimeout(0.02)
        end, received = time.monotonic() + DEADLINE_S, b""
        while not received and time.monotonic() < end:
            client.send(b"X: y\r\n" if end else b"")
            try:
                received = client._socket.recv(1000)
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 4")


def test_a_second_request_has_as_long_as_the_first(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.3)
    with doors.served(doors.gateway(home)) as port, Client(port) as client:
        assert client.send(head(home, "Content-Length: 1"), b"x").answer()[0] == 200
        client.send(b"\r\n\r\nPOST / HT")
        assert client.answer()[0] == 408


def test_a_handler_that_keeps_the_loop_busy_costs_nobody_their_head(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_S", 0.1)

    async def slow(event: Any) -> Answer:
        time.sleep(0.5)
        return Answer(200, b"")

    with doors.served(doors.gateway(home, call=slow)) as port, Client(port) as first, Client(port) as second:
        first.send(head(home, "Content-Length: 1"), b"x")
        second.send(head(home, "Content-Length: 1"), b"x")
        assert [first.answer()[0], second.answer()[0]] == [200, 200]


def test_a_body_that_does_not_come_is_given_up(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "BODY_WAIT_S", 0.2)
    with doors.served(doors.gateway(home)) as port:
        status, answered = asked(port, head(home, "Content-Length: 50"), b"half of it")
    assert status == 408
    assert b"did not arrive" in answered


def test_a_body_that_drips_is_given_up_although_something_always_comes(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "BODY_WAIT_S", 5.0)
    monkeypatch.setattr(gateway, "BODY_S", 0.3)
    with doors.served(doors.gateway(home)) as port, Client(port) as client:
        client.send(head(home, "Content-Length: 1000000"))
        client._socket.settimeout(0.02)
        end, received = time.monotonic() + DEADLINE_S, b""
        while not received and time.monotonic() < end:
            client.send(b"x")
            try:
                received = client._socket.recv(1000)
            except TimeoutError:
                continue
        assert received.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize(
    "body",
    [
        ("Content-Length: 1000001", b""),
        ("Transfer-Encoding: chunked", b"%x\r\n" % 1_000_001 + b"x" * 1_000_001 + b"\r\n0\r\n\r\n"),
    ],
)
def test_a_body_above_the_limit_is_refused_announced_or_not(home: Home, port: int, body: tuple[str, bytes]) -> None:
    status, answered = asked(port, head(home, body[0]), body[1])
    assert status in (413, 0 if body[1] else 413)
    assert not answered or b"1000000 bytes" in answered


def test_more_requests_than_a_worker_takes_are_told_when_to_come_again(home: Home) -> None:
    inside, answering = [0], asyncio.Event()

    async def wait(event: Any) -> Answer:
        inside[0] += 1
        if event.body == b"let them go":
            answering.set()
        else:
            await answering.wait()
        return Answer(200, b"")

    door = doors.gateway(home, call=wait, limits=Limits(1_000, requests=3))
    with doors.served(door) as port, Client(port) as first, Client(port) as second, Client(port) as last:
        for client in (first, second):
            client.send(head(home, "Content-Length: 1"), b"x")
        end = time.monotonic() + DEADLINE_S
        while inside[0] < 2 and time.monotonic() < end:
            time.sleep(0.005)
        last.send(head(home, "Content-Length: 11"), b"let them")  # it holds a place while its body is on its way
        status = 200
        while status == 200 and time.monotonic() < end:
            status, answered = asked(port, head(home, "Content-Length: 1"), b"y") if door._requests == 3 else (200, b"")
        assert status == 503
        assert b"retry-after: 1" in answered.lower()
        last.send(b" go")
        assert [each.answer()[0] for each in (first, second, last)] == [200, 200, 200]


def test_what_is_no_http_is_refused_and_shows_nothing_of_the_inside(port: int) -> None:
    for nonsense in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 20,
        b"GET / HTTP/9.9\r\n\r\n",
        b"G\xc3\xa4T / HTTP/1.1\r\n\r\n",
    ):
        status, answered = asked(port, nonsense + b"\r\n\r\n")
        assert status in (400, 431)
        assert b"Traceback" not in answered
        assert b"/" not in answered.partition(b"\r\n\r\n")[2]


def test_a_length_that_is_no_number_or_is_said_twice_is_refused(home: Home, port: int) -> None:
    for lines in (["Content-Length: -1"], ["Content-Length: 1e3"], ["Content-Length: 5", "Content-Length: 6"]):
        assert asked(port, head(home, *lines), b"hello")[0] == 400
    smuggled = head(home, "Content-Length: 5", "Transfer-Encoding: chunked")
    assert asked(port, smuggled, b"0\r\n\r\n")[0] == 400

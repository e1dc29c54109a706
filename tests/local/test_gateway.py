import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest

from churnstream.errors import NotDrained
from churnstream.local import Home
from churnstream.local.contract import Answer
from churnstream.local.gateway import Gateway
from churnstream.local.guard import Guard
from churnstream.local.limits import Limits
from churnstream.local.routes import DRAIN, METHODS, OPEN, Behind
from churnstream.local.scopes import SCOPES, Scope

MakeDoor = Callable[..., "Door"]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A home with a token for everything there is."""
    home = Home(tmp_path_factory.mktemp("home"))
    for scope in SCOPES:
        home.issue(scope)
    return home


@pytest.fixture
def make(home: Home) -> MakeDoor:
    """``make(handler, …)`` is a door of ``home``."""
    return partial(Door, home)


def bearer(home: Home, scope: Scope = "operate") -> dict[str, str]:
    return {"authorization": f"Bearer {home.token(scope)}"}


class Door:
    """A gateway around a handler, asked without a network."""

    def __init__(
        self,
        home: Home,
        handler: Callable[[Any], Any] = lambda event: "ok",
        scope: Scope = "ingest",
        limits: Limits = Limits(100),  # noqa: B008 - a frozen value
    ):
        self.home = home
        self.events: list[Any] = []
        self.drained: list[timedelta] = []
        self.measured: list[tuple[str, int]] = []
        self.behind = False
        self.why_not_ready = ""
        self._handler = handler
        behind = Behind(
            self._call,
            self._drain,
            lambda: {"streams": []},
            lambda: self.why_not_ready,
            self._metrics,
            dict,
            lambda route, status, seconds: self.measured.append((route, status)),
        )
        self.gateway = Gateway(Guard(home), scope, behind, logging.getLogger("test"), "web", limits)

    async def _metrics(self) -> bytes:
        return b""

    async def _call(self, event: Any) -> Answer:
        self.events.append(event)
        return Answer(200, str(self._handler(event)).encode())

    async def _drain(self, deadline: timedelta) -> dict[str, Any]:
        self.drained.append(deadline)
        if self.behind:
            raise NotDrained("alpha had 3 records left to read")
        return {"drained": True, "positions": {}}

    def ask(self, path: str = "/", method: str = "POST", body: bytes = b"", headers: Any = None, pieces: int = 1) -> Any:
        given = bearer(self.home) if headers is None else headers
        path, _, query = path.partition("?")
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in given.items()],
        }
        size = -(-len(body) // pieces) or 1
        parts = [body[at : at + size] for at in range(0, len(body), size)] or [b""]
        waiting = [{"type": "http.request", "body": part, "more_body": at < len(parts) - 1} for at, part in enumerate(parts)]
        sent: list[Any] = []

        async def receive() -> Any:
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(_plain(self.gateway(scope, receive, send)))
        return sent[0]["status"], b"".join(each["body"] for each in sent[1:])


async def _plain(asked: Awaitable[None]) -> None:
    await asked


WRONG = [
    {},
    {"authorization": "Bearer wrong"},
    {"authorization": "Bearer "},
    {"authorization": "Basic !"},
    {"authorization": "Basic"},
    {"authorization": "Digest x"},
]


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize("path", ["/", "/any/path", "/-/nothing", *(path for path in METHODS if path not in OPEN)])
def test_without_a_token_nothing_is_served(make: MakeDoor, headers: dict[str, str], path: str) -> None:
    door = make()
    status, body = door.ask(path, headers=headers)
    assert (status, door.events, door.drained) == (401, [], [])
    assert b"churnstream token" in body


@pytest.mark.parametrize(("scope", "other"), [("ingest", "infer"), ("infer", "ingest")])
def test_a_token_of_another_scope_is_told_which_one_it_takes(make: MakeDoor, home: Home, scope: Scope, other: Scope) -> None:
    door = make(scope=scope)
    status, body = door.ask(headers=bearer(home, other))
    assert (status, door.events) == (403, [])
    assert f"churnstream token --scope {scope}" in body.decode()
    assert [door.ask(headers=bearer(home, held))[0] for held in (scope, "operate")] == [200, 200]


@pytest.mark.parametrize("path", ["/-/nothing", *(path for path in METHODS if path not in OPEN)])
def test_the_platforms_own_routes_are_the_operators(make: MakeDoor, home: Home, path: str) -> None:
    door = make(scope="ingest")
    method = METHODS.get(path, ("GET",))[0]
    assert [door.ask(path, method, headers=bearer(home, scope))[0] for scope in ("ingest", "infer")] == [403, 403]
    assert door.ask(path, method, headers=bearer(home))[0] == (200 if path in METHODS else 404)


def test_a_function_that_only_the_operator_may_call_says_so(make: MakeDoor, home: Home) -> None:
    status, body = make(scope="operate").ask(headers=bearer(home, "ingest"))
    assert status == 403
    assert b"`churnstream token` prints" in body


def test_the_token_may_come_as_a_password(make: MakeDoor, home: Home) -> None:
    credentials = base64.b64encode(f"anyone:{home.token()}".encode()).decode()
    assert make().ask(headers={"authorization": f"Basic {credentials}"}) == (200, b"ok")


@pytest.mark.parametrize("path", ["/-/live", "/-/ready"])
def test_life_and_readiness_are_no_secret(make: MakeDoor, path: str) -> None:
    assert make().ask(path, "GET", headers={})[0] == 200


def test_a_function_that_is_not_ready_is_alive_and_says_why_not(make: MakeDoor) -> None:
    door = make()
    door.why_not_ready = "alpha is draining."
    assert [door.ask(path, "GET") for path in ("/-/live", "/-/ready")] == [(200, b""), (503, b"alpha is draining.")]


@pytest.mark.parametrize("path", METHODS)
def test_a_route_is_asked_in_its_own_way_only(make: MakeDoor, path: str) -> None:
    door = make()
    assert door.ask(path, "DELETE")[0] == 405
    assert door.drained == []


def test_what_is_measured_names_routes_and_never_paths(make: MakeDoor) -> None:
    door = make()
    for path in ("/customers/c1", "/-/status", "/-/c1", "/"):
        door.ask(path, "GET")
    door.ask("/", headers={})
    expected = [("function", 200), ("/-/status", 200), ("function", 404), ("function", 200), ("function", 401)]
    assert door.measured == expected


def test_a_request_becomes_nuclios_event(make: MakeDoor, home: Home) -> None:
    door = make()
    door.ask("/a/b?x=1&y=", "PUT", b'{"n": 1}', {**bearer(home), "content-type": "application/json", "x-my-header": "me"})
    event = door.events[0]
    assert (event.method, event.path, event.fields, event.body) == ("PUT", "/a/b", {"x": "1", "y": ""}, {"n": 1})
    assert (event.trigger.kind, event.trigger.name, event.size) == ("http", "web", 8)
    assert event.headers["X-My-Header"] == "me"


@pytest.mark.parametrize("more", [{}, {"content-length": "101"}, {"content-length": "9" * 30}])
def test_a_body_above_the_limit_is_refused_before_the_handler_sees_it(make: MakeDoor, home: Home, more: dict[str, str]) -> None:
    door = make()
    assert door.ask(body=b"x" * 101, headers=bearer(home) | more, pieces=3)[0] == 413
    assert door.events == []


def test_a_body_at_the_limit_arrives_whole_however_it_is_cut(make: MakeDoor) -> None:
    door = make()
    assert door.ask(body=b"x" * 100, pieces=7)[0] == 200
    assert door.events[0].body == b"x" * 100


def test_a_failing_handler_shows_neither_its_traceback_nor_its_words(make: MakeDoor) -> None:
    def fail(event: Any) -> None:
        raise ValueError("the password is 1234")

    status, body = make(fail).ask()
    assert status == 500
    assert b"ValueError" in body
    assert b"1234" not in body
    assert b"Traceback" not in body


def together(door: Door, bodies: int, length: int) -> list[int]:
    """The statuses of so many requests, all of which are there before the handler answers the first; and of one afterwards."""
    sent: list[int] = []

    async def all_of_them() -> None:
        answering = asyncio.Event()

        async def call(event: Any) -> Answer:
            door.events.append(event)
            await answering.wait()
            return Answer(200, b"")

        async def receive() -> Any:
            return {"type": "http.request", "body": b"x" * length, "more_body": False}

        async def send(message: Any) -> None:
            if "status" in message:
                sent.append(message["status"])

        behind = Behind(call, door._drain, dict, str, door._metrics, dict, lambda *_: None)
        gateway = Gateway(Guard(door.home), "ingest", behind, logging.getLogger("test"), "web", Limits(100, 3, 150))
        headers = [(name.encode(), value.encode()) for name, value in bearer(door.home).items()]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        tasks = [asyncio.create_task(_plain(gateway(scope, receive, send))) for _ in range(bodies)]
        async with asyncio.timeout(10):
            while len(door.events) + len(sent) < bodies:
                await asyncio.sleep(0)
            answering.set()
            await asyncio.gather(*tasks)
            await gateway(scope, receive, send)

    asyncio.run(all_of_them())
    return sent


def test_requests_reach_the_function_while_others_are_at_work(make: MakeDoor) -> None:
    assert together(make(), 3, length=1) == [200] * 4


def test_a_worker_takes_no_more_requests_at_once_than_it_may_and_then_again(make: MakeDoor) -> None:
    assert together(make(), 5, length=1) == [503, 503, 200, 200, 200, 200]


def test_a_worker_holds_no_more_bytes_than_it_may_and_then_again(make: MakeDoor) -> None:
    assert together(make(), 2, length=100) == [503, 200, 200]


def test_draining_waits_as_long_as_it_is_told(make: MakeDoor) -> None:
    door = make()
    assert door.ask("/-/drain?deadline=3")[0] == 200
    door.behind = True
    assert door.ask("/-/drain") == (409, b"alpha had 3 records left to read")
    assert door.drained == [timedelta(seconds=3), timedelta(seconds=60)]


def test_draining_is_never_the_effect_of_a_link_or_of_a_slip(make: MakeDoor) -> None:
    door = make()
    assert door.ask(DRAIN, "GET")[0] == 405
    assert [door.ask(f"{DRAIN}?deadline={given}")[0] for given in ("soon", "-1", "nan", "inf", "1e30")] == [400] * 5
    assert door.drained == []

import asyncio
import base64
import logging
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from churnstream.errors import NotDrained
from churnstream.local.contract import Answer
from churnstream.local.gateway import Gateway
from churnstream.local.guard import Guard

TOKEN = "a-token"
BEARER = {"authorization": f"Bearer {TOKEN}"}


class Door:
    """A gateway around a handler, asked without a network."""

    def __init__(self, handler: Callable[[Any], Any] = lambda event: "ok", body_limit: int = 100):
        self.events: list[Any] = []
        self.drained: list[timedelta] = []
        self.behind = False
        self._handler = handler
        self.gateway = Gateway(
            Guard(TOKEN), self._call, self._drain, lambda: {"streams": []}, logging.getLogger("test"), "web", body_limit
        )

    async def _call(self, event: Any) -> Answer:
        self.events.append(event)
        return Answer(200, str(self._handler(event)).encode())

    async def _drain(self, deadline: timedelta) -> dict[str, Any]:
        self.drained.append(deadline)
        if self.behind:
            raise NotDrained("alpha had 3 records left to read")
        return {"drained": True, "positions": {}}

    def ask(self, path: str = "/", method: str = "POST", body: bytes = b"", headers: Any = None, pieces: int = 1) -> Any:
        given = BEARER if headers is None else headers
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


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer wrong"}, {"authorization": "Basic !"}, {"authorization": TOKEN}]
)
@pytest.mark.parametrize("path", ["/", "/-/drain", "/-/status"])
def test_without_the_token_nothing_is_served(headers: dict[str, str], path: str) -> None:
    door = Door()
    status, body = door.ask(path, headers=headers)
    assert (status, door.events, door.drained) == (401, [], [])
    assert b"churnstream token" in body


def test_the_token_may_come_as_a_password() -> None:
    credentials = base64.b64encode(f"anyone:{TOKEN}".encode()).decode()
    assert Door().ask(headers={"authorization": f"Basic {credentials}"}) == (200, b"ok")


@pytest.mark.parametrize("path", ["/-/live", "/-/ready"])
def test_life_and_readiness_are_no_secret(path: str) -> None:
    assert Door().ask(path, "GET", headers={})[0] == 200


def test_a_stopping_function_is_alive_but_not_ready() -> None:
    door = Door()
    door.gateway.stopping = True
    assert [door.ask(path)[0] for path in ("/-/live", "/-/ready", "/")] == [200, 503, 503]


def test_a_request_becomes_nuclios_event() -> None:
    door = Door()
    door.ask("/a/b?x=1&y=", "PUT", b'{"n": 1}', {**BEARER, "content-type": "application/json", "x-my-header": "me"})
    event = door.events[0]
    assert (event.method, event.path, event.fields, event.body) == ("PUT", "/a/b", {"x": "1", "y": ""}, {"n": 1})
    assert (event.trigger.kind, event.trigger.name, event.size) == ("http", "web", 8)
    assert event.headers["X-My-Header"] == "me"


@pytest.mark.parametrize("headers", [BEARER, {**BEARER, "content-length": "101"}])
def test_a_body_above_the_limit_is_refused_before_the_handler_sees_it(headers: dict[str, str]) -> None:
    door = Door()
    assert door.ask(body=b"x" * 101, headers=headers, pieces=3)[0] == 413
    assert door.events == []


def test_a_body_at_the_limit_arrives_whole_however_it_is_cut() -> None:
    door = Door()
    assert door.ask(body=b"x" * 100, pieces=7)[0] == 200
    assert door.events[0].body == b"x" * 100


def test_a_failing_handler_shows_neither_its_traceback_nor_its_words() -> None:
    def fail(event: Any) -> None:
        raise ValueError("the password is 1234")

    status, body = Door(fail).ask()
    assert status == 500
    assert b"ValueError" in body
    assert b"1234" not in body
    assert b"Traceback" not in body


def test_requests_reach_the_function_while_others_are_at_work() -> None:
    door, waiting = Door(), []

    async def call(event: Any) -> Answer:
        waiting.append(event)
        while len(waiting) < 3:  # each is answered only when all of them are there
            await asyncio.sleep(0)
        return Answer(200, event.body)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"x", "more_body": False}

    async def three() -> list[int]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode(), value.encode()) for name, value in BEARER.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": headers}
        gateway = Gateway(Guard(TOKEN), call, door._drain, dict, logging.getLogger("test"), "web", 100)
        async with asyncio.timeout(10):
            await asyncio.gather(*(gateway(scope, receive, send) for _ in range(3)))
        return [each["status"] for each in sent if "status" in each]

    assert asyncio.run(three()) == [200, 200, 200]


def test_draining_waits_as_long_as_it_is_told() -> None:
    door = Door()
    assert door.ask("/-/drain?deadline=3")[0] == 200
    door.behind = True
    assert door.ask("/-/drain") == (504, b"alpha had 3 records left to read")
    assert door.drained == [timedelta(seconds=3), timedelta(seconds=60)]


def test_draining_is_never_the_effect_of_a_link() -> None:
    door = Door()
    assert [door.ask("/-/drain", "GET")[0], door.ask("/-/drain?deadline=soon")[0]] == [405, 400]
    assert door.drained == []

"""What a handler sees of the event and of its context."""

import ast
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.conformance.conftest import Start
from tests.conformance.differences import OURS, Difference, Driver
from tests.conformance.drivers import Running
from tests.conformance.messages import Request
from tests.waiting import wait_until

JSON = {"Content-Type": "application/json"}
ALWAYS = {
    "url": "",
    "shard_id": -1,
    "num_shards": 0,
    "type": "",
    "type_version": "",
    "version": "",
    "last_in_batch": False,
    "offset": 0,
    "topic": "",
}
"""What every call has that comes through no stream."""
CRON = {"interval": "200ms", "event": {"body": '{"a": 1}', "headers": {"X-One": "1", "content-type": "application/json"}}}


def seen(function: Running, request: Request) -> dict[str, Any]:
    """The attributes of the event that the handler got for the request, as values."""
    reply = function.ask(request)
    assert reply.status == 200, reply.body
    return values(json.loads(reply.body))


def values(told: dict[str, Any]) -> dict[str, Any]:
    """Text like ``datetime.datetime(2026, 1, 1)`` stands as it is; whatever is a literal is read."""

    def value(each: Any) -> Any:
        if not isinstance(each, dict):
            return each
        try:
            return ast.literal_eval(each["value"])
        except ValueError:
            return each["value"]

    return {name: value(each) for name, each in told.items()}


@pytest.mark.parametrize(
    ("body", "headers", "arrives"),
    [
        (b'{"n": 1}', JSON, {"n": 1}),
        (b"[1, 2]", JSON, [1, 2]),
        (b'"text"', JSON, "text"),
        (b"null", JSON, None),
        ('{"ż": "🐢"}'.encode(), JSON, {"ż": "🐢"}),
        (b"{", JSON, b"{"),
        (b"\xff\xfe", JSON, b"\xff\xfe"),
        (b"", JSON, b""),
        (b'{"n": 1}', {}, b'{"n": 1}'),
        (b'{"n": 1}', {"Content-Type": "text/plain"}, b'{"n": 1}'),
        (b'{"n": 1}', {"Content-Type": "application/json; charset=utf-8"}, b'{"n": 1}'),
        (b'{"n": 1}', {"Content-Type": "Application/JSON"}, b'{"n": 1}'),
        (b'{"n": 1}\n{"n": 2}', {"Content-Type": "application/x-ndjson"}, b'{"n": 1}\n{"n": 2}'),
        (bytes(range(256)), {"Content-Type": "application/octet-stream"}, bytes(range(256))),
        (b"a=1&b=2", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1&b=2"),
    ],
)
def test_a_body_is_read_when_it_is_declared_as_json(
    start: Start, driver: Driver, body: bytes, headers: dict[str, str], arrives: object
) -> None:
    event = seen(start(driver, "events"), Request(body=body, headers=headers))
    assert event["body"] == arrives
    assert type(event["body"]) is type(arrives)
    assert (event["size"], event["content_type"]) == (len(body), headers.get("Content-Type", ""))


@pytest.mark.parametrize(
    ("asked", "path", "fields"),
    [
        ("/", "/", {}),
        ("/a/b", "/a/b", {}),
        ("/a/", "/a/", {}),
        ("/a?x=1", "/a", {"x": "1"}),
        ("/a?x=1&x=2", "/a", {"x": "2"}),
        ("/a?x=&y", "/a", {"x": "", "y": ""}),
        ("/a?x=%C5%BC+q", "/a", {"x": "ż q"}),
        ("/%C5%BC%20%2Fd", "/ż /d", {}),
        ("/a?", "/a", {}),
    ],
)
def test_paths_and_queries(start: Start, driver: Driver, asked: str, path: str, fields: dict[str, str]) -> None:
    event = seen(start(driver, "events"), Request(asked))
    assert (event["path"], event["fields"]) == (path, fields)


@pytest.mark.parametrize(
    ("asked", "path"),
    [("//a", "/a"), ("/a/../b", "/b"), ("/a/./b//c/", "/a/b/c/"), ("/a/b/..", "/a/"), ("/..", "/"), ("/.hidden", "/.hidden")],
)
def test_detours_of_a_path_are_left_out(start: Start, server: Driver, asked: str, path: str) -> None:
    assert seen(start(server, "events"), Request(asked))["path"] == path


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_what_else_a_request_says(start: Start, driver: Driver, method: str) -> None:
    event = seen(start(driver, "events"), Request(method=method, body=b"x"))
    assert {name: event[name] for name in ALWAYS} == ALWAYS
    assert (event["method"], event["trigger"]) == (method, ["http", "web"])
    assert isinstance(event["id"], str)
    assert event["id"]


def test_headers_are_named_as_http_writes_them(start: Start, driver: Driver) -> None:
    given = {
        "x-my-header": "me",
        "X-OTHER-one": "a, b",
        "content-type": "text/plain",
        "x-name": "żółw".encode().decode("latin-1"),
    }
    headers = seen(start(driver, "events"), Request(headers=given))["headers"]
    assert {name: headers[name] for name in ("X-My-Header", "X-Other-One", "Content-Type")} == {
        "X-My-Header": "me",
        "X-Other-One": "a, b",
        "Content-Type": "text/plain",
    }
    if driver != "wrapper":  # it is handed the headers as they are
        assert headers["X-Name"] == "żółw"
        assert {"Host", "Content-Length"} <= headers.keys()


def test_the_timestamp_is_utc_without_saying_so(start: Start, driver: Driver, differs: Callable[[Difference], None]) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    told = seen(start(driver, "events"), Request())["timestamp"]
    at = datetime(*map(int, told.removeprefix("datetime.datetime(").removesuffix(")").split(", ")))  # noqa: DTZ001 - it has none
    assert before - timedelta(seconds=1) <= at <= before + timedelta(seconds=30)
    if driver != OURS:
        differs("timestamp")
        assert at.microsecond == 0


def test_the_context(start: Start, driver: Driver) -> None:
    context = values(json.loads(start(driver, "events").ask(Request("/context")).body))
    assert context == {
        "worker_id": "0",
        "trigger": ["http", "web", "web"],
        "platform": "local",
        "namespace": "str",
        "response": "Response",
        "logger": ["debug", "info", "warn", "error", "debug_with", "bind"],
    }


def test_a_tick(start: Start, server: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(server, "events", cron=CRON)
    wait_until(lambda: function.ask(Request("/ticked")).body != b"null", "a tick")
    event = values(json.loads(function.ask(Request("/ticked")).body))
    assert {name: event[name] for name in ALWAYS} == ALWAYS
    assert (event["body"], event["content_type"], event["size"]) == (b'{"a": 1}', "", 8)
    assert (event["trigger"], event["method"], event["path"], event["fields"]) == (["cron", "sweep"], "", "/", {})
    assert event["headers"] == {"X-One": "1", "content-type": "application/json"}
    if server != OURS:
        differs("tick")
        assert event["timestamp"] == "datetime.datetime(1970, 1, 1, 0, 0)"

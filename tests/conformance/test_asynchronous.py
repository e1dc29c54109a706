"""Handlers that wait."""

import threading
from collections.abc import Callable

import pytest

from tests.conformance.conftest import Start
from tests.conformance.differences import OURS, Difference, Driver
from tests.conformance.messages import Reply, Request


@pytest.mark.parametrize(
    ("path", "status", "body", "content_type"),
    [
        ("/begun", 200, b"in a running loop", "text/plain"),
        ("/wait", 200, b"others went on", "text/plain"),
        ("/response", 201, b'{"a": 1}', "application/json"),
        ("/unknown", 200, b"?", "text/plain"),
    ],
)
def test_an_answer_that_is_awaited(start: Start, driver: Driver, path: str, status: int, body: bytes, content_type: str) -> None:
    reply = start(driver, "asynchronous").ask(Request(path))
    assert (reply.status, reply.body, reply.content_type) == (status, body, content_type)


@pytest.mark.parametrize("path", ["/raise", "/late", "/cancelled"])
def test_what_is_raised_later_is_a_500_too(
    start: Start, driver: Driver, path: str, differs: Callable[[Difference], None]
) -> None:
    function = start(driver, "asynchronous")
    reply = function.ask(Request(path))
    assert reply.status == 500
    if driver == OURS:
        assert b"Traceback" not in reply.body
    else:
        differs("traceback")
        assert b"Traceback" in reply.body
    assert function.ask(Request("/begun")).status == 200


def test_how_many_calls_are_at_work_together(start: Start, server: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(server, "asynchronous")
    replies: list[Reply] = []
    asking = [threading.Thread(target=lambda: replies.append(function.ask(Request("/together")))) for _ in range(3)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    most = max(int(reply.body) for reply in replies)
    if server == OURS:
        assert most == 3
    else:
        differs("one at a time")
        assert most == 1

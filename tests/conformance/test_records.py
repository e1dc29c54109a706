"""Records of a stream: what a handler sees of them, and what it acknowledges."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.conformance.conftest import Start
from tests.conformance.differences import OURS, Difference, Driver
from tests.conformance.drivers import STREAM, Reading
from tests.conformance.messages import Request
from tests.waiting import wait_until

JSON = {"content-type": "application/json"}


def record(number: int, ack: str | None = None) -> bytes:
    return json.dumps({"n": number, "ack": ack}).encode()


def seen(function: Reading, count: int) -> list[list[Any]]:
    """What the handler noted of its records, once there are so many."""

    def look() -> list[list[Any]]:
        told: list[list[Any]] = json.loads(function.ask(Request("/seen")).body)
        return told

    wait_until(lambda: len(look()) >= count, f"{count} records")
    return look()


def test_records_arrive_in_order_with_their_places(start: Start, reader: Driver) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    for shard, number in ((0, 1), (3, 2), (0, 3), (0, 4), (3, 5)):
        function.append(shard, record(number))
    told = seen(function, 5)
    assert [each for each in told if each[1] == 0] == [[STREAM, 0, 0, 1], [STREAM, 0, 1, 3], [STREAM, 0, 2, 4]]
    assert [each for each in told if each[1] == 3] == [[STREAM, 3, 0, 2], [STREAM, 3, 1, 5]]


@pytest.mark.parametrize("headers", [{}, JSON])
def test_a_records_body_is_bytes_whatever_its_headers_say(start: Start, reader: Driver, headers: dict[str, str]) -> None:
    function = start(reader, "record", afresh=True, reads=True)
    function.append(5, b'{"a": 1}', headers)
    event = last(function)
    assert (event["body"], event["content_type"], event["size"]) == (repr(b'{"a": 1}'), "''", "8")


def test_what_else_a_record_says(start: Start, reader: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(reader, "record", afresh=True, reads=True)
    function.append(5, b"x", {"one": "1"})
    event = last(function)
    assert {
        name: event[name] for name in ("shard_id", "offset", "topic", "method", "url", "type", "last_in_batch", "fields")
    } == {
        "shard_id": "5",
        "offset": "0",
        "topic": repr(STREAM),
        "method": "''",
        "url": "''",
        "type": "''",
        "last_in_batch": "False",
        "fields": "{}",
    }
    if reader == OURS:
        assert (event["path"], event["headers"], event["trigger"]) == ("'/'", "{'one': '1'}", "embedded-stream records")
    else:
        differs("a record's headers, path and trigger")
        assert (event["path"], event["headers"], event["trigger"]) == (repr(STREAM), "{'one': b'1'}", "kafka-cluster records")


def last(function: Reading) -> dict[str, str]:
    wait_until(lambda: function.ask(Request("/last")).body != b"{}", "a record")
    told: dict[str, str] = json.loads(function.ask(Request("/last")).body)
    return told


def test_what_is_not_acknowledged_stays(start: Start, reader: Driver) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    for number in range(3):
        function.append(0, record(number))
    seen(function, 3)
    assert function.acknowledged() == {}


@pytest.mark.parametrize("how", ["now", "event"])
def test_an_acknowledgement_moves_its_shard_and_no_other(start: Start, reader: Driver, how: str) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    function.append(1, record(1, how))
    function.append(1, record(2, how))
    function.append(1, record(3))
    function.append(2, record(4))
    seen(function, 4)
    wait_until(lambda: function.acknowledged() == {1: 2}, "the acknowledgement")


def test_what_was_held_back_is_acknowledged_at_the_drain(start: Start, reader: Driver) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    for shard, number in ((0, 1), (0, 2), (7, 3)):
        function.append(shard, record(number, "at the drain"))
    seen(function, 3)
    assert function.acknowledged() == {}
    function.drain()
    wait_until(lambda: function.acknowledged() == {0: 2, 7: 1}, "the acknowledgements")


def test_a_record_after_the_drain_is_handled_like_any(start: Start, reader: Driver) -> None:
    function = start(reader, "life", afresh=True, reads=True)
    function.append(0, record(1, "now"))
    seen(function, 1)
    function.drain()
    function.append(0, record(2, "now"))
    assert [each[3] for each in seen(function, 2)] == [1, 2]
    wait_until(lambda: function.acknowledged() == {0: 2}, "the acknowledgement")

"""What calls a function, as Nuclio's event. Most of it is compared with Nuclio itself, in tests/conformance."""

from datetime import UTC, datetime, timedelta
from typing import Any

import nuclio_sdk
import pytest

from churnstream.local.events import decode_body, normal_path, record_event, request_event, tick_event
from churnstream.local.triggers import CronTrigger, StreamTrigger
from churnstream.records import Delivered

WEB = nuclio_sdk.TriggerInfo("http", "web")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def request(body: bytes = b"", query: bytes = b"", **headers: bytes) -> Any:
    raw = [(name.replace("_", "-").encode(), value) for name, value in headers.items()]
    return request_event({"headers": raw, "query_string": query, "method": "POST", "path": "/a"}, body, WEB)


def test_a_body_is_read_only_when_it_is_declared_as_json() -> None:
    assert decode_body(b'{"a": 1}', "application/json") == {"a": 1}
    assert decode_body(b'{"a": 1}', "text/plain") == b'{"a": 1}'
    assert decode_body(b"{", "application/json") == b"{"


def test_a_header_that_is_no_utf_8_arrives_nevertheless() -> None:
    assert request(x_name="é".encode()).headers == {"X-Name": "é"}
    assert request(x_name=b"\xe9", x_other=b"plain").headers == {"X-Name": "é", "X-Other": "plain"}


def test_no_two_requests_share_an_id_or_what_a_handler_may_change() -> None:
    one, two = request(), request()
    assert one.id != two.id
    one.headers["X-New"] = one.fields["new"] = "1"
    assert (two.headers, two.fields) == ({}, {})


@pytest.mark.parametrize(
    ("path", "normal"),
    [("", "/"), ("/", "/"), ("/a//b", "/a/b"), ("/../..", "/"), ("/a/./", "/a/"), ("/.well-known/x", "/.well-known/x")],
)
def test_a_path_has_no_detours(path: str, normal: str) -> None:
    assert normal_path(path) == normal


def test_a_record_is_bytes_in_its_place() -> None:
    record = Delivered("orders", 1, 7, NOON, b'{"a": 1}', 1, "k", {"content-type": "application/json"})
    event = record_event(record, StreamTrigger("in", "orders"), 2)
    assert (event.body, event.content_type, event.headers) == (b'{"a": 1}', "", {"content-type": "application/json"})
    assert (event.topic, event.shard_id, event.num_shards, event.offset, event.size) == ("orders", 1, 2, 7, 8)
    assert event.timestamp == NOON.replace(tzinfo=None)


def test_a_tick_brings_the_body_and_the_headers_of_its_trigger() -> None:
    event = tick_event(CronTrigger("sweep", timedelta(seconds=1), "żółw", {"x-one": "1"}))
    assert (event.body, event.size, event.headers) == ("żółw".encode(), 7, {"x-one": "1"})
    assert (event.trigger.kind, event.trigger.name, event.shard_id) == ("cron", "sweep", -1)

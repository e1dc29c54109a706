from collections.abc import Callable
from datetime import timedelta
from typing import Any

import nuclio
import pytest

from churnstream.errors import InvalidFunction
from churnstream.local.specification import Specification
from churnstream.local.triggers import (
    BODY_LIMIT,
    CronTrigger,
    StreamTrigger,
    duration,
    read_triggers,
    session_timeout,
    workers,
)

STREAM = {"kind": "embedded-stream", "maxWorkers": 1, "attributes": {"stream": "orders", "consumerGroup": "alpha"}}


def test_a_function_without_triggers_answers_http(function: Callable[..., dict[str, Any]]) -> None:
    read = read_triggers(function(""))
    assert (read.streams, read.crons, read.body_limit) == ((), (), BODY_LIMIT)


def test_stream_and_cron_triggers_are_read_as_nuclio_writes_them(function: Callable[..., dict[str, Any]]) -> None:
    cron = nuclio.CronTrigger("2s").to_dict()
    http = nuclio.HttpTrigger(extra_attributes={"maxRequestBodySize": 10}).to_dict()
    read = read_triggers(function("", triggers={"in": STREAM, "sweep": cron, "web": http}))
    assert read.streams == (StreamTrigger("in", "orders"),)
    assert [(each.name, each.every) for each in read.crons] == [("sweep", timedelta(seconds=2))]
    assert (read.http, read.body_limit) == ("web", 10)


def test_only_explicit_only_hands_the_position_to_the_function(function: Callable[..., dict[str, Any]]) -> None:
    explicit = {**STREAM, "explicitAckMode": "explicitOnly"}
    assert read_triggers(function("", triggers={"in": explicit})).explicit
    assert not read_triggers(function("", triggers={"in": STREAM})).explicit


def test_a_disabled_trigger_does_not_count(function: Callable[..., dict[str, Any]]) -> None:
    assert read_triggers(function("", triggers={"in": {**STREAM, "disabled": True}})).streams == ()


@pytest.mark.parametrize(
    ("trigger", "why"),
    [
        ({"kind": "rabbit-mq"}, "a cluster"),
        ({"kind": "embedded-stream"}, "'stream'"),
        ({"kind": "cron", "attributes": {"schedule": "* * * * *"}}, "'interval'"),
        ({"kind": "cron", "attributes": {"interval": "soon"}}, "no interval"),
        ({"kind": "cron", "attributes": {"interval": "0s"}}, "zero"),
    ],
)
def test_a_trigger_that_cannot_be_served_is_refused_in_a_sentence(
    function: Callable[..., dict[str, Any]], trigger: dict[str, Any], why: str
) -> None:
    with pytest.raises(InvalidFunction, match=why):
        read_triggers(function("", triggers={"odd": trigger}))


def test_durations_are_gos() -> None:
    assert [duration(text).total_seconds() for text in ("500ms", "1.5s", "1h30m")] == [0.5, 1.5, 5400]


def test_a_cron_trigger_may_carry_a_body(function: Callable[..., dict[str, Any]]) -> None:
    given = {"kind": "cron", "attributes": {"interval": "1s", "event": {"body": "now", "headers": {"a": "b"}}}}
    assert read_triggers(function("", triggers={"c": given})).crons == (
        CronTrigger("c", timedelta(seconds=1), "now", {"a": "b"}),
    )


@pytest.mark.parametrize(
    ("replicas", "trigger", "processes"),
    [
        (None, {}, 1),
        (0, {}, 1),
        (1, {"maxWorkers": 1}, 1),
        (2, {"maxWorkers": 1}, 2),
        (1, {"maxWorkers": 4}, 4),
        (2, {"maxWorkers": 4}, 4),
        (5, {"maxWorkers": 4}, 5),
        (2, {"maxWorkers": 4, "disabled": True}, 2),
        (20, {}, 8),
        (1, {"maxWorkers": 9}, 8),
    ],
)
def test_replicas_and_workers_are_processes_the_larger_number_and_no_more_than_there_are_shards(
    function: Callable[..., dict[str, Any]], replicas: int | None, trigger: dict[str, Any], processes: int
) -> None:
    body = function("", triggers={"in": STREAM, "more": {**STREAM, **trigger}})
    body["spec"]["min_replicas"] = replicas
    assert Specification("shop", "alpha", body).workers == processes


def test_the_eight_http_workers_that_mlrun_writes_unasked_are_no_processes(function: Callable[..., dict[str, Any]]) -> None:
    given = nuclio.HttpTrigger().to_dict()
    assert given["maxWorkers"] == 8
    assert workers(function("", triggers={"web": given})) == 1


def test_who_reads_no_stream_may_have_more_workers_than_there_are_shards(function: Callable[..., dict[str, Any]]) -> None:
    specification = Specification("shop", "alpha", function(""))
    assert specification.at_scale(12).workers == 12
    with pytest.raises(InvalidFunction, match="takes 1 to 64 workers; 65 is not among them"):
        specification.at_scale(65)


@pytest.mark.parametrize("given", ["two", [1], {}])
def test_a_number_of_workers_that_is_none_is_a_sentence(function: Callable[..., dict[str, Any]], given: Any) -> None:
    body = function("")
    body["spec"]["min_replicas"] = given or "none"
    with pytest.raises(InvalidFunction, match="whole numbers"):
        workers(body)


def test_the_most_impatient_trigger_says_how_long_a_worker_may_be_silent(function: Callable[..., dict[str, Any]]) -> None:
    def asking(text: str) -> dict[str, Any]:
        return {**STREAM, "attributes": {**STREAM["attributes"], "sessionTimeout": text}}  # type: ignore[dict-item]

    assert session_timeout(function("", triggers={"in": STREAM})) == timedelta(seconds=10)
    assert session_timeout(function("", triggers={"a": asking("30s"), "b": asking("1m"), "c": STREAM})) == timedelta(seconds=30)

"""The river's benchmarks count everything, notice what is missing, and tell times as they were."""

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from churnstream.codecs import EventDecoder, encode_json
from churnstream.operations.ledger import Line
from churnstream.usecases.case import EVENT_TIME
from churnstream.usecases.first_day import CASE
from tests.bench import latency, river
from tests.bench.common import ROOT

AT = datetime(2026, 1, 1, tzinfo=UTC)


def line(function: str, source: str = "s", **counts: Any) -> Line:
    return Line(function, source, None, **counts)


def test_what_is_missing_anywhere_is_unaccounted() -> None:
    door = line(river.DOOR, "http", given=10, applied=9, invalid=1)
    assert river.unaccounted([door, line("serving", given=9, applied=9)], 10) == 0
    assert river.unaccounted([door], 12) == 2, "the door never saw them"
    assert river.unaccounted([door], 9) == 1, "one came twice"
    assert river.unaccounted([door, line("serving", given=9, applied=8)], 10) == 1
    assert river.unaccounted([door, line("serving", given=8, applied=8, waiting=1)], 10) == 1
    assert river.unaccounted([door, line("a", given=1), line("b", applied=1)], 10) == 2, (
        "a loss does not make up for an invention"
    )


def test_what_was_there_before_is_not_measured() -> None:
    before = [line("serving", given=5, applied=5, busy=timedelta(seconds=1))]
    after = [
        line("serving", given=25, applied=25, busy=timedelta(seconds=3), ended=AT),
        line("serving", "http", given=1, applied=1),
    ]
    added = river.since(after, before)
    assert [(each.given, each.applied) for each in added] == [(20, 20), (1, 1)]
    used = {name: river.Use(1.5, 2**21) for name in river.STAGES}
    told = river.figures(added, used, (AT - timedelta(seconds=4)).timestamp())
    assert told["serving"] == {
        "rows": 21, "rows_per_busy_s": 10, "busy_s": 2.0, "cpu_s": 1.5, "done_s": 4.0, "peak_rss_mb": 2,
    }  # fmt: skip
    assert told[river.DOOR]["rows"] == told[river.DOOR]["rows_per_busy_s"] == 0


def test_the_stream_is_filled_with_what_the_case_simulates(tmp_path: Path) -> None:
    journals, sent = river.fill(tmp_path, customers=10, events=300)
    assert (journals.is_dir(), sent) == (True, 310)
    assert not list(journals.glob("*-wal")), "a journal that will be moved must be whole"
    rows = [row for shard in river.payloads(tmp_path) for payload in shard for row in payload.splitlines()]
    assert CASE.simulate is not None
    assert sorted(rows) == sorted(encode_json(CASE.simulate(1, 10, 300)).splitlines())


def test_customers_are_made_known_before_any_event_that_is_measured() -> None:
    known = latency.acquaintances(20)
    measured = list(islice(latency.play(20, first=1_000), 500))
    decoder = EventDecoder(CASE)
    assert decoder.decode(encode_json([*known, *measured])).refused == ()
    assert max(each[EVENT_TIME] for each in known) < min(each[EVENT_TIME] for each in measured)
    assert {each["user_id"] for each in measured} <= {each["user_id"] for each in known}
    assert [latency.number_of(each[EVENT_TIME]) for each in measured] == list(range(1_000, 1_500))


def test_percentiles_are_in_milliseconds() -> None:
    assert latency.percentiles([0.001 * number for number in range(101)], "sent_") == {
        "sent_p50_ms": 50.0, "sent_p95_ms": 95.0, "sent_p99_ms": 99.0, "sent_max_ms": 100.0,
    }  # fmt: skip
    assert latency.percentiles([]) == {}


@pytest.mark.parametrize("wrong", [{"missing": 1}, {"not_accepted": 1}, {"sent_p99_ms": 251.0}])
def test_a_rate_is_held_only_when_everything_came_in_time(wrong: dict[str, Any]) -> None:
    good = {"missing": 0, "not_accepted": 0, "sent_p99_ms": 249.0}
    assert latency.keeps_up(good)
    assert not latency.keeps_up(good | wrong)


class Told(asyncio.Protocol):
    """A server that answers in pieces, one of them in the middle of the head."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for piece in (b"HTTP/1.1 20", b"2 Accepted\r\nContent-", b"Length: 2\r\n\r\n{", b"}"):
            self._transport.write(piece)


def test_a_request_is_answered_when_its_answer_is_whole() -> None:
    async def ask() -> latency.Request:
        loop = asyncio.get_running_loop()
        idle: asyncio.LifoQueue[latency.Connection] = asyncio.LifoQueue()
        async with await loop.create_server(Told, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            _, connection = await loop.create_connection(
                lambda: latency.Connection(b"POST / HTTP/1.1\r\nContent-Length: ", idle), "127.0.0.1", port
            )
            request = latency.Request(b"{}")
            connection.post(request)
            async with asyncio.timeout(10):
                assert await idle.get() is connection
            connection.close()
        return request

    request = asyncio.run(ask())
    assert request.status == 202
    assert request.answered > 0


def told_by(module: str, *words: str) -> list[dict[str, Any]]:
    """The lines that a benchmark prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    return [json.loads(each) for each in done.stdout.splitlines()]


@pytest.mark.parametrize("over", ["stream", pytest.param("http", marks=pytest.mark.slow)])
def test_the_river_is_measured_from_end_to_end(over: str) -> None:
    *stages, whole = told_by("tests.bench.river", "--over", over, "--customers", "20", "--events", "2000")
    assert [each["what"] for each in stages] == list(river.STAGES)
    assert [each["events"] for each in stages[:4]] == [2_020] * 4
    assert (whole["bench"], whole["events"], whole["unaccounted"]) == ("river", 2_020, 0)
    assert 0 < whole["predictions"] == stages[4]["events"] < 2_020
    assert all(0 < told["done_s"] <= whole["seconds"] + 0.1 for told in whole["stages"].values())
    assert all(told["cpu_s"] > 0 and told["peak_rss_mb"] > 50 for told in whole["stages"].values())


def test_the_latency_is_measured_from_the_door_to_the_prediction() -> None:
    rates = {"--rate": 500, "--per-request": 25, "--seconds": 1, "--single": 50, "--single-seconds": 0.5, "--steps": 1}
    small = rates | {"--customers": 40, "--idle-seconds": 0.2}
    idle, steady, single = told_by("tests.bench.latency", *(str(word) for pair in small.items() for word in pair))
    assert idle["bench"] == "idle"
    assert (steady["events"], steady["missing"], steady["not_accepted"]) == (500, 0, 0)
    assert (single["events"], single["events_per_request"]) == (25, 1)
    for each in (steady, single):
        assert 0 < each["predictions"] <= each["events"]
        assert each["sent_p50_ms"] >= each["answer_p50_ms"] > 0
        assert each["sent_p99_ms"] >= each["sent_p50_ms"] > 0

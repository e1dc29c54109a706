"""What Prometheus is told: read by its own parser, and compared with what happened."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from churnstream.journal import Changes
from churnstream.local import Home, metrics
from churnstream.local.metrics import Meter, counted, metrics_folder, page
from churnstream.local.specification import Specification
from churnstream.local.standings import Deployed, standings, states
from churnstream.operations import figures
from churnstream.operations.figures import Name
from churnstream.records import Record
from churnstream.settings import Settings, read_settings
from churnstream.topology import GENERATED
from churnstream.wiring import open_parts

NAME = "incoming-event-handler"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
Labels = frozenset[tuple[str, str]]
Samples = dict[tuple[str, Labels], float]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.ensure()
    return home


def samples(text: bytes) -> Samples:
    """(name, labels) -> value, and every name follows the conventions."""
    found: Samples = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.documentation, family.name
        assert family.name.startswith("churnstream_")
        for sample in family.samples:
            assert family.type != "counter" or sample.name.endswith("_total")
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, f"{key} is there twice"
            found[key] = sample.value
    return found


def value(found: Samples, name: str, **labels: str) -> float:
    """The one sample of ``name`` that has these labels among its own."""
    fitting = [each for (given, theirs), each in found.items() if given == name and set(labels.items()) <= theirs]
    assert len(fitting) == 1, (name, labels, fitting)
    return fitting[0]


def event(kind: str, topic: str = "", shard: int = 0) -> Any:
    return SimpleNamespace(trigger=SimpleNamespace(kind=kind), topic=topic, shard_id=shard)


def told(home: Home, *workers: tuple[int, Callable[[Meter], object]]) -> Samples:
    """What is known of the function after each worker's deeds, one worker after the other."""

    async def work() -> None:
        for number, deed in workers:
            meter = Meter(home, "shop", NAME, number, logging.getLogger("test"))
            deed(meter)
            meter.save()

    asyncio.run(work())
    return samples(page(counted([metrics_folder(home, "shop", NAME)])))


def asked(*requests: tuple[int, float]) -> Callable[[Meter], object]:
    return lambda meter: [meter.request("function", status, seconds) for status, seconds in requests]


def test_the_workers_of_a_function_are_counted_together_and_a_restart_loses_nothing(home: Home) -> None:
    once, thrice = asked((202, 0.002)), asked(*[(202, 0.002)] * 3)
    found = told(home, (0, asked((202, 0.002), (400, 0.2))), (1, thrice), (0, once))
    assert value(found, "churnstream_http_requests_total", route="function", status="202", project="shop", function=NAME) == 5
    assert value(found, "churnstream_http_requests_total", status="400") == 1
    assert value(found, "churnstream_http_request_duration_seconds_count", route="function") == 6
    assert value(found, "churnstream_http_request_duration_seconds_bucket", le="0.0025") == 5
    assert value(found, "churnstream_http_request_duration_seconds_bucket", le="+Inf") == 6
    assert value(found, "churnstream_http_request_duration_seconds_sum") == pytest.approx(0.21)


def test_handlers_are_timed_by_what_called_them_and_failures_counted_where_they_are_repeated(home: Home) -> None:
    def work(meter: Meter) -> None:
        meter.handled(event("http"), 0.1, failed=True)
        meter.handled(event("cron"), 0.2, failed=False)
        meter.handled(event("embedded-stream", GENERATED, 3), 0.3, failed=True)
        meter.handled(event("embedded-stream", GENERATED, 3), 100, failed=False)

    found = told(home, (0, work))
    sums = {kind: value(found, "churnstream_handler_duration_seconds_sum", trigger=kind) for kind in ("http", "cron", "stream")}
    assert sums == pytest.approx({"http": 0.1, "cron": 0.2, "stream": 100.3})
    assert value(found, "churnstream_handler_duration_seconds_bucket", trigger="stream", le="30.0") == 1
    assert value(found, "churnstream_record_failures_total", stream=GENERATED, shard="3") == 1


def test_what_a_function_says_of_itself_is_counted_beyond_restarts_and_told_by_worker(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = Name("churnstream_scored_rows", "Rows", (("role", "canary"),))
    held = Name("churnstream_lookup_customers", "Held", counts=False)

    def saying(count: float, now: float) -> Callable[[Meter], object]:
        def deed(meter: Meter) -> None:
            monkeypatch.setattr(metrics, "told", lambda: {rows: count, held: now})
            meter.save()

        return deed

    found = told(home, (0, saying(3, 10)), (1, saying(5, 20)), (0, saying(4, 7)), (0, saying(2, 1)))
    assert value(found, "churnstream_scored_rows_total", role="canary", project="shop", function=NAME) == 3 + 5 + 4 + 2
    assert value(found, "churnstream_lookup_customers", worker="0") == 1
    assert value(found, "churnstream_lookup_customers", worker="1") == 20
    monkeypatch.setattr(metrics, "told", dict)
    found = told(home, (0, Meter.save))  # its process has ended in order, and holds nothing any more
    assert [dict(labels)["worker"] for name, labels in found if name == "churnstream_lookup_customers"] == ["1"]


def test_within_a_process_a_counter_that_grew_is_counted_once(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Name("churnstream_scored_rows", "Rows")

    def work(meter: Meter) -> None:
        for count in (3, 3, 8, 2):  # at last another champion began to count
            monkeypatch.setattr(metrics, "told", lambda count=count: {rows: count})
            meter.save()

    assert value(told(home, (0, work)), "churnstream_scored_rows_total") == 10


def test_what_a_source_had_counted_stays_when_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures, "_sources", [])
    monkeypatch.setattr(figures, "_left", {})
    rows, held = Name("rows", "Rows"), Name("held", "Held", counts=False)
    one, other = (lambda: [(rows, 3.0), (held, 1.0)]), (lambda: [(rows, 4.0), (held, 2.0)])
    figures.tell(one)
    figures.tell(other)
    assert figures.told() == {rows: 7, held: 3}
    figures.end(one)
    figures.end(one)
    assert figures.told() == {rows: 7, held: 2}


@pytest.mark.parametrize("damage", ["", "[[1]]", "{}", "[[0.1], [], [], []]", "null", "[1, 2, 3, 4]"])
def test_what_a_power_cut_left_counts_nothing_and_counting_begins_anew(home: Home, damage: str) -> None:
    told(home, (0, asked((200, 0.1))))
    (metrics_folder(home, "shop", NAME) / "worker-0.json").write_text(damage)
    assert told(home) == {}
    assert value(told(home, (0, asked((200, 0.1)))), "churnstream_http_requests_total", status="200") == 1


def test_a_folder_that_cannot_be_written_costs_the_metrics_and_nothing_else(home: Home, caplog: pytest.LogCaptureFixture) -> None:
    (home.root / "metrics").write_text("a file where the folder should be")
    assert told(home, (0, asked((200, 0.1)))) == {}
    assert "cannot be written" in caplog.text


def test_a_worker_writes_down_what_it_counted_by_itself(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SAVE_S", 0.01)
    path = metrics_folder(home, "shop", NAME) / "worker-0.json"

    async def work() -> None:
        meter = Meter(home, "shop", NAME, 0, logging.getLogger("test"))
        meter.request("function", 200, 0.1)
        async with asyncio.timeout(20):
            while not path.exists():
                await asyncio.sleep(0.005)

    asyncio.run(work())


@pytest.fixture
def settings(home: Home) -> Settings:
    return read_settings({"CHURNSTREAM_HOME": str(home.root), "CHURNSTREAM_PROJECT": "shop"})


def test_rows_positions_and_lag_are_those_of_the_journals(settings: Settings) -> None:
    source = open_parts("event-generator", settings)
    for number in range(3):
        source.journal(2).write(Changes(appends=[(GENERATED, Record(b"{}\n" * 10, 10))]), AT + timedelta(seconds=number))
    source.close()
    handler = open_parts(NAME, settings)
    with handler.begin_at(GENERATED, 2, 0) as unit:
        unit.count("applied", 6, owner=None)
        unit.count("duplicate", 1)
        unit.count("invalid", 2)
    handler.close()
    found = samples(page(standings([Deployed(NAME, settings)], now=AT + timedelta(seconds=61))))
    place = {"function": NAME, "shard": "2"}
    rows = {
        name: value(found, "churnstream_rows_total", outcome=name, source=GENERATED, **place)
        for name in ("in", "applied", "invalid")
    }
    assert rows == {"in": 10, "applied": 6, "invalid": 2}
    assert value(found, "churnstream_events_unaccounted", source=GENERATED, function=NAME) == 1
    assert value(found, "churnstream_position_records", stream=GENERATED, **place) == 1
    assert value(found, "churnstream_lag_records", stream=GENERATED, **place) == 2
    assert value(found, "churnstream_lag_rows", source=GENERATED, **place) == 20
    assert value(found, "churnstream_lag_seconds", stream=GENERATED, **place) == 60
    assert value(found, "churnstream_lag_seconds", stream=GENERATED, function=NAME, shard="0") == 0
    assert value(found, "churnstream_journal_size_bytes", **place) > 0


def test_a_function_that_the_topology_does_not_know_has_no_ledger(home: Home) -> None:
    spec = {"metadata": {"name": "somebodys-own"}, "spec": {"env": []}}
    assert Deployed.of(Specification("shop", "somebodys-own", spec), home.root) is None
    known = Deployed.of(Specification("shop", NAME, {"metadata": {"name": NAME}, "spec": {"env": []}}), home.root)
    assert known is not None
    assert known.labels == ["shop", "first_day", NAME]


def test_the_supervisor_tells_states_workers_and_restarts(home: Home) -> None:
    workers = [{"number": 0, "state": "ready", "restarts": 2}, {"number": 1, "state": "silent", "restarts": 0}]
    functions = [
        {"project": "shop", "name": "alpha", "state": "ready", "workers": workers},
        {"project": "shop", "name": "beta", "state": "error", "workers": []},
    ]
    found = samples(page(states(functions, home)))
    assert value(found, "churnstream_build_info") == 1
    assert [value(found, "churnstream_function_ready", function=name) for name in ("alpha", "beta")] == [1, 0]
    assert value(found, "churnstream_workers", function="alpha", state="silent") == 1
    assert value(found, "churnstream_workers", function="beta", state="ready") == 0
    assert value(found, "churnstream_worker_restarts_total", worker="0") == 2

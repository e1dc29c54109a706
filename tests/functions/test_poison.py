"""A record that a function cannot apply: what is wrong with it is in the dead letters, the rest goes on, once and in order."""

import json
import logging
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pytest

from churnstream import topology, wiring
from churnstream.codecs import ARROW, EventDecoder, decode_batch
from churnstream.errors import StorageFailed
from churnstream.graph.engine import WindowEngine
from churnstream.local import courier
from churnstream.records import Record
from churnstream.topology import DEAD_LETTERS, ENRICHED, FEATURES, INCOMING, INFERENCE, SERVING
from churnstream.wiring import open_table
from tests.doors import Door
from tests.functions.river import River, assert_conserved
from tests.pumping import Pumping

WRITES = {"incoming-event-handler": INCOMING, "enrich-stream": ENRICHED, "stream-to-features": SERVING, "serving": INFERENCE}
BEFORE = {
    "incoming-event-handler": (),
    "enrich-stream": ("incoming-event-handler",),
    "stream-to-features": ("incoming-event-handler", "enrich-stream"),
    "serving": ("incoming-event-handler", "enrich-stream", "stream-to-features"),
}
Seen = tuple[str, str]  # a row: whose, and when


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(courier, "LAST_RETRY_S", 0.002)
    caplog.set_level(logging.CRITICAL, "pumping")


def event(user: str, kind: str, second: int, **more: Any) -> dict[str, Any]:
    at = f"2026-01-03T12:{second // 60:02d}:{second % 60:02d}Z"
    return {"user_id": user, "event_type": kind, "event_time": at, **more}


def day(customers: int = 10, rows: int = 1_000) -> list[dict[str, Any]]:
    """A registration, a purchase and many bets of each customer; no two rows at one instant."""
    people = [f"u{number}" for number in range(customers)]
    first = [
        event(user, "new_registration", place, **dict.fromkeys(("name", "street_address", "city", "country"), "x"))
        | {"date_of_birth": "1990-01-01", "postcode": "1", "affiliate_url": "x", "campaign": "x", "label": 0}
        for place, user in enumerate(people)
    ]
    first += [event(user, "new_purchases", customers + place, amount=10.0) for place, user in enumerate(people)]
    rest = rows - len(first)
    return first + [
        event(people[place % customers], "new_bet", 2 * customers + place, bet_amount=1.0 + place) for place in range(rest)
    ]


def rows_of(batch: pa.RecordBatch) -> set[Seen]:
    users, times = batch.column("user_id").to_pylist(), batch.column("event_time").to_pylist()
    return {(user, f"{at:%Y-%m-%dT%H:%M:%SZ}") for user, at in zip(users, times, strict=True)}


def seen(row: Mapping[str, Any]) -> Seen:
    at = row["event_time"]
    return row["user_id"], at if isinstance(at, str) else f"{at:%Y-%m-%dT%H:%M:%SZ}"


Fails = Callable[[set[Seen]], bool]


@contextmanager
def planted(door: Door, fails: Fails) -> Iterator[None]:
    """Until the block ends, the function's real work raises on batches of which ``fails(rows)``."""

    def choke(batch: pa.RecordBatch) -> None:
        if fails(rows_of(batch)):
            raise ZeroDivisionError("a planted fault")

    decode, apply = EventDecoder.decode, WindowEngine.apply

    def decoded(self: EventDecoder, body: Any) -> Any:
        found = decode(self, body)
        choke(found.batch)
        return found

    def applied(self: WindowEngine, batch: pa.RecordBatch, states: bool = True) -> Any:
        done = apply(self, batch, states)  # and memory has changed already
        choke(batch)
        return done

    with pytest.MonkeyPatch.context() as patch:
        if door.name == "incoming-event-handler":
            patch.setattr(EventDecoder, "decode", decoded)
        elif door.name == "stream-to-features":
            patch.setattr(WindowEngine, "apply", applied)
        else:
            name = {"enrich-stream": "enrich", "serving": "score_batch"}[door.name]
            work = getattr(door.module, name)

            def worked(batch: pa.RecordBatch, *told: Any) -> Any:
                choke(batch)
                return work(batch, *told)

            patch.setattr(door.module, name, worked)
        yield


def pump(river: River, name: str, fails: Fails, stop: int | None = None) -> Pumping:
    """Let the function read all that waits, or end it after ``stop`` deliveries."""
    with river.door(name) as door, planted(door, fails):
        pumping = Pumping(door, river.settings)
        pumping.run(None if stop is None else lambda: len(pumping.calls) >= stop)
    return pumping


@pytest.fixture
def waiting(new_river: Callable[..., River]) -> Callable[..., River]:
    """``waiting(name)`` is a river in which a thousand rows wait for the function."""

    def make(name: str, events: list[dict[str, Any]] | None = None) -> River:
        river = new_river()
        river.send(events or day(), rows=1_000)
        river.flow(*BEFORE[name])
        return river

    return make


@pytest.fixture(params=list(WRITES))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def input_rows(river: River, name: str) -> list[tuple[tuple[int, int, int], Seen]]:
    """Where each row stands that the function is given, and which it is."""
    (stream,) = topology.function(name).reads
    found = []
    for record in river.records(stream):
        arrow = record.headers.get("content-type") == ARROW
        rows = decode_batch(record.payload).to_pylist() if arrow else [json.loads(each) for each in record.payload.splitlines()]
        found += [((record.shard, record.offset, row), seen(each)) for row, each in enumerate(rows)]
    return found


def letters(river: River, name: str) -> list[dict[str, Any]]:
    return river.rows(DEAD_LETTERS, name)


def outputs(river: River, name: str) -> dict[str, list[Seen]]:
    """What the function wrote, by customer, in order."""
    found: dict[str, list[Seen]] = {}
    for row in river.rows(WRITES[name]):
        found.setdefault(row["user_id"], []).append(seen(row))
    return found


def some(river: River, name: str, *numbers: int) -> list[tuple[tuple[int, int, int], Seen]]:
    """Rows of bets among those that the function is given."""
    bets = [each for each in input_rows(river, name) if each[1][1] > "2026-01-03T12:00:30Z"]
    return [bets[number] for number in numbers]


@pytest.mark.parametrize("numbers", [(400,), (3, 4, 5, 300, 301, 940)])
def test_the_poisonous_rows_alone_are_in_dead_letters_and_the_rest_goes_on_in_order(
    name: str, numbers: tuple[int, ...], waiting: Callable[..., River]
) -> None:
    river = waiting(name)
    poison = some(river, name, *numbers)
    bad = {row for _, row in poison}
    pumping = pump(river, name, lambda rows: bool(rows & bad))
    found = letters(river, name)
    assert sorted((each["shard"], each["offset"], each["row"]) for each in found) == sorted(place for place, _ in poison)
    assert {seen(json.loads(each["payload"])) for each in found} == bad
    assert all(each["reason"].endswith("ZeroDivisionError: a planted fault") for each in found)
    assert_conserved(river, name)
    (line,) = [line for line in river.lines().values() if line.function == name and line.given]
    assert (line.given, line.invalid) == (line.applied + len(bad), len(bad))
    undisturbed = waiting(name)
    undisturbed.flow(name)
    wanted = outputs(undisturbed, name)
    assert outputs(river, name) == {user: [row for row in rows if row not in bad] for user, rows in wanted.items()}
    shards = len({place[0] for place, _ in poison})
    assert len(pumping.calls) <= 8 + shards * (5 + 2) + len(bad) * 2 * 10


def test_when_every_row_is_poison_the_record_is_passed_with_all_of_them_in_dead_letters(
    name: str, waiting: Callable[..., River]
) -> None:
    river = waiting(name, day(customers=1, rows=80))
    given = input_rows(river, name)
    pumping = pump(river, name, bool)
    assert sorted((each["shard"], each["offset"], each["row"]) for each in letters(river, name)) == [place for place, _ in given]
    assert outputs(river, name) == {}
    assert_conserved(river, name)
    assert len(pumping.calls) <= 5 + 2 * len(given) + 2 * 7


def test_rows_that_fail_only_together_lose_one_of_them(waiting: Callable[..., River]) -> None:
    river = waiting("stream-to-features", day(customers=1, rows=200))
    (_, one), (place, other) = some(river, "stream-to-features", 10, 120)
    pump(river, "stream-to-features", lambda rows: {one, other} <= rows)
    (letter,) = letters(river, "stream-to-features")
    assert (letter["shard"], letter["offset"], letter["row"]) == place
    assert_conserved(river, "stream-to-features")


def test_vectors_say_where_their_event_stood_before_rows_were_left_out(waiting: Callable[..., River]) -> None:
    river = waiting("stream-to-features", day(customers=1, rows=100))
    stood = {row: place for place, row in input_rows(river, "stream-to-features")}
    bad = {row for _, row in some(river, "stream-to-features", 5, 20, 21)}
    pump(river, "stream-to-features", lambda rows: bool(rows & bad))
    vectors = river.rows(SERVING)
    assert len(vectors) > 50
    for row in vectors:
        assert (row["origin_offset"], row["origin_row"]) == stood[seen(row)][1:]


def test_a_kill_between_the_trials_and_the_end_changes_nothing(waiting: Callable[..., River]) -> None:
    name, events = "stream-to-features", day(customers=1, rows=300)
    river, undisturbed = waiting(name, events), waiting(name, events)
    bad = {row for _, row in some(river, name, 200)}
    for stop in (6, 9, 13, 15):
        pump(river, name, lambda rows: bool(rows & bad), stop)
    for each in (river, undisturbed):
        pump(each, name, lambda rows: bool(rows & bad))

    def durable(river: River) -> Any:
        table = open_table(FEATURES, river.settings)
        found = sorted(table.items())
        table.close()
        told = [{key: value for key, value in each.items() if key != "refused_at"} for each in letters(river, name)]
        return found, told, outputs(river, name), river.lines()[name, ENRICHED].sentence()

    assert len(letters(river, name)) == 1
    assert durable(river) == durable(undisturbed)


@pytest.mark.parametrize("failure", [StorageFailed("the disk is full"), OSError("gone"), sqlite3.OperationalError("locked")])
def test_while_a_dependency_is_down_the_position_stops_the_sentence_is_told_and_nothing_is_refused(
    failure: Exception, waiting: Callable[..., River]
) -> None:
    name = "stream-to-features"
    river = waiting(name, day(customers=1, rows=50))
    told: set[str] = set()
    apply = WindowEngine.apply

    def away(self: WindowEngine, batch: pa.RecordBatch, states: bool = True) -> Any:
        told.update(pump.trouble for pump in pumping.pumps if pump.trouble)
        if len(pumping.calls) < 30:
            raise type(failure)(str(failure))
        return apply(self, batch, states)

    with river.door(name) as door, pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowEngine, "apply", away)
        pumping = Pumping(door, river.settings)
        pumping.run()
    assert len(told) == 1
    assert f"{type(failure).__name__}: {failure}" in told.pop()
    assert [pump.trouble for pump in pumping.pumps if pump.trouble] == []
    assert letters(river, name) == []
    assert_conserved(river, name)


def test_a_record_that_is_no_batch_is_in_dead_letters_as_a_whole(river: River) -> None:
    with river.environment():
        parts = wiring.open_parts("enrich-stream")
        with parts.begin() as unit:
            unit.append(ENRICHED, Record(b"\xff\x00no batch", 7, "ann", {"content-type": ARROW}))
        parts.close()
    with river.door("stream-to-features") as door:
        Pumping(door, river.settings).run()
    (letter,) = letters(river, "stream-to-features")
    assert letter["row"] is None
    assert "the payload is no Arrow stream" in letter["reason"]
    assert river.lines()["stream-to-features", ENRICHED].invalid == 7
    assert_conserved(river, "stream-to-features")


def test_a_lookup_table_that_cannot_be_read_stops_the_position_and_recovers_by_itself(waiting: Callable[..., River]) -> None:
    name = "enrich-stream"
    river = waiting(name, day(customers=10, rows=100))
    river.job("enrichment-table", "build")
    files = {path: path.read_bytes() for path in river.home.rglob("enrichment-table/*.db")}
    assert files
    for path in files:
        for suffix in ("", "-wal", "-shm"):  # another file: who closes the first one later may write into it then
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.write_bytes(b"no database, but long enough to be looked at" * 1_000)
    with river.door(name) as door:
        pumping = Pumping(door, river.settings)

        def look() -> bool:
            if len(pumping.calls) > 60 and any(pump.trouble for pump in pumping.pumps):
                for path, content in files.items():
                    path.write_bytes(content)
                return True
            return False

        pumping.run(until=look)
        pumping.run()
    assert letters(river, name) == []
    assert_conserved(river, name)
    assert len(river.rows(ENRICHED)) == 100

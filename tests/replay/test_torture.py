"""The crash harness: its deck is fair, its producer repeats itself, it notices what is lost or twice, and the river survives."""

import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from churnstream import failpoints
from churnstream.operations.ledger import Line
from churnstream.reading import count
from churnstream.records import shard_of
from churnstream.settings import Settings, read_settings
from churnstream.topology import GENERATED, SHARDS
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, KEY
from churnstream.wiring import open_stream
from tests.replay.torture import fire
from tests.replay.torture.events import STRAYS, events, size
from tests.replay.torture.feed import Feed, serve
from tests.replay.torture.outcome import Outcome, beyond, once
from tests.replay.torture.posting import EVENTS_EACH, Request, requests_of, requests_with_ids, requests_with_keys

CUSTOMERS, EVENTS = 40, 4_000
STRAY = size(CUSTOMERS, EVENTS) // 40


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({"CHURNSTREAM_HOME": str(tmp_path / "home")})


def outcome(*rows: int) -> Outcome:
    return Outcome({"predictions": np.sort(np.array(rows, np.uint64))}, (), 0, 0)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_thousand_kills_hit_each_failpoint_ten_times_at_least_and_every_kind_of_process(seed: int) -> None:
    deeds = Counter(fire.deck(1_000, random.Random(seed)))
    assert deeds.total() == 1_000
    assert min(deeds[name] for name in failpoints.NAMES) >= 10
    assert min(deeds[kind] for kind in (fire.WORKER, fire.NURSERY, fire.SUPERVISOR, fire.GENERATOR)) >= 5


def test_fifty_kills_hit_everything_once_at_least() -> None:
    deeds = Counter(fire.deck(50, random.Random(1)))
    assert deeds.total() == 50
    assert set(deeds) == {*failpoints.NAMES, fire.WORKER, fire.NURSERY, fire.SUPERVISOR, fire.GENERATOR}


def test_what_is_lost_is_told_from_what_is_there_twice() -> None:
    calm = outcome(1, 2, 2, 3)
    assert beyond(calm, outcome(1, 2, 2, 3)) == {"predictions": 0}
    assert (beyond(calm, outcome(1, 2, 3)), beyond(outcome(1, 2, 3), calm)) == ({"predictions": 1}, {"predictions": 0})
    assert (beyond(calm, outcome(1, 1, 2, 2, 3)), beyond(outcome(1, 1, 2, 2, 3), calm)) == (
        {"predictions": 0},
        {"predictions": 1},
    )
    assert calm.digests != outcome(1, 2, 3).digests


def test_a_producer_that_begins_again_adds_what_is_missing_and_nothing_else(settings: Settings) -> None:
    total = size(CUSTOMERS, EVENTS)
    for target, piece in ((1_000, 70), (2_500, 300), (total, total)):
        feed = Feed(settings, 1, CUSTOMERS, EVENTS)
        assert [*serve(feed, [f"{target}\n"], piece)][-1] == target
        feed.close()
    assert len([*events(1, CUSTOMERS, EVENTS)]) == total
    assert count(GENERATED, settings) == total + STRAY


@pytest.mark.parametrize(("customers", "count"), [(2_000, 2_000), (500, 20_000)])
def test_there_are_strays_beside_all_events(settings: Settings, customers: int, count: int) -> None:
    feed, total = Feed(settings, 2, customers, count), size(customers, count)
    assert [*serve(feed, [f"{total}"], total)][-1] == total
    feed.close()


def test_the_strays_keep_their_order_in_one_shard_that_is_not_theirs(settings: Settings) -> None:
    feed = Feed(settings, 1, CUSTOMERS, EVENTS)
    assert [*serve(feed, [f"{size(CUSTOMERS, EVENTS)}"], 500)]
    feed.close()
    reader, where = open_stream(GENERATED, settings), shard_of(STRAYS, SHARDS)
    records = [each for each in reader.read(where, 0, 10**6, 10**9) if each.key == STRAYS]
    reader.close()
    rows = [json.loads(line) for each in records for line in each.payload.splitlines()]
    assert len(rows) == STRAY
    assert len({shard_of(row[KEY], SHARDS) for row in rows}) > 3
    times = [row[EVENT_TIME] for row in rows]
    assert times == sorted(times)


@pytest.mark.parametrize("made", [requests_with_ids, requests_with_keys])
def test_a_client_sends_the_same_requests_each_time_with_customers_of_its_own(
    made: Callable[[int, int], Iterator[Request]],
) -> None:
    sent = list(made(3, 10))
    assert sent == list(made(3, 10))
    assert len({each.body for each in sent}) == 10
    rows = [json.loads(line) for each in sent for line in each.body.splitlines()]
    assert {row[KEY][0] for row in rows} == ({"i"} if made is requests_with_ids else {"k"})
    by_customer: dict[str, list[str]] = {}
    for row in rows:
        by_customer.setdefault(row[KEY], []).append(row[EVENT_TIME])
    assert all(times[0] == min(times) for times in by_customer.values())


def test_ids_and_keys_tell_what_is_sent_twice() -> None:
    ids = [json.loads(line)[EVENT_ID] for each in requests_with_ids(1, 10) for line in each.body.splitlines()]
    assert (len(ids), len(set(ids))) == (10 * (EVENTS_EACH + 2), 10 * EVENTS_EACH)
    assert len({each.headers["Idempotency-Key"] for each in requests_with_keys(1, 10)}) == 10
    assert (requests_of(100), requests_of(50_000), requests_of(2_000_000)) == (5, 62, 200)


def test_what_came_twice_over_http_is_left_out_of_the_comparison_and_nothing_else() -> None:
    http, stream = (Line("door", source, None, given=10, applied=6, duplicate=3, invalid=1) for source in ("http", "events"))
    assert once(http) == Line("door", "http", None, given=7, applied=6, invalid=1)
    assert once(stream) == stream


@pytest.mark.slow
def test_fifty_kills_lose_nothing_and_make_nothing_twice(root: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.replay.torture",
        "--kills",
        "50",
        "--events",
        "50000",
        "--customers",
        "200",
        "--quiet",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    told = json.loads(done.stdout)
    assert (told["torture"], told["lost"], told["double"], told["unaccounted"], told["unfinished_files"]) == (
        "passed",
        0,
        0,
        0,
        0,
    )
    assert told["kills"] >= 50
    assert told["requests"] == 2 * requests_of(50_000)
    assert told["requests_sent_again"] >= told["requests_unanswered"] > 0
    assert min(told["failpoints"].values()) >= 1

"""Several workers a function: whatever happens to them, what comes out is what one calm worker makes of the same events."""

import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from churnstream import topology
from churnstream.journal import Changes
from churnstream.local import Home, SupervisorClient
from churnstream.reading import peek, totals
from churnstream.records import Delivered, Record
from churnstream.settings import Settings, read_settings
from churnstream.topology import ENRICHED, FEATURES, INFERENCE, SERVING, SHARDS
from churnstream.wiring import open_parts, open_stream, open_table
from tests.replay.notebook import deploy, generate
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

RIVER = [each.name for each in topology.FUNCTIONS if each.kind != "job"]
UPSTREAM = ["incoming-event-handler", "enrich-stream"]
WATCHED = "stream-to-features"
CUSTOMERS, EVENTS = 200, 24_000
RATE = 2_400  # events a second, while workers are disturbed
SILENCE = "1s"  # after which others get a worker's shards
IN_SMALL_RECORDS = 1e9  # as a rate: nothing is waited for, and records are as small as with any rate


class Platform:
    """A platform in a home of its own."""

    def __init__(self, home: Path):
        home.mkdir(exist_ok=True)
        self.home = home
        self.client = SupervisorClient(Home(home))
        self.settings: Settings = read_settings({"CHURNSTREAM_HOME": str(home)})

    def workers(self, name: str) -> list[dict[str, Any]]:
        return self.client.find(name)["workers"]

    def drain(self, names: list[str]) -> None:
        for name in names:
            wait_until(lambda name=name: self.client.find(name)["state"] == "ready")
            self.client.drain(name, timedelta(seconds=90))


def table(settings: Settings) -> dict[str, str]:
    return {key: hashlib.sha256(value).hexdigest() for key, value in open_table(FEATURES, settings).items()}


def records(stream: str, settings: Settings) -> list[list[Delivered]]:
    """Of each shard, the records of ``stream`` in order."""
    reader = open_stream(stream, settings)
    found = [list(reader.read(shard, 0, 10**9, 10**12)) for shard in range(SHARDS)]
    reader.close()
    return found


@pytest.fixture(scope="module")
def enriched(tmp_path_factory: pytest.TempPathFactory) -> list[list[Delivered]]:
    """Of each shard, what stands before the features."""
    platform = Platform(tmp_path_factory.mktemp("upstream") / "home")
    try:
        deploy(platform.home, UPSTREAM)
        assert generate(platform.home, CUSTOMERS, EVENTS // 2, IN_SMALL_RECORDS).wait() == 0
        platform.drain(UPSTREAM)
    finally:
        platform.client.down(timedelta(0))
    found = records(ENRICHED, platform.settings)
    assert min(len(each) for each in found) > 50
    return found


def features_of(
    platform: Platform, enriched: list[list[Delivered]], workers: int, between: Sequence[Callable[[Platform], object]] = ()
) -> tuple[object, object, object]:
    """The feature table, the stream behind it byte by byte, and the account, as so many workers make them of the same records.

    The records come in parts, and ``between`` is done between two of them.
    """
    source = open_parts("enrich-stream", platform.settings)
    try:
        deploy(platform.home, [WATCHED], workers, lookup=False, session_timeout=SILENCE)
        assert [len(each["shards"]) for each in platform.workers(WATCHED)] == [SHARDS // workers] * workers
        for part in range(len(between) + 1):
            for shard, each in enumerate(enriched):
                some = each[part * len(each) // (len(between) + 1) : (part + 1) * len(each) // (len(between) + 1)]
                appends = [(ENRICHED, Record(record.payload, record.rows, record.key, record.headers)) for record in some]
                source.journal(shard).write(Changes(appends=appends), datetime.now(UTC))
            # not drained: that makes a worker forget what it has in memory, as giving up a shard must
            wait_until(lambda: platform.client.find(WATCHED)["streams"][0]["lag"] == 0)
            if part < len(between):
                between[part](platform)
    finally:
        platform.client.down(timedelta(0))
        source.close()
    account = [line.sentence() for line in totals(platform.settings) if line.function == WATCHED]
    behind = [[each.payload for each in shard] for shard in records(SERVING, platform.settings)]
    return table(platform.settings), behind, account


@pytest.fixture(scope="module")
def by_one(enriched: list[list[Delivered]], tmp_path_factory: pytest.TempPathFactory) -> tuple[object, object, object]:
    """What one worker makes of it."""
    return features_of(Platform(tmp_path_factory.mktemp("one") / "home"), enriched, 1)


def test_two_workers_make_of_the_same_records_the_same_features_byte_by_byte(
    enriched: list[list[Delivered]], by_one: tuple[object, object, object], tmp_path: Path
) -> None:
    assert len(by_one[0]) == CUSTOMERS  # type: ignore[arg-type]
    assert features_of(Platform(tmp_path / "home"), enriched, 2) == by_one


def test_a_shard_that_was_elsewhere_goes_on_from_there_when_it_comes_back(
    enriched: list[list[Delivered]], by_one: tuple[object, object, object], tmp_path: Path
) -> None:
    def scaled(workers: int) -> Callable[[Platform], object]:
        return lambda platform: scale(platform, WATCHED, workers)

    def kill_one(platform: Platform) -> None:
        victim = platform.workers(WATCHED)[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: platform.workers(WATCHED)[0]["pid"] not in (victim, None))

    there_and_back = [scaled(3), scaled(2), kill_one, scaled(1), scaled(2), scaled(1)]
    assert features_of(Platform(tmp_path / "home"), enriched, 2, there_and_back) == by_one


def scale(platform: Platform, name: str, workers: int) -> None:
    """As ``churnstream scale`` does."""
    platform.client._ask("PUT", f"/functions/churnstream/{name}/workers", {"workers": workers}, 120)


def disturb(platform: Platform, rng: random.Random, stopped: list[int]) -> None:
    """One bad thing to one worker: killed, stopped until others have its shards, started again, or one more or less of them."""
    name = rng.choice(RIVER)
    pids = [each["pid"] for each in platform.workers(name) if each["pid"] and each["pid"] not in stopped]
    match rng.choice(("kill", "kill", "stop", "continue", "scale")):
        case "kill" if pids:
            os.kill(rng.choice(pids), signal.SIGKILL)
        case "stop" if pids and name == WATCHED:
            stopped.append(rng.choice(pids))
            os.kill(stopped[-1], signal.SIGSTOP)
        case "continue" if stopped:
            wake(stopped)
        case "scale":
            scale(platform, name, rng.choice((1, 2, 3)))


def wake(stopped: list[int]) -> None:
    for pid in stopped:
        try:
            os.kill(pid, signal.SIGCONT)
        except ProcessLookupError:
            continue  # it was killed meanwhile
    stopped.clear()


def run_river(home: Path, workers: int, seed: int | None) -> tuple[dict[str, object], list[str]]:
    """The whole river over the same seeded events; with a ``seed`` its workers are disturbed while they flow."""
    platform, stopped = Platform(home), []  # type: ignore[var-annotated]
    rng = random.Random(seed)
    try:
        deploy(home, RIVER, workers, session_timeout=SILENCE)
        with generate(home, CUSTOMERS, EVENTS, 0 if seed is None else RATE) as generator:
            while generator.poll() is None:
                if seed is not None:
                    disturb(platform, rng, stopped)
                time.sleep(rng.uniform(0.1, 0.6))
            assert generator.returncode == 0
        wake(stopped)
        platform.drain(RIVER)
    finally:
        wake(stopped)
        platform.client.down(timedelta(seconds=10))
    predictions = peek(INFERENCE, 0, platform.settings)[["user_id", "event_time", "probability", "churns"]]
    one_by_one = predictions.groupby("user_id", sort=True).agg(list)  # of each customer, in the order in which they came out
    outcome = {"features": table(platform.settings), "predictions": one_by_one.to_dict("index")}
    return outcome, [line.sentence() for line in totals(platform.settings)]


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], list[str]]:
    """What one worker a function makes of it, and nothing happens to any."""
    return run_river(tmp_path_factory.mktemp("calm") / "home", 1, None)


@pytest.mark.parametrize("seed", [1, 2])
def test_whatever_happens_to_workers_nothing_is_lost_doubled_or_out_of_order(
    tmp_path: Path, calm: tuple[dict[str, object], list[str]], seed: int
) -> None:
    disturbed = run_river(tmp_path / "home", 2, seed)
    assert disturbed[1] == calm[1]
    assert disturbed[0] == calm[0]

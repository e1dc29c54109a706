"""Real processes: what somebody who runs this sees of lag and damage, and that the rest goes on."""

import contextlib
import sqlite3
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from churnstream.errors import UnknownFunction
from churnstream.journal import Changes, Journal
from churnstream.local import SupervisorClient
from churnstream.local.progress import Rates
from churnstream.records import Record
from churnstream.settings import Settings, read_settings
from churnstream.topology import GENERATED, SHARDS
from churnstream.wiring import open_parts

NAME = "incoming-event-handler"
COUNT = """
from churnstream.wiring import open_parts

def init_context(context):
    context.user_data.parts = open_parts("incoming-event-handler")

def handler(context, event):
    if event.trigger.kind != "http":
        with context.user_data.parts.begin(event) as unit:
            unit.count("applied", 5)
"""
RECORDS = 4


@pytest.fixture
def project(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("_", "-")[:60]


@pytest.fixture
def settings(platform: SupervisorClient, project: str) -> Settings:
    """Of a case with records in every shard of the first stream."""
    settings = read_settings({"CHURNSTREAM_HOME": str(platform.home.root), "CHURNSTREAM_PROJECT": project})
    parts = open_parts("event-generator", settings)
    for shard in range(SHARDS):
        appends = [(GENERATED, Record(b"%d" % number, rows=5)) for number in range(RECORDS)]
        parts.journal(shard).write(Changes(appends=appends), datetime.now(UTC) - timedelta(hours=1))
    parts.close()
    return settings


@pytest.fixture
def deploy(
    platform: SupervisorClient, settings: Settings, function: Callable[..., dict[str, Any]]
) -> Iterator[Callable[[], None]]:
    def start() -> None:
        body = function(COUNT, name=NAME, triggers={"in": {"kind": "embedded-stream", "attributes": {"stream": GENERATED}}})
        state = platform.deploy(settings.project, NAME, body)
        assert (state["state"], state["message"]) == ("ready", "")

    yield start
    with contextlib.suppress(UnknownFunction):
        platform.delete(settings.project, NAME)


def alter(settings: Settings, function: str, shard: int, statement: str) -> Path:
    path = Path(settings.streams.removeprefix("embedded://")) / function / f"{shard:02d}.db"
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()
    return path


def looked_at(platform: SupervisorClient, project: str) -> dict[str, Any]:
    """The function as `churnstream status` has it, and its stream with it."""
    found = next(each for each in platform.status()["functions"] if each["project"] == project)
    return found | {"stream": found["streams"][0]}


def test_a_damaged_record_stops_its_shard_says_so_and_stops_nothing_else(
    platform: SupervisorClient, settings: Settings, deploy: Callable[[], None], wait_until: Callable[..., Any]
) -> None:
    path = alter(settings, "event-generator", 2, f"UPDATE \"log {GENERATED}\" SET payload = x'00' WHERE offset = 1")
    deploy()
    seen = wait_until(
        lambda: (now := looked_at(platform, settings.project))["stream"]["lag"] <= RECORDS and now["stream"]["trouble"] and now
    )
    assert seen["stream"]["positions"] == [4, 4, 0, 4, 4, 4, 4, 4]  # what came in one reading with the damage waits with it
    sentence = (
        f"the journal {path} is damaged: in the stream {GENERATED}, shard 2, the record at offset 1 does not match its checksum"
    )
    assert any(sentence in each for each in seen["stream"]["trouble"])
    assert (seen["stream"]["lag_rows"], seen["stream"]["rows"]) == (20, 140)
    assert 3_600 <= seen["stream"]["lag_s"] < 3_700
    assert (seen["state"], seen["restarts"]) == ("ready", 0)


def test_damaged_positions_stop_their_shard_say_so_and_stop_nothing_else(
    platform: SupervisorClient, settings: Settings, deploy: Callable[[], None], wait_until: Callable[..., Any]
) -> None:
    mine = Path(settings.streams.removeprefix("embedded://")) / NAME / "05.db"
    journal = Journal(mine, writable=True)
    journal.write(Changes(positions={(GENERATED, 5): 1}), datetime.now(UTC))
    journal.close()
    alter(settings, NAME, 5, "UPDATE position SET next_offset = 3")
    deploy()
    seen = wait_until(
        lambda: (now := looked_at(platform, settings.project))["stream"]["position"] == RECORDS * (SHARDS - 1) and now
    )
    assert any(f"the journal {mine} is damaged: in its table position" in each for each in seen["stream"]["trouble"])
    assert (seen["state"], seen["restarts"]) == ("ready", 0)


def test_a_rate_is_what_was_read_between_two_looks() -> None:
    rates = Rates()
    assert rates.look({"stream": "s", "rows": 1_000}, 10.0) is None
    assert rates.look({"stream": "s", "rows": 1_010}, 10.1) is None  # too soon to say
    assert rates.look({"stream": "s", "rows": 1_500}, 12.0) == 250.0
    assert rates.look({"stream": "s", "rows": 1_500}, 12.1) == 250.0
    assert rates.look({"stream": "other", "rows": 7}, 13.0) is None
    assert rates.look({"stream": "s", "rows": 1_500}, 14.0) == 0.0

"""A full disk refuses, says so, and loses nothing: what was promised is there, what was refused can be sent again."""

import json
from typing import Any

import pyarrow.dataset as ds
import pytest

from churnstream import topology
from churnstream.errors import StorageFailed
from churnstream.topology import INCOMING
from tests.doors import Door
from tests.faults.conftest import Disk
from tests.functions.river import River, assert_conserved

DOOR, ARCHIVE, FEATURES = "incoming-event-handler", "stream-to-parquet", "stream-to-features"
MANY = 400


def bets(first: int, count: int = MANY, customers: int = 1) -> list[dict[str, Any]]:
    """Distinct bets: their amounts tell them apart. Those of one customer are durable together or not at all."""
    return [
        {
            "user_id": f"u{number % customers}",
            "event_type": "new_bet",
            "event_time": f"2026-01-03T12:{number // 60 % 60:02d}:{number % 60:02d}Z",
            "bet_amount": float(number),
        }
        for number in range(first, first + count)
    ]


def post(door: Door, events: list[dict[str, Any]]) -> tuple[int, dict[str, Any], dict[str, str]]:
    answer = door.post(json.dumps(events).encode())
    return answer.status_code, json.loads(answer.body), dict(answer.headers or {})


def amounts(river: River) -> list[float]:
    return sorted(row["bet_amount"] for row in river.rows(INCOMING))


def test_the_door_refuses_with_503_and_takes_the_same_events_once_there_is_room(river: River, disk: Disk) -> None:
    with river.door(DOOR) as door:
        assert post(door, bets(0))[0] == 202
        disk.fill()
        first, refused = MANY, None
        while refused is None:  # a file may have room left in pages that it has already
            status, told, headers = post(door, bets(first))
            if status == 503:
                refused = told, headers["Retry-After"]
            else:
                assert status == 202
                first += MANY
        assert refused == ({"error": "not everything could be written; send this again"}, "5")
        promised = amounts(river)
        assert promised == [float(number) for number in range(first)], "what was promised is there, what was refused is not"
        disk.free()
        assert post(door, bets(first))[0] == 202
    assert amounts(river) == [float(number) for number in range(first + MANY)]
    assert_conserved(river, DOOR)


def test_the_archive_keeps_its_rows_in_the_stream_until_there_is_room(river: River, disk: Disk) -> None:
    with river.door(DOOR) as door:
        assert post(door, bets(0, customers=40))[0] == 202
    with river.door(ARCHIVE) as archive:
        archive.pump()
        disk.fill()
        with pytest.raises(StorageFailed, match="could not be written"):
            archive.drain()
        assert [*river.settings.archive.rglob("*.parquet")] == []
        assert archive.acknowledged == []
        disk.free()
        archive.drain()
    table = ds.dataset(river.settings.archive, format="parquet", partitioning="hive").to_table()
    assert sorted(table.column("bet_amount").to_pylist()) == [float(number) for number in range(MANY)]
    assert [*river.settings.archive.rglob("*.part")] == []
    assert_conserved(river, ARCHIVE)


def test_a_record_that_found_no_room_is_applied_once_when_it_comes_again(river: River, disk: Disk) -> None:
    with river.door(DOOR) as door:
        assert post(door, bets(0, customers=40))[0] == 202
    river.flow("enrich-stream")
    records = {each.shard: each for each in river.records(topology.ENRICHED)}
    with river.door(FEATURES) as features:
        disk.fill()
        refused = 0
        for shard, record in records.items():
            try:
                features.apply(topology.ENRICHED, shard, record)
            except StorageFailed:
                refused += 1
        disk.free()
        assert refused
        features.pump()
    assert_conserved(river, FEATURES)
    assert river.lines()[FEATURES, topology.ENRICHED].applied == MANY

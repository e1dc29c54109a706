"""The archive: every row in exactly one file, whole files only, whatever happens on the way."""

import asyncio
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from churnstream.codecs import decode_batch
from churnstream.errors import StorageFailed
from churnstream.local import courier
from churnstream.stages import archive
from churnstream.topology import DEAD_LETTERS, INCOMING
from churnstream.wiring import open_positions
from tests.doors import Door
from tests.functions.river import River, assert_conserved
from tests.pumping import Pumping

HANDLER, NAME = "incoming-event-handler", "stream-to-parquet"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)


class Killed(BaseException):
    """The process ends here."""


def files(river: River) -> list[Path]:
    return sorted(path for path in river.settings.archive.rglob("*") if path.is_file())


def archived(river: River) -> list[tuple[Any, ...]]:
    """(user_id, event_time, amounts, origin) of every archived row."""
    if not any(path.suffix == ".parquet" for path in files(river)):
        return []
    table = ds.dataset(river.settings.archive, format="parquet", partitioning="hive", exclude_invalid_files=False).to_table()
    return sorted(tuple(map(str, row.values())) for row in table.drop_columns(["event_date"]).to_pylist())


def incoming(river: River) -> list[tuple[Any, ...]]:
    """What ``archived`` should be, from the stream itself."""
    rows = [
        row | {"origin_offset": record.offset, "origin_row": place}
        for record in river.records(INCOMING)
        for place, row in enumerate(decode_batch(record.payload).to_pylist())
    ]
    return sorted(tuple(map(str, row.values())) for row in rows)


def positions(river: River) -> list[int]:
    opened = open_positions(NAME, river.settings)
    found = [opened.get(INCOMING, shard) for shard in range(8)]
    opened.close()
    return found


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with 1,040 events of some eight days in its incoming stream, in several records a shard."""
    river = River(tmp_path_factory.mktemp("template"), "first_day")
    river.generate(customers=40, events=1_000, rate=1e9)
    river.flow(HANDLER)
    shards = [record.shard for record in river.records(INCOMING)]
    assert min(shards.count(shard) for shard in range(8)) > 1
    return river.home


@pytest.fixture
def filled(template: Path, tmp_path: Path) -> River:
    """A river of one's own that is filled already."""
    return River(Path(shutil.copytree(template, tmp_path / "home")), "first_day")


def bets(count: int, user: str = "ann") -> list[dict[str, Any]]:
    at = "2026-01-03T12:00:00Z"
    return [{"user_id": user, "event_type": "new_bet", "event_time": at, "bet_amount": number} for number in range(count)]


def test_every_row_lies_in_the_folder_of_its_day(filled: River) -> None:
    filled.flow(NAME)
    assert archived(filled) == incoming(filled)
    days = set()
    for path in files(filled):
        (day,) = {each.date() for each in pq.read_table(path, partitioning=None).column("event_time").to_pylist()}
        assert path.parent.name == f"event_date={day.isoformat()}"
        days.add(day)
    assert len(days) > 4
    assert_conserved(filled, NAME)


def test_a_day_ends_at_midnight_utc(river: River) -> None:
    times = ["2026-01-03T23:59:59.999999Z", "2026-01-04T00:00:00Z", "2026-01-04T00:30:00+01:00", "1969-12-31T23:59:59Z"]
    river.send([each | {"event_time": at} for each, at in zip(bets(4), times, strict=True)])
    river.flow(HANDLER, NAME)
    assert sorted(path.parent.name for path in files(river)) == [
        "event_date=1969-12-31",
        "event_date=2026-01-03",
        "event_date=2026-01-04",
    ]
    assert len(archived(river)) == 4


def test_nothing_is_written_or_acknowledged_before_a_flush_is_due(filled: River) -> None:
    with filled.door(NAME, clock=lambda: START) as door:
        door.pump()
        assert files(filled) == []
        assert door.acknowledged == []
        assert positions(filled) == [0] * 8
        door.drain()
        assert archived(filled) == incoming(filled)
        assert {(each["partition"], each["offset"] + 1) for each in door.acknowledged} == set(enumerate(positions(filled)))


def test_a_flush_comes_when_enough_rows_wait(new_river: Callable[..., River]) -> None:
    river = new_river(CHURNSTREAM_FLUSH_ROWS="25")
    river.send(bets(60), rows=10)
    river.flow(HANDLER)
    with river.door(NAME, clock=lambda: START) as door:
        door.pump()
        assert [pq.read_table(path, partitioning=None).num_rows for path in files(river)] == [30, 30]
        assert [each["offset"] for each in door.acknowledged] == [2, 5]


def test_a_flush_comes_when_the_oldest_row_has_waited_long_enough(filled: River) -> None:
    now = [START]
    with filled.door(NAME, clock=lambda: now[0]) as door:
        door.pump()
        sink = door.context.user_data.sink
        now[0] += timedelta(seconds=10) - timedelta(microseconds=1)
        assert sink.flush_old() == []
        now[0] += timedelta(microseconds=1)
        wait_until_acknowledged(door, 8)
    assert archived(filled) == incoming(filled)


def wait_until_acknowledged(door: Door, shards: int) -> None:
    """Let the function's own clock run until it has acknowledged so many shards."""
    deadline = time.monotonic() + 10

    async def look() -> None:
        while len(door.acknowledged) < shards:
            assert time.monotonic() < deadline, "the old rows were never flushed"
            await asyncio.sleep(0.005)

    door.run(look())


def test_what_waits_is_written_when_the_function_ends(filled: River) -> None:
    with filled.door(NAME) as door:
        door.pump()
    assert archived(filled) == incoming(filled)


def test_a_restart_writes_nothing_twice_and_overwrites_nothing(filled: River) -> None:
    filled.flow(NAME)
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(filled)}
    filled.flow(NAME)
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files(filled)} == before
    filled.send(bets(10))
    filled.flow(HANDLER, NAME)
    assert all(path.stat().st_mtime_ns == at for path, (at, _) in before.items())
    assert archived(filled) == incoming(filled)


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: str, count: int) -> None:
    """The process ends at this moment, the ``count``-th time that it comes."""
    left = [count]
    if moment == "after the note":
        write_aside = archive._write_aside

        def killed(target: Path, table: Any) -> Path:
            left[0] -= 1
            if not left[0]:
                raise Killed
            return write_aside(target, table)

        monkeypatch.setattr(archive, "_write_aside", killed)
    elif moment == "while a file is written":
        write_table = pq.write_table

        def half(table: Any, file: Any, **told: Any) -> None:
            left[0] -= 1
            if not left[0]:
                file.write(b"PAR1 and then nothing")
                file.flush()
                raise Killed
            write_table(table, file, **told)

        monkeypatch.setattr(archive.pq, "write_table", half)
    else:
        rename = Path.rename

        def renamed(self: Path, target: Path) -> Path:
            left[0] -= 1
            if not left[0] and moment == "before a rename":
                raise Killed
            done = rename(self, target)
            if not left[0] and moment == "between rename and commit":
                raise Killed
            return done

        monkeypatch.setattr(Path, "rename", renamed)


@pytest.mark.parametrize("more", [False, True], ids=["the same records", "more records have come"])
@pytest.mark.parametrize("count", [1, 7])
@pytest.mark.parametrize("moment", ["after the note", "while a file is written", "before a rename", "between rename and commit"])
def test_a_kill_at_any_moment_leaves_every_row_in_exactly_one_file(
    filled: River, monkeypatch: pytest.MonkeyPatch, moment: str, count: int, more: bool
) -> None:
    with filled.door(NAME) as door:
        door.pump()
        with monkeypatch.context() as patch:
            kill_at(patch, moment, count)
            with pytest.raises(Killed):
                door.drain()
        door.context.platform.set_termination_callback(lambda: None)  # a killed process takes no leave
    assert archived(filled) != incoming(filled)
    assert positions(filled).count(0) > 1
    before = {path: path.read_bytes() for path in files(filled) if path.suffix == ".parquet"}
    if more:
        filled.send(bets(20, "ann") + bets(20, "bob"), rows=7)
        filled.flow(HANDLER)
    filled.flow(NAME)
    assert archived(filled) == incoming(filled)
    assert [path for path in files(filled) if path.suffix != ".parquet"] == []
    assert {path: path.read_bytes() for path in before} == before
    assert_conserved(filled, NAME)


def test_a_full_disk_is_raised_leaves_nothing_half_and_is_tried_again(filled: River, monkeypatch: pytest.MonkeyPatch) -> None:
    with filled.door(NAME) as door:
        door.pump()
        with monkeypatch.context() as patch:
            patch.setattr(archive.os, "fsync", full)
            with pytest.raises(StorageFailed, match=r"could not be written .*; its rows stay in the stream"):
                door.drain()
        assert files(filled) == []
        assert positions(filled) == [0] * 8
        door.drain()
    assert archived(filled) == incoming(filled)
    assert_conserved(filled, NAME)


def full(_: int) -> None:
    raise OSError(28, "No space left on device")


def test_a_record_that_is_archived_already_is_passed(filled: River) -> None:
    filled.flow(NAME)
    record = filled.records(INCOMING)[0]
    with filled.door(NAME) as door:
        assert door.apply(INCOMING, record.shard, record) == {"replayed": True}


def test_an_archive_that_cannot_be_written_stops_the_position_and_recovers_by_itself(
    new_river: Callable[..., River], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)
    monkeypatch.setattr(courier, "LAST_RETRY_S", 0.01)
    river = new_river(CHURNSTREAM_FLUSH_ROWS="100")
    assert river.case.simulate is not None
    river.send(list(river.case.simulate(1, 5, 2_000)), rows=20)
    river.flow(HANDLER)
    folder = river.settings.archive
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.write_text("no folder")
    with river.door("stream-to-parquet") as door:
        pumping = Pumping(door, river.settings)
        tried: list[int] = []

        def look() -> bool:
            """After so many deliveries the folder is there."""
            if len(pumping.calls) > 40 and folder.is_file():
                tried.extend(pump.next_offset for pump in pumping.pumps if pump.trouble)
                assert door.acknowledged == []
                folder.unlink()
            return not folder.is_file() and sum(pump.next_offset for pump in pumping.pumps) == len(river.records(INCOMING))

        pumping.run(until=look)
        door.drain()
    assert tried
    assert_conserved(river, "stream-to-parquet")
    rows = [row for path in folder.rglob("*.parquet") for row in pq.read_table(path).to_pylist()]
    places = [(row["user_id"], row["event_time"], row["origin_offset"], row["origin_row"]) for row in rows]
    assert len(set(places)) == len(places) == river.lines()["stream-to-parquet", INCOMING].given
    assert river.rows(DEAD_LETTERS, "stream-to-parquet") == []

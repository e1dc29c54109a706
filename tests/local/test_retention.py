"""What retention removes was read by everyone, and all that is counted stays as it was."""

import logging
import random
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import pytest

from churnstream.local.leases import JournalLeases
from churnstream.local.retention import Retention
from churnstream.reading import dead_letters, ledger
from churnstream.records import Record, shard_of
from churnstream.settings import Settings, read_settings
from churnstream.topology import DEAD_LETTERS, GENERATED, INCOMING
from churnstream.wiring import check_journals, open_parts, open_stream

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GENERATOR, HANDLER, ENRICH, ARCHIVE = "event-generator", "incoming-event-handler", "enrich-stream", "stream-to-parquet"
SHARD = 3
KEY = next(key for key in (f"u{number}" for number in range(1_000)) if shard_of(key, 8) == SHARD)
Keep = Callable[..., Settings]


@pytest.fixture
def keep(tmp_path: Path) -> Keep:
    """``keep(hours=…, mb=…)`` are settings with that retention, over the same streams."""

    def settings(hours: float = 0, mb: float = 0) -> Settings:
        given = {"CHURNSTREAM_RETENTION_HOURS": str(hours), "CHURNSTREAM_RETENTION_MB": str(mb)}
        return read_settings({"CHURNSTREAM_HOME": str(tmp_path), **given})

    return settings


def ticking(begin: int, step: timedelta = HOUR) -> Callable[[], datetime]:
    """A clock that moves on each time it is asked."""
    steps = count(begin)
    return lambda: START + next(steps) * step


def produce(settings: Settings, records: int, size: int = 100, rows: int = 2, begin: int = 0) -> None:
    """Records of the generator in one shard, one an hour from START on."""
    with closing(open_parts(GENERATOR, settings, ticking(begin))) as parts:
        for number in range(begin, begin + records):
            with parts.begin() as unit:
                unit.append(GENERATED, Record(b"%d" % number * size, rows, KEY))


def apply(settings: Settings, function: str, source: str, offsets: range, writes: str = "", rows: int = 2) -> None:
    """What ``function`` does to records of one shard: it counts their rows, and hands them on."""
    with closing(open_parts(function, settings, ticking(offsets.start))) as parts:
        for offset in offsets:
            with parts.begin_at(source, SHARD, offset) as unit:
                unit.count("applied", rows)
                if writes:
                    unit.append(writes, Record(b"%d" % offset, rows, KEY))


def sweep(settings: Settings, function: str, at: datetime = START + 1_000 * HOUR) -> int:
    return Retention(function, settings, lambda: at).sweep(range(8))


def offsets(settings: Settings, stream: str) -> list[int]:
    with closing(open_stream(stream, settings)) as reader:
        return [each.offset for each in reader.read(SHARD, reader.begin(SHARD), max_records=10_000)]


def test_nothing_is_removed_unless_it_is_asked_for(keep: Keep) -> None:
    assert (keep().retention_age, keep().retention_bytes) == (None, None)
    assert not Retention(HANDLER, keep())
    assert (keep(hours=2).retention_age, keep(mb=1.5).retention_bytes) == (2 * HOUR, 1_500_000)


def test_what_is_old_and_was_read_is_removed_and_every_count_stays(keep: Keep) -> None:
    settings = keep(hours=10)
    produce(settings, 40)
    apply(settings, HANDLER, GENERATED, range(25), INCOMING)
    before = ledger(settings, HANDLER)
    assert sweep(settings, HANDLER, START + 40 * HOUR) > 0  # 30 are older than ten hours, of which 25 were read
    assert offsets(settings, GENERATED) == list(range(25, 40))
    with closing(open_stream(GENERATED, settings)) as reader:
        assert (reader.end(SHARD), reader.rows(SHARD), reader.rows(SHARD, 30)) == (40, 80, 60)
    assert ledger(settings, HANDLER) == before
    assert before[SHARD].given == 50
    assert all(line.unaccounted == 0 for line in ledger(settings))  # of those too that were never deployed
    apply(settings, HANDLER, GENERATED, range(25, 40), INCOMING)
    produce(settings, 1, begin=40)
    assert offsets(settings, GENERATED)[-1] == 40
    assert [found for _, found in check_journals(settings) if found] == []


def test_what_is_too_much_is_removed_down_to_the_newest_bytes(keep: Keep) -> None:
    produce(keep(), 50, size=500)  # 500 or 1,000 bytes each: 45,000 in all
    apply(keep(), HANDLER, GENERATED, range(50))
    sweep(keep(mb=0.0105), HANDLER)
    assert offsets(keep(), GENERATED) == list(range(40, 50))
    sweep(keep(mb=0.000001), HANDLER)
    assert offsets(keep(), GENERATED) == [49]  # the newest stays


def test_the_slowest_reader_that_was_ever_deployed_holds_back(keep: Keep) -> None:
    settings = keep(hours=1)
    produce(settings, 20)
    apply(settings, HANDLER, GENERATED, range(20), INCOMING)
    apply(settings, ENRICH, INCOMING, range(12))
    sweep(settings, HANDLER)
    assert offsets(settings, INCOMING) == list(range(12, 20))
    JournalLeases(ARCHIVE, settings).take(5, 1)  # deployed, and has read nothing yet
    sweep(settings, HANDLER)
    apply(settings, ENRICH, INCOMING, range(12, 20))
    assert sweep(settings, HANDLER) == 0
    assert offsets(settings, INCOMING) == list(range(12, 20))


def test_a_reader_that_comes_late_begins_where_the_stream_does_and_its_account_adds_up(
    keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    settings = keep(hours=1)
    produce(settings, 20)
    apply(settings, HANDLER, GENERATED, range(20), INCOMING)
    apply(settings, ENRICH, INCOMING, range(12))
    sweep(settings, HANDLER)
    with caplog.at_level(logging.WARNING):
        JournalLeases(ARCHIVE, settings).take(SHARD, 1)
    assert "stream-to-parquet begins incoming-events-stream, shard 3, at offset 12: 24 rows were removed before" in caplog.text
    line = next(each for each in ledger(settings, ARCHIVE) if each.shard == SHARD)
    assert (line.given, line.unaccounted, line.waiting) == (0, 0, 16)
    apply(settings, ARCHIVE, INCOMING, range(12, 20))
    line = next(each for each in ledger(settings, ARCHIVE) if each.shard == SHARD)
    assert (line.given, line.applied, line.unaccounted, line.waiting) == (16, 16, 0, 0)


def test_a_reader_that_asks_for_what_was_removed_gets_the_oldest_and_a_warning(
    keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    settings = keep(hours=1)
    produce(settings, 20)
    apply(settings, HANDLER, GENERATED, range(15))
    sweep(settings, HANDLER)
    with closing(open_stream(GENERATED, settings)) as reader, caplog.at_level(logging.WARNING):
        assert [each.offset for each in reader.read(SHARD, 3, max_records=2)] == [15, 16]
    assert "generated-stream, shard 03: the records from offset 3 to 14 were removed" in caplog.text


def test_dead_letters_go_by_age_alone(keep: Keep) -> None:
    settings = keep(hours=5)
    with closing(open_parts(HANDLER, settings, ticking(0, HOUR / 2))) as parts:  # asked twice: for the letter and for the record
        for number in range(10):
            with parts.begin_at(GENERATED, SHARD, number) as unit:
                unit.refuse(f"reason {number}", b"{}")
    sweep(settings, HANDLER, START + 10 * HOUR)
    assert [each.reason for each in dead_letters(settings=settings)] == [f"reason {number}" for number in (9, 8, 7, 6, 5)]
    with closing(open_stream(DEAD_LETTERS, settings, HANDLER)) as reader:
        assert reader.rows(SHARD) == 10


def test_room_that_became_free_is_used_again(keep: Keep) -> None:
    settings = keep(mb=0.5)
    path = None
    sizes = []
    for turn in range(6):
        produce(settings, 20, size=25_000, begin=20 * turn)  # 25 to 75 kB each
        apply(settings, HANDLER, GENERATED, range(20 * turn, 20 * turn + 20))
        sweep(settings, HANDLER)
        with closing(open_stream(GENERATED, settings)) as reader:
            path = reader.trace(SHARD)  # type: ignore[attr-defined]
        sizes.append(path.stat().st_size)
    assert sizes[-1] <= 2 * max(sizes[:2])  # 120 records of 60 kB would be 7 MB
    assert sizes[-1] < 4_000_000


def test_at_random_nothing_unread_is_ever_removed(keep: Keep) -> None:
    draw = random.Random(7)
    produced = read = 0
    for _ in range(25):
        settings = keep(hours=draw.choice([0, 1, 30]), mb=draw.choice([0, 0.001, 0.01]))
        more = draw.randrange(8)
        produce(settings, more, begin=produced)
        produced += more
        until = draw.randint(read, produced)
        apply(settings, HANDLER, GENERATED, range(read, until))
        read = until
        sweep(settings, HANDLER, START + produced * HOUR)
        there = offsets(settings, GENERATED)
        assert there == list(range(produced - len(there), produced))
        assert set(range(read, produced)) <= set(there)
        assert all(line.unaccounted == 0 for line in ledger(settings, HANDLER))

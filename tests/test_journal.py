"""The file of one (function, shard): all or nothing, also when it cannot be written."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churnstream.errors import StorageFailed
from churnstream.journal import Changes, Journal, Journals, journal_path
from churnstream.records import Record, shard_of
from churnstream.streams.embedded import EmbeddedUnit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


def key_of(shard: int) -> str:
    return next(key for key in (f"u{number}" for number in range(1_000)) if shard_of(key, 8) == shard)


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path, "alpha", 8, writable=True)


def unit(journals: Journals, shard: int | None = 0, offset: int | None = 0, source: str = "in") -> EmbeddedUnit:
    return EmbeddedUnit(journals, source, shard, offset, lambda: NOW)


def failing_once(monkeypatch: pytest.MonkeyPatch, shard: int) -> None:
    """The next write to ``shard`` fails as a full disk would."""
    write, failures = Journal.write, [shard]

    def fail(self: Journal, changes: Changes, now: datetime) -> None:
        if self.path.stem == f"{shard:02d}" and failures:
            failures.clear()
            raise StorageFailed("the disk is full")
        write(self, changes, now)

    monkeypatch.setattr(Journal, "write", fail)


def test_a_journal_opened_for_reading_refuses_to_write(journals: Journals, tmp_path: Path) -> None:
    with pytest.raises(StorageFailed, match=r"00\.db is open for reading only"):
        Journal(journal_path(tmp_path, "alpha", 0)).write(Changes(), NOW)


def test_a_shard_that_is_not_there_is_a_sentence(journals: Journals) -> None:
    with pytest.raises(StorageFailed, match="alpha has shards 0 to 7; there is no shard 8"):
        journals[8]


def test_a_folder_that_cannot_be_made_is_a_failure_to_store(tmp_path: Path) -> None:
    (tmp_path / "alpha").write_text("a file where the folder should be")
    with pytest.raises(StorageFailed, match="could not be opened"):
        Journal(journal_path(tmp_path, "alpha", 0), writable=True)


def test_a_write_that_fails_half_way_keeps_nothing_and_can_be_tried_again(journals: Journals) -> None:
    journal = journals[0]
    broken = Changes(appends=[("out", Record(b"x"))], positions={("in", 0): 1})
    broken.puts["table"] = {"k": None}  # type: ignore[dict-item]
    with pytest.raises(StorageFailed, match="nothing of this batch was kept"):
        journal.write(broken, NOW)
    assert (journal.end("out"), journal.position("in", 0), journal.size("table")) == (0, 0, 0)
    broken.puts["table"] = {"k": b"v"}
    journal.write(broken, NOW)
    assert (journal.end("out"), journal.position("in", 0), journal.get("table", "k")) == (1, 1, b"v")


def test_rows_of_another_shards_customer_are_written_once_when_the_record_is_tried_twice(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The record stands in shard 0. The effect in shard 5 is durable when that in shard 0 fails; the worker tries again.
    failing_once(monkeypatch, 0)

    def apply() -> None:
        with unit(journals) as work:
            work.append("out", Record(b"own"))
            work.append("out", Record(b"other", key=key_of(5)))
            work.count("applied", 1, key_of(5))

    with pytest.raises(StorageFailed):
        apply()
    assert (journals[5].end("out"), journals[0].position("in", 0)) == (1, 0)
    apply()
    assert (journals[5].end("out"), journals[0].end("out"), journals[0].position("in", 0)) == (1, 1, 1)
    assert journals[5].accounts() == {("in", "applied"): 1}


def test_the_position_never_moves_before_the_rows_of_other_shards_are_durable(
    journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing_once(monkeypatch, 5)
    work = unit(journals)
    work.append("out", Record(b"own"))
    work.append("out", Record(b"other", key=key_of(5)))
    with pytest.raises(StorageFailed):
        work.commit()
    assert (journals[5].end("out"), journals[0].end("out"), journals[0].position("in", 0)) == (0, 0, 0)


def test_records_of_two_source_shards_do_not_hide_each_others_rows(journals: Journals) -> None:
    # both stand at offset 0 of their shard and both write for a customer of shard 5
    for shard in (0, 1):
        with unit(journals, shard) as work:
            work.append("out", Record(b"%d" % shard, key=key_of(5)))
    assert journals[5].end("out") == 2


def test_a_table_whose_name_needs_quoting_is_a_table_like_any_other(journals: Journals) -> None:
    name = 'odd "name"; DROP TABLE position --'
    journals[0].write(Changes(puts={name: {"k": b"v"}}), NOW)
    assert journals[0].get(name, "k") == b"v"
    assert journals[0].position("in", 0) == 0


def test_a_deleted_row_reads_as_never_written(journals: Journals) -> None:
    journals[0].write(Changes(puts={"table": {"a": b"1", "b": b"2"}}), NOW)
    journals[0].write(Changes(deletes={"table": ["a", "nobody"]}), NOW)
    assert dict(journals[0].items("table")) == {"b": b"2"}


def test_a_producers_sequence_never_goes_back(journals: Journals) -> None:
    assert journals[0].sequence("p") == -1
    for sequence in (4, 2):
        journals[0].write(Changes(producers={"p": sequence}), NOW)
    assert journals[0].sequence("p") == 4


def test_time_at_work_is_summed_and_spans_from_the_first_to_the_last(journals: Journals) -> None:
    second = timedelta(seconds=1)
    for at in (NOW, NOW + 60 * second):
        journals[0].write(Changes(busy={"in": 2 * second}), at)
    assert journals[0].activity() == {"in": (NOW - 2 * second, NOW + 60 * second, 4 * second)}


@pytest.mark.parametrize(
    "read", [lambda j: j.end("out"), lambda j: j.accounts(), lambda j: j.activity(), lambda j: j.get("t", "k")]
)
def test_a_file_that_a_writer_has_only_begun_reads_as_empty(tmp_path: Path, read: Callable[[Journal], object]) -> None:
    path = tmp_path / "00.db"
    path.touch()
    assert not read(Journal(path))

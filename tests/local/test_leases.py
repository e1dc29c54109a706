"""Leases in the journals: what another process has taken cannot be written here."""

import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from churnstream.errors import LeaseLost, StorageFailed
from churnstream.journal import Journals, Lease, journal_path
from churnstream.local.leases import JournalLeases
from churnstream.records import Record, shard_of
from churnstream.settings import Settings, read_settings
from churnstream.streams.embedded import EmbeddedPositions, EmbeddedUnit

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
FUNCTION = "enrich-stream"
KEY = next(key for key in (f"u{number}" for number in range(1_000)) if shard_of(key, 8) == 0)
ELSEWHERE = next(key for key in (f"u{number}" for number in range(1_000)) if shard_of(key, 8) == 5)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return read_settings({"CHURNSTREAM_HOME": str(tmp_path)})


@pytest.fixture
def folder(settings: Settings) -> Path:
    """Where the journals lie."""
    return Path(settings.streams.removeprefix("embedded://"))


@pytest.fixture
def journals(folder: Path) -> Journals:
    return Journals(folder, FUNCTION, 8, writable=True)


@pytest.fixture
def leases(settings: Settings) -> JournalLeases:
    return JournalLeases(FUNCTION, settings)


@pytest.fixture
def another(folder: Path) -> Callable[[str], None]:
    """``another(statement)`` runs it in a process of its own, with ``journal`` that of shard 0."""

    def run(statement: str) -> None:
        code = f"""
from datetime import UTC, datetime
from pathlib import Path
from churnstream.journal import Changes, Journal, Lease
from churnstream.records import Record
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
journal = Journal(Path({str(journal_path(folder, FUNCTION, 0))!r}), writable=True)
{statement}
"""
        subprocess.run([sys.executable, "-c", code], check=True, timeout=30)

    return run


def apply(journals: Journals, offset: int) -> None:
    """One record of shard 0, with an effect in shard 5."""
    with EmbeddedUnit(journals, "in", 0, offset, lambda: NOW) as unit:
        unit.append("out", Record(b"%d" % offset))
        unit.append("out", Record(b"%d" % offset, key=ELSEWHERE))


def test_a_record_is_refused_when_another_process_took_the_shard(
    journals: Journals, leases: JournalLeases, another: Callable[[str], None]
) -> None:
    leases.take(0, 1)
    apply(journals, 0)
    another("journal.take(Lease(2, 'them'))")
    with pytest.raises(LeaseLost, match=r"enrich-stream, shard 00 is held by them \(epoch 2\); nothing of this was written"):
        apply(journals, 1)
    assert (journals[0].end("out"), journals[0].position("in", 0)) == (1, 1)
    assert not leases.is_held(0)
    with pytest.raises(LeaseLost):
        EmbeddedPositions(journals, lambda: NOW).advance("in", 0, 2)
    assert journals[0].position("in", 0) == 1
    leases.take(0, 3)
    apply(journals, 1)
    assert (journals[0].end("out"), journals[5].end("out"), journals[0].position("in", 0)) == (2, 2, 2)


def test_only_a_newer_epoch_takes_a_shard(leases: JournalLeases, another: Callable[[str], None]) -> None:
    another("journal.take(Lease(5, 'them'))")
    for epoch in (4, 5):
        with pytest.raises(LeaseLost, match="went to them meanwhile"):
            leases.take(0, epoch)
        assert not leases.is_held(0)
    assert leases.newest(8) == 5
    leases.take(0, 6)
    assert leases.is_held(0)
    assert leases.newest(8) == 6


def test_what_was_given_up_may_be_written_by_anyone_and_taken_under_a_newer_epoch_only(
    journals: Journals, leases: JournalLeases, another: Callable[[str], None]
) -> None:
    leases.take(0, 3)
    write = "journal.write(Changes(positions={('in', 0): 7}, held=True), NOW)"
    with pytest.raises(subprocess.CalledProcessError):
        another(write)
    leases.give_up(0)
    another(write)
    assert journals[0].position("in", 0) == 7
    with pytest.raises(LeaseLost):
        leases.take(0, 3)


def test_giving_up_a_shard_that_another_took_leaves_it_to_them(
    journals: Journals, leases: JournalLeases, another: Callable[[str], None]
) -> None:
    leases.take(0, 1)
    another("journal.take(Lease(2, 'them'))")
    leases.give_up(0)
    assert journals[0].lease() == Lease(2, "them")
    with pytest.raises(LeaseLost):
        apply(journals, 0)


def test_a_request_and_the_rows_of_other_shards_need_no_lease(journals: Journals, another: Callable[[str], None]) -> None:
    another("journal.take(Lease(1, 'them'))")
    with EmbeddedUnit(journals, "http", None, None, lambda: NOW) as request:
        request.append("out", Record(b"asked", key=KEY))
    with EmbeddedUnit(journals, "in", 5, 0, lambda: NOW) as of_shard_5:
        of_shard_5.append("out", Record(b"beside", key=KEY))
    assert journals[0].end("out") == 2


def test_two_that_decide_on_the_same_row_at_the_same_time_do_not_both_write(
    journals: Journals, another: Callable[[str], None]
) -> None:
    def unless_it_is_there(between: Callable[[], None]) -> bool:
        with EmbeddedUnit(journals, "http", None, None, lambda: NOW) as unit:
            if unit.stored("identities", "order 1", KEY) is not None:
                return False
            between()
            unit.put("identities", "order 1", b"", KEY)
            unit.append("out", Record(b"order 1", key=KEY))
        return True

    theirs = "journal.write(Changes(puts={'identities': {'order 1': b''}}, appends=[('out', Record(b'order 1'))]), NOW)"
    with pytest.raises(StorageFailed, match="changed by another worker at the same time; send this again"):
        unless_it_is_there(lambda: another(theirs))
    assert journals[0].end("out") == 1
    assert not unless_it_is_there(lambda: None)
    another("journal.write(Changes(puts={'identities': {'order 2': b''}}), NOW)")  # of no concern to who looks for order 1
    assert not unless_it_is_there(lambda: None)


def test_a_shard_that_cannot_be_written_is_not_taken(leases: JournalLeases, journals: Journals) -> None:
    locking = journals[0]._ready()
    locking.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageFailed, match="locked"):
        leases.take(0, 1)
    locking.execute("ROLLBACK")
    leases.take(0, 1)


def test_many_processes_may_make_a_journal_at_once(folder: Path) -> None:
    code = """
import sys
from pathlib import Path
from churnstream.journal import Journal
sys.stdin.readline()
for number in range(200):
    Journal(Path(sys.argv[1]) / f"{number:03d}.db", writable=True).close()
"""
    command = [sys.executable, "-c", code, str(folder / FUNCTION)]
    makers = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("go\n")
        maker.stdin.flush()
    assert [maker.communicate(timeout=60)[1] for maker in makers] == ["", "", ""]

"""A journal of an older layout is brought to the present one, or is as it was before; one of a newer layout is refused."""

import os
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churnstream.errors import StorageFailed, UnknownVersion
from churnstream.journal import Changes, Journal, Lease, damages
from churnstream.journal.schema import LAYOUT
from churnstream.records import Record

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
AT_US = (NOW - EPOCH) // timedelta(microseconds=1)

# As layout 1 had them.
LAYOUT_1 = """
CREATE TABLE position (stream TEXT, shard INTEGER, next_offset INTEGER NOT NULL, PRIMARY KEY (stream, shard)) WITHOUT ROWID;
CREATE TABLE producer (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE account (source TEXT, outcome TEXT, rows INTEGER NOT NULL, PRIMARY KEY (source, outcome)) WITHOUT ROWID;
CREATE TABLE activity
  (source TEXT PRIMARY KEY, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, busy_us INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE lease (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, owner TEXT NOT NULL);
CREATE TABLE "log an ""odd"" stream" (offset INTEGER PRIMARY KEY, appended_us INTEGER NOT NULL, rows INTEGER NOT NULL,
  rows_before INTEGER NOT NULL, key TEXT NOT NULL, headers TEXT NOT NULL, payload BLOB NOT NULL);
CREATE TABLE "table features" (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""
STREAM = 'an "odd" stream'
PAYLOADS = [b"%d" % number * number for number in range(300)]
ROWS = {f"Zoë {number}": b"%d" % number for number in range(500)}


@pytest.fixture(params=[True, False], ids=["with leases", "from before leases"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A journal as layout 1 left it."""
    path = tmp_path / "02.db"
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA page_size = 16384")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.executescript(LAYOUT_1)
    records = ((at, AT_US + at, 2, 2 * at, f"k{at}", '{"a": "b"}', payload) for at, payload in enumerate(PAYLOADS))
    connection.execute("BEGIN")
    connection.executemany('INSERT INTO "log an ""odd"" stream" VALUES (?, ?, ?, ?, ?, ?, ?)', records)
    connection.executemany('INSERT INTO "table features" VALUES (?, ?)', ROWS.items())
    connection.execute("INSERT INTO position VALUES ('in', 2, 17)")
    connection.execute("INSERT INTO producer VALUES ('p', 4)")
    connection.execute("INSERT INTO account VALUES ('in', 'applied', 99)")
    connection.execute("INSERT INTO activity VALUES ('in', ?, ?, 5000000)", (AT_US, AT_US + 60_000_000))
    if request.param:
        connection.execute("INSERT INTO lease VALUES (1, 7, '')")
    else:
        connection.execute("DROP TABLE lease")
    connection.execute("PRAGMA user_version = 1")
    connection.execute("COMMIT")
    connection.close()
    return path


def layout(path: Path) -> int:
    connection = sqlite3.connect(path)
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    connection.close()
    return found


def expect_all_of_it(journal: Journal) -> None:
    found = journal.read(STREAM, 2, 0, 1_000, 10**9)
    assert [each.payload for each in found] == PAYLOADS
    assert [each.appended_at for each in found] == [NOW + timedelta(microseconds=number) for number in range(len(PAYLOADS))]
    assert {each.key: each.headers for each in found} == {f"k{number}": {"a": "b"} for number in range(len(PAYLOADS))}
    assert (journal.end(STREAM), journal.rows(STREAM), journal.rows(STREAM, 10)) == (300, 600, 20)
    assert dict(journal.items("features")) == ROWS
    assert (journal.position("in", 2), journal.sequence("p")) == (17, 4)
    assert journal.accounts() == {("in", "applied"): 99}
    assert journal.activity() == {"in": (NOW, NOW + timedelta(seconds=60), timedelta(seconds=5))}


@pytest.mark.parametrize("writable", [True, False])
def test_everything_of_layout_1_is_there_in_the_present_one(old: Path, writable: bool) -> None:
    journal = Journal(old, writable)
    expect_all_of_it(journal)
    journal.close()
    assert layout(old) == LAYOUT
    assert list(damages(old)) == []


def test_a_migrated_journal_is_written_and_held_like_any_other(old: Path) -> None:
    journal = Journal(old, writable=True)
    journal.take(Lease(8, "me"))
    journal.write(Changes(appends=[(STREAM, Record(b"new"))], positions={("in", 2): 18}, held=True), NOW)
    journal.give_up()
    journal.close()
    again = Journal(old)
    assert (again.end(STREAM), again.position("in", 2), again.lease()) == (301, 18, Lease(8, ""))
    assert [each.payload for each in again.read(STREAM, 2, 300, 9, 9)] == [b"new"]
    again.close()
    assert list(damages(old)) == []


def test_a_migration_that_is_killed_leaves_the_old_layout_and_begins_again(old: Path) -> None:
    code = """
import os, signal, sys
from pathlib import Path
from churnstream.journal import Journal, migration
migration.seal = lambda connection: os.kill(os.getpid(), signal.SIGKILL)
Journal(Path(sys.argv[1]), writable=True)
"""
    ended = subprocess.run([sys.executable, "-c", code, str(old)], timeout=30, check=False)
    assert ended.returncode == -9
    assert layout(old) == 1
    journal = Journal(old)
    expect_all_of_it(journal)
    journal.close()


def test_two_that_open_an_old_journal_at_once_bring_it_up_once(old: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from churnstream.journal import Journal; Journal(Path(sys.argv[1]), True).close()"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(old)]) for _ in range(3)]
    assert [each.wait(timeout=30) for each in started] == [0, 0, 0]
    journal = Journal(old)
    expect_all_of_it(journal)
    journal.close()


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes into any folder")
def test_an_old_journal_in_a_folder_that_cannot_be_written_is_a_sentence(old: Path) -> None:
    old.parent.chmod(0o500)
    old.chmod(0o400)
    try:
        with pytest.raises(UnknownVersion, match="has layout 1, and it could not be brought to layout 3"):
            Journal(old).end(STREAM)
    finally:
        old.parent.chmod(0o700)


def test_a_migration_without_room_leaves_the_old_layout_and_says_so(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("churnstream.journal.migration.seal", full)
    with pytest.raises(StorageFailed, match=r"could not be opened \(database or disk is full\)"):
        Journal(old, writable=True)
    with pytest.raises(UnknownVersion, match=r"has layout 1, and it could not be brought to layout 3, which .* disk is full"):
        Journal(old).end(STREAM)
    assert layout(old) == 1


def test_a_newer_layout_is_refused_with_both_versions_and_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "00.db"
    Journal(path, writable=True).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 4")
    connection.close()
    for writable in (False, True):
        with pytest.raises(UnknownVersion) as refused:
            Journal(path, writable).end("out")
        assert str(refused.value) == (
            f"the journal {path} has layout 4, and this version of Churnstream knows layouts up to 3;"
            " use the version that wrote it, or a newer one"
        )
    assert layout(path) == 4

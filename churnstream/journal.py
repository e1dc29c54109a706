"""The file of one (function, shard): everything that this function keeps about this shard, in one SQLite database.

It holds the function's output streams' shard, its dead letters, its tables' rows, the positions it has consumed and its accounts,
so that one ordinary transaction covers them all: a record's effects and the position behind it are durable together or not at
all. SQLite runs in WAL mode with ``synchronous=FULL``: a committed transaction survives ``kill -9`` and a power cut. One process
writes a journal at a time (others wait for its lock); any process may read it. Whoever moves its positions holds its lease: what
a process writes that has lost it, maybe without knowing, is refused.
"""

import json
import os
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from churnstream.errors import LeaseLost, StorageFailed, UnknownVersion
from churnstream.records import Delivered, Record

LAYOUT = 1
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LOCK_WAIT_S = 30.0
WAL_RETRY_S = 0.002

SCHEMA = """
CREATE TABLE position (stream TEXT, shard INTEGER, next_offset INTEGER NOT NULL, PRIMARY KEY (stream, shard)) WITHOUT ROWID;
CREATE TABLE producer (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE account (source TEXT, outcome TEXT, rows INTEGER NOT NULL, PRIMARY KEY (source, outcome)) WITHOUT ROWID;
CREATE TABLE activity
  (source TEXT PRIMARY KEY, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, busy_us INTEGER NOT NULL) WITHOUT ROWID;
"""
LEASE = "(one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, owner TEXT NOT NULL)"


@dataclass(slots=True)
class Changes:
    """What one transaction writes; collected first, so that the lock is held only while it is written.

    ``effects_of`` is the record (stream, shard, offset) whose effects these are: when they are there already, because a worker
    that was thought dead was not, nothing is written. ``held`` changes are refused while another process holds the journal.
    ``seen`` is what they were decided on, (table, key) -> value: they are refused when another process has changed it since.
    """

    appends: list[tuple[str, Record]] = field(default_factory=list)
    puts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    deletes: dict[str, list[str]] = field(default_factory=dict)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    producers: dict[str, int] = field(default_factory=dict)
    busy: dict[str, timedelta] = field(default_factory=dict)
    effects_of: tuple[str, int, int] | None = None
    held: bool = False
    seen: dict[tuple[str, str], bytes | None] = field(default_factory=dict)

    def count(self, source: str, outcome: str, rows: int) -> None:
        if rows:
            self.counts[source, outcome] = self.counts.get((source, outcome), 0) + rows


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move a journal's positions; each has an ``epoch`` above the last. Without an ``owner`` nobody holds it."""

    epoch: int = 0
    owner: str = ""


_taken: dict[Path, Lease] = {}  # the leases of this process, whichever of its connections writes


class Journal:
    """One journal file. ``writable=False`` reads only, and reads as empty while the file does not exist."""

    def __init__(self, path: Path, writable: bool = False, patience: float = LOCK_WAIT_S):
        self.path = path
        self._writable = writable
        self._patience = patience
        self._resolved = path.resolve()
        self._version = 0  # as SQLite counts the commits of others, when this one wrote last
        self._lock = threading.RLock()
        self._logs: set[str] = set()
        self._tables: set[str] = set()
        self._connection: sqlite3.Connection | None = None
        if writable:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as cause:
                raise StorageFailed(f"the journal {path} could not be opened ({cause})") from cause
            self._connection = self._open()

    # -- reading ------------------------------------------------------------------------------------------------------------

    def read(self, stream: str, shard: int, offset: int, max_records: int, max_bytes: int) -> list[Delivered]:
        """Records of ``stream`` from ``offset`` on; at least one when there is one, else as many as fit both bounds."""
        delivered: list[Delivered] = []
        size = 0
        columns = "offset, appended_us, rows, key, headers, payload"
        query = f"SELECT {columns} FROM {_log(stream)} WHERE offset >= ? ORDER BY offset LIMIT ?"
        with self._reading(_log(stream)) as connection:
            if connection is None:
                return delivered
            cursor = connection.execute(query, (offset, max_records))
            for at, appended_us, rows, key, headers, payload in cursor:
                size += len(payload)
                if delivered and size > max_bytes:
                    break
                appended_at = EPOCH + timedelta(microseconds=appended_us)
                delivered.append(Delivered(stream, shard, at, appended_at, payload, rows, key, json.loads(headers)))
            cursor.close()
        return delivered

    def end(self, stream: str) -> int:
        """The offset that the next record of ``stream`` will get."""
        found = self._one(_log(stream), f"SELECT max(offset) FROM {_log(stream)}")
        return 0 if found is None else found + 1

    def rows(self, stream: str, offset: int | None = None) -> int:
        """How many rows of ``stream`` stand before ``offset``; before the end when it is None."""
        where, given = ("", ()) if offset is None else ("WHERE offset < ?", (offset,))
        query = f"SELECT rows_before + rows FROM {_log(stream)} {where} ORDER BY offset DESC LIMIT 1"
        return self._one(_log(stream), query, given) or 0

    def position(self, stream: str, shard: int) -> int:
        """The offset of the next record of ``stream`` that this function will apply."""
        return self._one("position", "SELECT next_offset FROM position WHERE stream = ? AND shard = ?", (stream, shard)) or 0

    def sequence(self, producer: str) -> int:
        """The last sequence number that ``producer`` has appended; -1 before the first."""
        found = self._one("producer", "SELECT sequence FROM producer WHERE id = ?", (producer,))
        return -1 if found is None else found

    def producers(self) -> tuple[str, ...]:
        """Who has appended with a sequence number."""
        with self._reading("producer") as connection:
            found = [] if connection is None else connection.execute("SELECT id FROM producer ORDER BY id").fetchall()
        return tuple(name for (name,) in found)

    def get(self, table: str, key: str) -> bytes | None:
        return self._one(_table(table), f"SELECT value FROM {_table(table)} WHERE key = ?", (key,))

    def items(self, table: str) -> Iterator[tuple[str, bytes]]:
        """Every row of ``table``, as it was when the reading began."""
        with self._reading(_table(table)) as connection:
            if connection is not None:
                yield from connection.execute(f"SELECT key, value FROM {_table(table)}").fetchall()

    def size(self, table: str) -> int:
        return self._one(_table(table), f"SELECT count(*) FROM {_table(table)}") or 0

    def accounts(self) -> dict[tuple[str, str], int]:
        """(source, outcome) -> rows."""
        with self._reading("account") as connection:
            found = [] if connection is None else connection.execute("SELECT source, outcome, rows FROM account").fetchall()
        return {(source, outcome): rows for source, outcome, rows in found}

    def activity(self) -> dict[str, tuple[datetime, datetime, timedelta]]:
        """source -> (first, last, busy): when work on the source began, last ended, and how long it took in all."""
        with self._reading("activity") as connection:
            found = (
                []
                if connection is None
                else connection.execute("SELECT source, first_us, last_us, busy_us FROM activity").fetchall()
            )
        return {
            source: (EPOCH + timedelta(microseconds=first), EPOCH + timedelta(microseconds=last), timedelta(microseconds=busy))
            for source, first, last, busy in found
        }

    # -- writing ------------------------------------------------------------------------------------------------------------

    def write(self, changes: Changes, now: datetime) -> None:
        """Make ``changes`` durable, all or nothing; raises StorageFailed, after which nothing of them is there."""
        if not self._writable:
            raise StorageFailed(f"{self.path.name} is open for reading only")
        with self._lock:
            connection = self._ready()
            try:
                connection.execute("BEGIN IMMEDIATE")
                self._refuse_the_overtaken(connection, changes)
                if not self._is_there(connection, changes.effects_of):
                    self._apply(connection, changes, (now - EPOCH) // timedelta(microseconds=1))
                connection.execute("COMMIT")
            except StorageFailed:
                connection.execute("ROLLBACK")
                raise
            except sqlite3.Error as cause:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._logs.clear()
                self._tables.clear()
                raise StorageFailed(
                    f"the journal {self.path} could not be written ({cause}); nothing of this batch was kept"
                ) from cause
            if changes.appends:
                self._ring()

    def _ring(self) -> None:
        """Show in the file's modification time that a stream has grown; readers that wait are woken by it."""
        instant = time.time_ns()
        with suppress(OSError):  # the batch is durable already, and readers look now and then without being told
            os.utime(self.path, ns=(instant, instant))

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    # -- several processes --------------------------------------------------------------------------------------------------

    def lease(self) -> Lease:
        """Who holds the journal."""
        with self._reading("lease") as connection:
            found = None if connection is None else connection.execute("SELECT epoch, owner FROM lease").fetchone()
        return Lease(*found) if found else Lease()

    def take(self, lease: Lease) -> None:
        """Hold the journal from now on; raises LeaseLost when a lease as new as this one was there, and StorageFailed."""
        statement = (
            "INSERT INTO lease VALUES (1, ?, ?) ON CONFLICT DO UPDATE SET epoch = excluded.epoch, owner = excluded.owner"
            " WHERE excluded.epoch > epoch"
        )
        if not self._in_one_statement(statement, (lease.epoch, lease.owner)):
            there = self.lease()
            raise LeaseLost(f"{self._shard()} went to {there.owner or 'another worker'} meanwhile (epoch {there.epoch})")
        _taken[self._resolved] = lease

    def give_up(self) -> None:
        """Hold the journal no longer, so that anyone may write it; raises StorageFailed."""
        mine = _taken.pop(self._resolved, None)
        if mine is not None:
            self._in_one_statement("UPDATE lease SET owner = '' WHERE epoch = ? AND owner = ?", (mine.epoch, mine.owner))

    def is_held_here(self) -> bool:
        """True while this process holds the journal."""
        mine = _taken.get(self._resolved)
        return mine is not None and self.lease() == mine

    def _refuse_the_overtaken(self, connection: sqlite3.Connection, changes: Changes) -> None:
        if changes.held:
            found = connection.execute("SELECT epoch, owner FROM lease").fetchone()
            if found is not None and found[1] and Lease(*found) != _taken.get(self._resolved):
                raise LeaseLost(f"{self._shard()} is held by {found[1]} (epoch {found[0]}); nothing of this was written")
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            for (table, key), value in changes.seen.items():
                if self.get(table, key) != value:
                    raise StorageFailed(f"{self._shard()} was changed by another worker at the same time; send this again")
            self._version = version

    def _in_one_statement(self, statement: str, given: tuple[object, ...]) -> bool:
        """Whether it changed a row."""
        with self._lock:
            try:
                return self._ready().execute(statement, given).rowcount > 0
            except sqlite3.Error as cause:
                raise StorageFailed(f"the journal {self.path} could not be written ({cause})") from cause

    def _shard(self) -> str:
        return f"{self.path.parent.name}, shard {self.path.stem}"

    def _is_there(self, connection: sqlite3.Connection, record: tuple[str, int, int] | None) -> bool:
        if record is None:
            return False
        stream, shard, offset = record
        query = (
            "SELECT 1 FROM position WHERE stream = ? AND shard = ? AND next_offset > ?"
            " UNION ALL SELECT 1 FROM producer WHERE id = ? AND sequence >= ?"
        )
        return connection.execute(query, (stream, shard, offset, f"{stream}/{shard}", offset)).fetchone() is not None

    def _apply(self, connection: sqlite3.Connection, changes: Changes, now_us: int) -> None:
        for stream, record in changes.appends:
            self._append(connection, stream, record, now_us)
        for table, rows in changes.puts.items():
            self._make(connection, _table(table), self._tables, "(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            connection.executemany(f"INSERT OR REPLACE INTO {_table(table)} VALUES (?, ?)", rows.items())
        for table, keys in changes.deletes.items():
            self._make(connection, _table(table), self._tables, "(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID")
            connection.executemany(f"DELETE FROM {_table(table)} WHERE key = ?", ((key,) for key in keys))
        connection.executemany(
            "INSERT INTO position VALUES (?, ?, ?)"
            " ON CONFLICT DO UPDATE SET next_offset = max(next_offset, excluded.next_offset)",
            ((stream, shard, offset) for (stream, shard), offset in changes.positions.items()),
        )
        connection.executemany(
            "INSERT INTO producer VALUES (?, ?) ON CONFLICT DO UPDATE SET sequence = max(sequence, excluded.sequence)",
            changes.producers.items(),
        )
        connection.executemany(
            "INSERT INTO account VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET rows = rows + excluded.rows",
            ((source, outcome, rows) for (source, outcome), rows in changes.counts.items()),
        )
        connection.executemany(
            "INSERT INTO activity VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET last_us = excluded.last_us, busy_us = busy_us + excluded.busy_us",
            (
                (source, now_us - busy // timedelta(microseconds=1), now_us, busy // timedelta(microseconds=1))
                for source, busy in changes.busy.items()
            ),
        )

    def _append(self, connection: sqlite3.Connection, stream: str, record: Record, now_us: int) -> None:
        log = _log(stream)
        columns = (
            "(offset INTEGER PRIMARY KEY, appended_us INTEGER NOT NULL, rows INTEGER NOT NULL, rows_before INTEGER NOT NULL,"
            " key TEXT NOT NULL, headers TEXT NOT NULL, payload BLOB NOT NULL)"
        )
        self._make(connection, log, self._logs, columns)
        last = connection.execute(f"SELECT offset, rows_before + rows FROM {log} ORDER BY offset DESC LIMIT 1").fetchone()
        offset, rows_before = (0, 0) if last is None else (last[0] + 1, last[1])
        connection.execute(
            f"INSERT INTO {log} VALUES (?, ?, ?, ?, ?, ?, ?)",
            (offset, now_us, record.rows, rows_before, record.key, json.dumps(dict(record.headers)), record.payload),
        )

    def _make(self, connection: sqlite3.Connection, name: str, known: set[str], columns: str) -> None:
        if name not in known:
            connection.execute(f"CREATE TABLE IF NOT EXISTS {name} {columns}")
            known.add(name)

    # -- the connection -----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        mode = "rwc" if self._writable else "ro"
        try:
            connection = sqlite3.connect(
                f"{self.path.resolve().as_uri()}?mode={mode}",
                uri=True,
                timeout=self._patience,
                isolation_level=None,
                check_same_thread=False,
            )
            if self._writable:
                self._prepare(connection)
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as cause:
            raise StorageFailed(f"the journal {self.path} could not be opened ({cause})") from cause
        if layout != LAYOUT:
            connection.close()
            raise UnknownVersion(
                f"the journal {self.path} has layout {layout}, this version knows {LAYOUT}; use the version that wrote it"
            )
        return connection

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA page_size = 16384")  # records are large; takes effect on a new file only
        self._use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 500")
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA user_version").fetchone()[0] == 0:
            for statement in SCHEMA.split(";"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {LAYOUT}")
        connection.execute(f"CREATE TABLE IF NOT EXISTS lease {LEASE}")
        connection.execute("COMMIT")

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Ask again when another process is making the same file: for this one statement SQLite does not wait by itself."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(WAL_RETRY_S)

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    @contextmanager
    def _reading(self, table: str) -> Iterator[sqlite3.Connection | None]:
        """A connection when ``table`` is there to be read, else None."""
        with self._lock:
            if self._connection is None and not self._written():
                yield None
                return
            connection = self._ready()
            if table not in self._logs and table not in self._tables:
                name = table.strip('"')
                if (
                    connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)).fetchone()
                    is None
                ):
                    yield None
                    return
                self._tables.add(table)
            yield connection

    def _written(self) -> bool:
        """Whether a writer has finished making the file; a reader that comes while it is being made sees nothing yet."""
        if not self.path.exists():
            return False
        try:
            connection = sqlite3.connect(f"{self.path.resolve().as_uri()}?mode=ro", uri=True, timeout=LOCK_WAIT_S)
        except sqlite3.OperationalError:
            return False
        try:
            return bool(connection.execute("PRAGMA user_version").fetchone()[0])
        finally:
            connection.close()

    def _one(self, table: str, query: str, given: Iterable[object] = ()) -> Any:
        with self._reading(table) as connection:
            found = None if connection is None else connection.execute(query, tuple(given)).fetchone()
        return None if found is None else found[0]


def journal_path(folder: Path, function: str, shard: int) -> Path:
    """Where the journal of (function, shard) lies in the folder of a project's case."""
    return folder / function / f"{shard:02d}.db"


class Journals:
    """The journals of one function, opened when first needed."""

    def __init__(self, folder: Path, function: str, shards: int, writable: bool = False):
        self.shards = shards
        self._folder, self._function, self._writable = folder, function, writable
        self._open: dict[int, Journal] = {}
        self.free_since = 0.0  # when the last unit ended, in seconds of the performance counter
        self.owed = 0.0  # seconds spent committing, which only the next commit can write down

    def __getitem__(self, shard: int) -> Journal:
        journal = self._open.get(shard)
        if journal is None:
            if not 0 <= shard < self.shards:
                raise StorageFailed(f"{self._function} has shards 0 to {self.shards - 1}; there is no shard {shard}")
            journal = Journal(journal_path(self._folder, self._function, shard), self._writable)
            self._open[shard] = journal
        return journal

    def close(self) -> None:
        for journal in self._open.values():
            journal.close()
        self._open.clear()


def _log(stream: str) -> str:
    return _quoted(f"log {stream}")


def _table(name: str) -> str:
    return _quoted(f"table {name}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

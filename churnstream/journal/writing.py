"""A journal's one way of being written: all of a unit's changes in one transaction, or none."""

import json
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from churnstream.errors import StorageFailed
from churnstream.failpoints import reach
from churnstream.journal.changes import Changes
from churnstream.journal.checksums import head_of, of_fields, of_payload, of_rows
from churnstream.journal.file import LOCK_WAIT_S
from churnstream.journal.holding import HeldJournal
from churnstream.journal.memory import unpack
from churnstream.journal.migration import COUNTED
from churnstream.journal.reading import EPOCH
from churnstream.journal.schema import BEGIN, END, LOG_COLUMNS, TABLE_COLUMNS, log_name, make, table_name
from churnstream.records import Record

MICROSECOND = timedelta(microseconds=1)
KEYS = {"position": 2, "producer": 1, "account": 2, "activity": 1}
ALL = 2**62  # records, or bytes
TRIMMED_AT_ONCE = 32  # records; the function's own writing waits meanwhile


class Journal(HeldJournal):
    """One journal file. ``writable=False`` reads only, and reads as empty while the file does not exist."""

    def __init__(self, path: Path, writable: bool = False, patience: float = LOCK_WAIT_S):
        super().__init__(path, writable, patience)
        self._version = 0  # as SQLite counts the commits of others, when this one wrote last
        self._read: dict[str, dict[tuple[Any, ...], tuple[Any, ...]]] = {}

    def write(self, changes: Changes, now: datetime) -> None:
        """Make ``changes`` durable, all or nothing; raises StorageFailed, after which nothing of them is there."""
        if not self._writable:
            raise StorageFailed(f"{self.path.name} is open for reading only")
        with self._lock:
            with self._writing() as connection:
                self._refuse_the_overtaken(connection, changes)
                if not self._is_there(changes.effects_of):
                    self._apply(connection, changes, (now - EPOCH) // timedelta(microseconds=1))
            if changes.appends:
                self._ring()

    def expired(self, stream: str, before: datetime | None, most_bytes: int | None) -> int:
        """The offset of the first record of ``stream`` that is to stay: those ahead of it were appended before ``before``, or
        stand ahead of the newest ``most_bytes`` of payloads. None is no bound. The newest record always stays, as offsets and
        rows are counted on from it."""
        last = max(0, self.end(stream) - 1)
        stays = 0
        with self._reading(log_name(stream)) as connection:
            if connection is None:
                return 0
            if before is not None:
                before_us = (before - EPOCH) // MICROSECOND
                for offset, appended_us in connection.execute(
                    f"SELECT offset, appended_us FROM {log_name(stream)} ORDER BY offset"
                ):
                    stays = offset
                    if appended_us >= before_us:
                        break
            if most_bytes is not None:
                size = 0
                query = f"SELECT offset, length(payload) FROM {log_name(stream)} ORDER BY offset DESC"
                for offset, length in connection.execute(query):
                    size += length
                    if size > most_bytes:
                        stays = max(stays, offset + 1)
                        break
        return min(stays, last)

    def trim(self, stream: str, stays: int, most_records: int = TRIMMED_AT_ONCE) -> int:
        """Remove the oldest records of ``stream`` ahead of offset ``stays`` in one transaction, ``most_records`` at most and
        never the newest; returns how many. Raises StorageFailed."""
        begin = self.begin(stream)
        until = min(stays, self.end(stream) - 1, begin + most_records)
        if until <= begin:
            return 0
        with self._lock, self._writing() as connection:
            return self._remove(connection, stream, until)

    def _ring(self) -> None:
        """Show in the file's modification time that a stream has grown; readers that wait are woken by it."""
        instant = time.time_ns()
        with suppress(OSError):  # the batch is durable already, and readers look now and then without being told
            os.utime(self.path, ns=(instant, instant))

    def _refuse_the_overtaken(self, connection: sqlite3.Connection, changes: Changes) -> None:
        if changes.held:
            self._refuse_when_held_by_another(connection)
        version = connection.execute("PRAGMA data_version").fetchone()[0]
        if version != self._version:
            self._read.clear()
            seen: dict[str, dict[str, bytes | None]] = {}
            for (table, key), value in changes.seen.items():
                seen.setdefault(table, {})[key] = value
            for table, values in seen.items():
                there = self.get_many(table, values)
                if any(there.get(key) != value for key, value in values.items()):
                    raise self._overtaken()
            for memory, (end, keys) in changes.unmet.items():
                if any(not keys.isdisjoint(unpack(each)) for each in self.read(memory, int(self.path.stem), end, ALL, ALL)):
                    raise self._overtaken()
            self._version = version

    def _overtaken(self) -> StorageFailed:
        return StorageFailed(f"{self._shard()} was changed by another worker at the same time; send this again")

    def _is_there(self, record: tuple[str, int, int] | None) -> bool:
        if record is None:
            return False
        stream, shard, offset = record
        if self._numbers("position").get((stream, shard), (0,))[0] > offset:
            return True
        return bool(self._numbers("producer").get((f"{stream}/{shard}",), (-1,))[0] >= offset)

    def _apply(self, connection: sqlite3.Connection, changes: Changes, now_us: int) -> None:
        for stream, record in changes.appends:
            self._append(connection, stream, record, now_us)
        for table, rows in changes.puts.items():
            self._make(connection, table_name(table), TABLE_COLUMNS)
            checked = zip(rows, of_rows(table, rows, rows.values()), rows.values(), strict=True)
            try:
                connection.executemany(f"INSERT OR REPLACE INTO {table_name(table)} VALUES (?, ?, ?)", checked)
            except TypeError as cause:
                raise StorageFailed(f"a value of the table {table} is not bytes; nothing of this batch was kept") from cause
        for table, keys in changes.deletes.items():
            self._make(connection, table_name(table), TABLE_COLUMNS)
            connection.executemany(f"DELETE FROM {table_name(table)} WHERE key = ?", ((key,) for key in keys))
        for stream, before in changes.forget.items():
            self._forget(connection, stream, (before - EPOCH) // MICROSECOND)
        reach("journal.after-write")
        for place, offset in changes.positions.items():
            self._set(connection, "position", place, max(offset, *self._numbers("position").get(place, (0,))))
        for producer, sequence in changes.producers.items():
            self._set(connection, "producer", (producer,), max(sequence, *self._numbers("producer").get((producer,), (-1,))))
        for account, counted in changes.counts.items():
            self._set(connection, "account", account, counted + self._numbers("account").get(account, (0,))[0])
        for source, busy in changes.busy.items():
            busy_us = busy // MICROSECOND
            began_us = now_us - busy_us
            first_us, last_us, before_us = self._numbers("activity").get((source,), (began_us, now_us, 0))
            span = min(first_us, began_us), max(last_us, now_us)  # the clock may have been set back
            self._set(connection, "activity", (source,), *span, before_us + busy_us)

    def _numbers(self, table: str) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """A table of numbers by its key, read once, until another process writes or a transaction fails."""
        if table not in self._read:
            self._read[table] = self._counted(table, COUNTED[table], KEYS[table])
        return self._read[table]

    def _set(self, connection: sqlite3.Connection, table: str, key: tuple[object, ...], *numbers: int) -> None:
        fields = (*key, *numbers)
        marks = ", ".join("?" * (len(fields) + 1))
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES ({marks})", (*fields, of_fields(*fields)))
        self._numbers(table)[key] = numbers

    def _append(self, connection: sqlite3.Connection, stream: str, record: Record, now_us: int) -> None:
        self._make(connection, log_name(stream), LOG_COLUMNS)
        last = self._head(stream, "ORDER BY offset DESC LIMIT 1")
        offset, rows_before = (0, 0) if last is None else (last[0] + 1, last[2] + last[3])
        begin, end = (log_name(stream), BEGIN), (log_name(stream), END)
        (due,) = self._numbers("position").get(end, (offset,))
        if due != offset:
            raise self._wrong(stream, f"the record at offset {due - 1} is missing, with which it ends")
        if begin not in self._numbers("position"):
            self._set(connection, "position", begin, offset)
        self._set(connection, "position", end, offset + 1)
        fields = (offset, now_us, record.rows, rows_before, record.key, json.dumps(dict(record.headers)))
        head = head_of(stream, *fields)
        connection.execute(
            f"INSERT INTO {log_name(stream)} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (*fields, head, of_payload(record.payload, head), record.payload),
        )

    def _remove(self, connection: sqlite3.Connection, stream: str, stays: int) -> int:
        """Remove what lies ahead of the record at ``stays``, which is there; returns how many records."""
        self._set(connection, "position", (log_name(stream), BEGIN), stays)
        return connection.execute(f"DELETE FROM {log_name(stream)} WHERE offset < ?", (stays,)).rowcount

    def _forget(self, connection: sqlite3.Connection, stream: str, before_us: int) -> None:
        """Remove the oldest records of ``stream`` up to one that was appended after ``before_us``: TRIMMED_AT_ONCE at most, and
        never the newest."""
        oldest = f"SELECT offset, appended_us FROM {log_name(stream)} ORDER BY offset LIMIT {TRIMMED_AT_ONCE + 1}"
        records = connection.execute(oldest).fetchall()
        stays = next((offset for offset, at_us in records if at_us > before_us), records[-1][0])
        if stays > records[0][0]:
            self._remove(connection, stream, stays)

    def _make(self, connection: sqlite3.Connection, name: str, columns: str) -> None:
        if name not in self._known:
            make(connection, name, columns)
            self._known.add(name)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        """A transaction: kept when all goes well, else nothing of it; raises StorageFailed."""
        connection = self._ready()
        try:
            reach("journal.before-write")
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            reach("journal.before-commit")
            connection.execute("COMMIT")
            reach("journal.after-commit")
        except BaseException as cause:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            self._known.clear()
            self._read.clear()
            if getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_OK) & 0xFF == sqlite3.SQLITE_READONLY:
                self.close()  # opened so, it stays so, even when its folder can be written again
            if isinstance(cause, sqlite3.Error | UnicodeDecodeError):
                raise self._failure("written", cause) from cause
            raise

"""What can be read from a journal, by any process; every row is compared with its checksum before it is given away."""

import json
import logging
import sqlite3
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from churnstream.journal.checksums import head_of, is_of, of_fields, of_payload
from churnstream.journal.file import JournalFile
from churnstream.journal.rows import ROWS_AT_ONCE, Rows
from churnstream.journal.schema import BEGIN, END, log_name, table_name
from churnstream.records import Delivered

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HEAD = "offset, appended_us, rows, rows_before, key, headers, head"
BOUND = "SELECT next_offset FROM position WHERE stream = ? AND shard = ?"
log = logging.getLogger("journal")


class JournalReader(JournalFile):
    """A journal as its readers know it. Every method raises CorruptedRecord when what it would give away is not what was written,
    and StorageFailed when the file cannot be read."""

    def read(self, stream: str, shard: int, offset: int, max_records: int, max_bytes: int) -> list[Delivered]:
        """Records of ``stream`` from ``offset`` on; at least one when there is one, else as many as fit both bounds.

        What was removed because of its age is left out, which is logged.
        """
        found = self._records(stream, shard, offset, max_records, max_bytes)
        if not found and (self._bound(stream, END) or 0) > offset:  # which may have moved between the two looks
            found = self._records(stream, shard, offset, max_records, max_bytes)
            if not found:
                raise self._wrong(stream, f"the record at offset {offset} is missing, and all after it")
        return found

    def _records(self, stream: str, shard: int, offset: int, max_records: int, max_bytes: int) -> list[Delivered]:
        delivered: list[Delivered] = []
        size, due = 0, offset
        query = f"SELECT {HEAD}, checksum, payload FROM {log_name(stream)} WHERE offset >= ? ORDER BY offset LIMIT ?"
        with self._reading(log_name(stream)) as connection:
            if connection is None:
                return delivered
            cursor = connection.execute(query, (offset, max_records))
            for *fields, head, checksum, payload in cursor:
                at, appended_us, rows, _, key, headers = self._headed(stream, fields, head)
                if not is_of(checksum, of_payload, payload, head):
                    raise self._wrong(stream, f"the record at offset {at} does not match its checksum")
                if at != due:
                    self._expect_removed(connection, stream, due, at)
                due = at + 1
                size += len(payload)
                if delivered and size > max_bytes:
                    break
                appended_at = EPOCH + timedelta(microseconds=appended_us)
                delivered.append(Delivered(stream, shard, at, appended_at, payload, rows, key, json.loads(headers)))
            cursor.close()
        return delivered

    def begin(self, stream: str) -> int:
        """The offset of the oldest record of ``stream`` that is still there; its ``end`` when there is none."""
        with self._reading(log_name(stream)) as connection:
            if connection is None:
                return 0
            query = f"SELECT min(offset), ({BOUND}) FROM {log_name(stream)}"
            begin, due = connection.execute(query, (log_name(stream), BEGIN)).fetchone()
        if due is not None and due != begin:
            raise self._wrong(stream, f"the record at offset {due} is missing, with which it begins")
        return begin or 0

    def end(self, stream: str) -> int:
        """The offset that the next record of ``stream`` will get."""
        last = self._last(stream)
        return 0 if last is None else last[0] + 1

    def rows(self, stream: str, offset: int | None = None) -> int:
        """How many rows of ``stream`` stood before ``offset``, those that were removed since among them; before the end when it
        is None."""
        if offset is None:
            last = self._last(stream)
            return 0 if last is None else last[2] + last[3]
        following = self._head(stream, "WHERE offset >= ? ORDER BY offset LIMIT 1", offset)
        if following is None:
            return self.rows(stream)
        if following[0] != offset and following[0] != self.begin(stream):
            raise self._wrong(stream, f"the record at offset {offset} is missing")
        return int(following[3])

    def appended_at(self, stream: str, offset: int) -> datetime | None:
        """When the record at ``offset`` was appended, or the first that is there after it; None when there is none."""
        found = self._head(stream, "WHERE offset >= ? ORDER BY offset LIMIT 1", offset)
        return None if found is None else EPOCH + timedelta(microseconds=found[1])

    def position(self, stream: str, shard: int) -> int:
        """The offset of the next record of ``stream`` that this function will apply."""
        return self._counted("position", "stream, shard, next_offset", 2).get((stream, shard), (0,))[0]

    def sequence(self, producer: str) -> int:
        """The last sequence number that ``producer`` has appended; -1 before the first."""
        return self._counted("producer", "id, sequence", 1, "WHERE id = ?", producer).get((producer,), (-1,))[0]

    def producers(self) -> tuple[str, ...]:
        """Who has appended with a sequence number."""
        return tuple(sorted(name for (name,) in self._counted("producer", "id, sequence", 1)))

    def get(self, table: str, key: str) -> bytes | None:
        return self.get_many(table, (key,)).get(key)

    def get_many(self, table: str, keys: Iterable[str]) -> dict[str, bytes]:
        """The values of those ``keys`` that are there."""
        name = table_name(table)
        with self._reading(name) as connection:
            return {} if connection is None else self._rows(table, connection).of(list(dict.fromkeys(keys)))

    def items(self, table: str) -> Iterator[tuple[str, bytes]]:
        """Every row of ``table`` in the order of its key, some at a time: a row that is changed meanwhile is given as it was
        or as it is. Whoever takes their time holds nobody up."""
        name, after, some = table_name(table), None, True
        while some:
            with self._reading(name) as connection:
                found = [] if connection is None else self._rows(table, connection).after(after)
            yield from found
            some = len(found) == ROWS_AT_ONCE
            after = found[-1][0] if found else None

    def version(self) -> int | None:
        """A number that is another one whenever another connection has written the file since; None before anything was."""
        with self._reading("position") as connection:
            return None if connection is None else int(connection.execute("PRAGMA data_version").fetchone()[0])

    def size(self, table: str) -> int:
        return self._one(table_name(table), f"SELECT count(*) FROM {table_name(table)}") or 0

    def accounts(self) -> dict[tuple[str, str], int]:
        """(source, outcome) -> rows."""
        found = self._counted("account", "source, outcome, rows", 2)
        return {(source, outcome): rows for (source, outcome), (rows,) in found.items()}

    def activity(self) -> dict[str, tuple[datetime, datetime, timedelta]]:
        """source -> (first, last, busy): when work on the source began, last ended, and how long it took in all."""
        found = self._counted("activity", "source, first_us, last_us, busy_us", 1)
        return {
            source: (EPOCH + timedelta(microseconds=first), EPOCH + timedelta(microseconds=last), timedelta(microseconds=busy))
            for (source,), (first, last, busy) in found.items()
        }

    # -- what was read, compared ----------------------------------------------------------------------------------------------

    def _head(self, stream: str, where: str, *given: object) -> list[Any] | None:
        """(offset, appended_us, rows, rows_before, key, headers) of one record."""
        with self._reading(log_name(stream)) as connection:
            if connection is None:
                return None
            found = connection.execute(f"SELECT {HEAD} FROM {log_name(stream)} {where}", given).fetchone()
            return None if found is None else self._headed(stream, list(found[:-1]), found[-1])

    def _last(self, stream: str) -> list[Any] | None:
        """As ``_head``, of the newest record; raises CorruptedRecord when there was a newer one."""
        with self._reading(log_name(stream)) as connection:
            if connection is None:
                return None
            query = f"SELECT {HEAD}, ({BOUND}) FROM {log_name(stream)} ORDER BY offset DESC LIMIT 1"
            found = connection.execute(query, (log_name(stream), END)).fetchone()
            if found is None:
                due = self._bound(stream, END)
                if due and self._head(stream, "LIMIT 1") is None:
                    raise self._wrong(stream, f"the record at offset {due - 1} is missing, and all before it")
                return None
            *fields, head, due = found
        if due is not None and due != fields[0] + 1:
            raise self._wrong(stream, f"the record at offset {due - 1} is missing, with which it ends")
        return self._headed(stream, fields, head)

    def _bound(self, stream: str, which: int) -> int | None:
        """Where the log was noted to begin, or to end; None for one that was written before that was noted."""
        found = self._counted(
            "position", "stream, shard, next_offset", 2, "WHERE stream = ? AND shard = ?", log_name(stream), which
        )
        return found.get((log_name(stream), which), (None,))[0]

    def _headed(self, stream: str, fields: list[Any], head: object) -> list[Any]:
        if not is_of(head, head_of, stream, *fields):
            raise self._wrong(stream, f"the record at offset {fields[0]} does not match its checksum")
        return fields

    def _expect_removed(self, connection: sqlite3.Connection, stream: str, due: int, at: int) -> None:
        """Between ``due`` and ``at`` there is nothing; so it must be where the log begins."""
        due_begin = self._bound(stream, BEGIN)
        begin = connection.execute(f"SELECT min(offset) FROM {log_name(stream)}").fetchone()[0]
        if begin != at or (due_begin is not None and due_begin < at):
            raise self._wrong(stream, f"the record at offset {due} is missing, before that at offset {at}")
        log.warning("%s, shard %s: the records from offset %d to %d were removed", stream, self.path.stem, due, at - 1)

    def _wrong(self, stream: str, what: str) -> Exception:
        return self._damaged(f"in the stream {stream}, shard {int(self.path.stem)}, {what}")

    def _rows(self, table: str, connection: sqlite3.Connection) -> Rows:
        return Rows(
            connection,
            table,
            lambda key: self._damaged(f"in the table {table}, at or beside the key {key!r}, a row does not match its checksum"),
        )

    def _counted(
        self, table: str, columns: str, keys: int, where: str = "", *given: object
    ) -> dict[tuple[Any, ...], tuple[Any, ...]]:
        """Rows by their first ``keys`` columns; where what is asked for is not there, all of them are compared."""
        with self._reading(table) as connection:
            found = (
                []
                if connection is None
                else connection.execute(f"SELECT {columns}, checksum FROM {table} {where}", given).fetchall()
            )
            if connection is not None and where and not found:
                found = connection.execute(f"SELECT {columns}, checksum FROM {table}").fetchall()
        for *fields, checksum in found:
            if not is_of(checksum, of_fields, *fields):
                raise self._damaged(f"in its table {table}, the row of {fields[0]!r} does not match its checksum")
        return {row[:keys]: row[keys:-1] for row in found}

    def _one(self, table: str, query: str) -> Any:
        with self._reading(table) as connection:
            found = None if connection is None else connection.execute(query).fetchone()
        return None if found is None else found[0]

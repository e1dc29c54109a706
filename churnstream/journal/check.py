"""Reads a whole journal and names every damaged place in it."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

from churnstream.errors import ChurnstreamError, CorruptedRecord
from churnstream.journal.checksums import head_of, is_of, of_fields, of_payload, of_row
from churnstream.journal.migration import COUNTED
from churnstream.journal.reading import HEAD, JournalReader
from churnstream.journal.schema import BEGIN, END, LOG, TABLE, log_name, table_name, there

SHOWN = 100  # of SQLite's own sentences about one file


def damages(path: Path) -> Iterator[str]:
    """A sentence for every damaged place of the journal at ``path``: none when all of it is as it was written."""
    journal = _Whole(path)
    try:
        yield from (f"{path}: {each}" for each in journal.damages())
    except ChurnstreamError as cause:
        yield str(cause)
    finally:
        journal.close()


class _Whole(JournalReader):
    def _expect_sound(self, connection: sqlite3.Connection, table: str) -> None:
        """All of the file is looked at anyway."""

    def damages(self) -> Iterator[str]:
        with self._reading("position") as connection:
            if connection is None:
                return
            names = there(connection)
            yield from _said(_of_sqlite(connection))
            for name in names:
                if name.startswith(LOG):
                    yield from _said(self._of_log(connection, name.removeprefix(LOG)))
                elif name.startswith(TABLE):
                    yield from _said(_of_table(connection, name.removeprefix(TABLE)))
                elif name in COUNTED:
                    yield from _said(_of_numbers(connection, name))

    def _of_log(self, connection: sqlite3.Connection, stream: str) -> Iterator[str]:
        place, due, rows_due = f"the stream {stream}, shard {int(self.path.stem)}", self._noted(stream, BEGIN), None
        for *fields, head, checksum, payload in connection.execute(
            f"SELECT {HEAD}, checksum, payload FROM {log_name(stream)} ORDER BY offset"
        ):
            offset, _, rows, rows_before, _, _ = fields
            if not (is_of(head, head_of, stream, *fields) and is_of(checksum, of_payload, payload, head)):
                yield f"{place}, offset {offset}: the record does not match its checksum"
                due = rows_due = None
                continue
            if due is not None and (offset, rows_before) != (due, rows_before if rows_due is None else rows_due):
                yield f"{place}, offset {due}: the record is missing"
            due, rows_due = offset + 1, rows_before + rows
        if due is not None and due < (self._noted(stream, END) or 0):
            yield f"{place}, offset {due}: the record is missing, and all after it"

    def _noted(self, stream: str, which: int) -> int | None:
        try:
            return self._bound(stream, which)
        except CorruptedRecord:
            return None  # the positions speak for themselves


def _of_sqlite(connection: sqlite3.Connection) -> Iterator[str]:
    for (said,) in connection.execute(f"PRAGMA quick_check({SHOWN})"):
        if said != "ok":
            yield from (f"SQLite says: {line}" for line in str(said).splitlines())


def _of_table(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    for key, value, checksum in connection.execute(f"SELECT key, value, checksum FROM {table_name(table)}"):
        if not is_of(checksum, of_row, table, key, value):
            yield f"the table {table}, key {key!r}: the row does not match its checksum"


def _of_numbers(connection: sqlite3.Connection, table: str) -> Iterator[str]:
    for *fields, checksum in connection.execute(f"SELECT {COUNTED[table]}, checksum FROM {table}"):
        if not is_of(checksum, of_fields, *fields):
            yield f"its table {table}, the row of {fields[0]!r}: it does not match its checksum"


def _said(found: Iterator[str]) -> Iterator[str]:
    """What is found until SQLite itself can read no further."""
    try:
        yield from found
    except (sqlite3.DatabaseError, UnicodeDecodeError) as cause:
        yield f"SQLite says: {cause}"

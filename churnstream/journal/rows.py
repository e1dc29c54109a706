"""The rows of a table, each compared with its checksum; that a key is not there is told by its neighbours being intact."""

import json
import sqlite3
from collections.abc import Callable, Iterable
from operator import lt
from typing import Any

from churnstream.journal.checksums import is_of, of_row, of_rows
from churnstream.journal.schema import table_name

ROWS_AT_ONCE = 500  # as many as stay in the processor's cache until they are compared
KEYS_AT_ONCE = 1_000
Row = tuple[str, bytes]


class Rows:
    """Reads one table over a connection; ``damaged(key)`` is the error to raise for a row that is not what was written."""

    def __init__(self, connection: sqlite3.Connection, table: str, damaged: Callable[[Any], Exception]):
        self._connection, self._table, self._damaged = connection, table, damaged
        self._name = table_name(table)

    def of(self, keys: list[str]) -> dict[str, bytes]:
        """The rows of those ``keys`` that are there."""
        found: dict[str, bytes] = {}
        for start in range(0, len(keys), KEYS_AT_ONCE):
            some = keys[start : start + KEYS_AT_ONCE]
            found.update(self._checked(f"WHERE key IN ({', '.join('?' * len(some))})", some))
            missing = [key for key in some if key not in found]
            if missing:
                self._look_beside(missing)
        return found

    def after(self, key: str | None) -> list[Row]:
        """The next rows after ``key`` in its order, ROWS_AT_ONCE at most; the first ones when it is None."""
        where, given = ("", []) if key is None else ("WHERE key > ?", [key])
        found = self._checked(f"{where} ORDER BY key LIMIT {ROWS_AT_ONCE}", given)
        keys = [each for each, _ in found]
        if not all(map(lt, keys, keys[1:])):
            raise self._damaged(keys[0])
        return found

    def _checked(self, where: str, given: Iterable[object]) -> list[Row]:
        found = self._connection.execute(f"SELECT key, value, checksum FROM {self._name} {where}", tuple(given)).fetchall()
        if not found:
            return []
        keys, values, checksums = zip(*found, strict=True)
        try:
            if tuple(of_rows(self._table, keys, values)) == checksums:
                return list(zip(keys, values, strict=True))
        except TypeError:  # what was bytes is a number or a word by now
            pass
        raise self._damaged(next(key for key, value, checksum in found if not is_of(checksum, of_row, self._table, key, value)))

    def _look_beside(self, keys: list[str]) -> None:
        """A key whose bytes were changed is not found where it was; it stands between the neighbours of who looks for it."""
        row = f"SELECT is_row(checksum, ?, key, value) FROM {self._name} WHERE key"
        query = (
            f"SELECT asked.value FROM json_each(?) AS asked WHERE ({row} < asked.value ORDER BY key DESC LIMIT 1) = 0"
            f" OR ({row} > asked.value ORDER BY key LIMIT 1) = 0 LIMIT 1"
        )
        found = self._connection.execute(query, (json.dumps(keys), self._table, self._table)).fetchone()
        if found is not None:
            raise self._damaged(found[0])

"""Brings a journal of an older layout to the present one, in one transaction: cut short, the file is as it was before."""

import sqlite3

from churnstream.journal.checksums import head_of, of_fields, of_payload, of_row
from churnstream.journal.schema import (
    BEGIN,
    END,
    LAYOUT,
    LEASE,
    LOG,
    LOG_COLUMNS,
    SCHEMA,
    TABLE,
    TABLE_COLUMNS,
    log_name,
    make_tables,
    seal,
    table_name,
    there,
)

OLDEST = 1
COUNTED = {
    "position": "stream, shard, next_offset",
    "producer": "id, sequence",
    "account": "source, outcome, rows",
    "activity": "source, first_us, last_us, busy_us",
}


def bring_up(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file, and give an older file the present layout; one that is newer stays as it is.

    Copying needs room for the file once more, in its write-ahead log; raises sqlite3.Error when there is none.
    """
    if _layout(connection) >= LAYOUT:
        return
    connection.execute("BEGIN IMMEDIATE")
    layout = _layout(connection)  # another process may have been quicker
    if layout == 0:
        make_tables(connection)
    elif layout < LAYOUT:
        if layout < 2:
            _from_1_to_2(connection)
        _from_2_to_3(connection)
        seal(connection)
    connection.execute("COMMIT")


def _layout(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    return found


def _from_1_to_2(connection: sqlite3.Connection) -> None:
    """Layout 2 gave every row a checksum."""
    connection.create_function("head_of", 7, head_of)
    connection.create_function("of_payload", 2, of_payload)
    connection.create_function("of_row", 3, of_row)
    connection.create_function("of_fields", -1, of_fields)
    names = there(connection)
    for name in names:
        if name != "lease":
            connection.execute(f"ALTER TABLE {_named(name)} RENAME TO {_named('old ' + name)}")
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"CREATE TABLE IF NOT EXISTS lease {LEASE}")
    for name in names:
        if name != "lease":
            _copy(connection, name)
            connection.execute(f"DROP TABLE {_named('old ' + name)}")


def _from_2_to_3(connection: sqlite3.Connection) -> None:
    """Layout 3 noted of each log where it begins and ends."""
    for name in there(connection):
        if name.startswith(LOG):
            log = _named(name)
            begin, end = connection.execute(f"SELECT min(offset), max(offset) + 1 FROM {log}").fetchone()
            for which, offset in ((BEGIN, begin), (END, end)):
                if offset is not None:
                    row = (log, which, offset)
                    connection.execute("INSERT INTO position VALUES (?, ?, ?, ?)", (*row, of_fields(*row)))
    connection.execute(f"PRAGMA user_version = {LAYOUT}")


def _copy(connection: sqlite3.Connection, name: str) -> None:
    old = _named(f"old {name}")
    if name in COUNTED:
        connection.execute(f"INSERT INTO {name} SELECT {COUNTED[name]}, of_fields({COUNTED[name]}) FROM {old}")
    elif name.startswith(LOG):
        stream = name.removeprefix(LOG)
        connection.execute(f"CREATE TABLE {log_name(stream)} {LOG_COLUMNS}")
        fields = "offset, appended_us, rows, rows_before, key, headers"
        connection.execute(
            f"INSERT INTO {log_name(stream)} SELECT {fields}, head, of_payload(payload, head), payload"
            f" FROM (SELECT *, head_of(?, {fields}) AS head FROM {old}) ORDER BY offset",
            (stream,),
        )
    elif name.startswith(TABLE):
        table = name.removeprefix(TABLE)
        connection.execute(f"CREATE TABLE {table_name(table)} {TABLE_COLUMNS}")
        query = f"INSERT INTO {table_name(table)} SELECT key, of_row(?, key, value), value FROM {old} ORDER BY key"
        connection.execute(query, (table,))


def _named(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""How a journal is laid out: its tables, and the names and columns of those that are made when first needed."""

import sqlite3

from churnstream.journal.checksums import of_fields

LAYOUT = 3
"""2: every row has a checksum. 3: of every log it is noted where it begins and ends."""

SCHEMA = """
CREATE TABLE position
  (stream TEXT, shard INTEGER, next_offset INTEGER NOT NULL, checksum INTEGER NOT NULL,
   PRIMARY KEY (stream, shard)) WITHOUT ROWID;
CREATE TABLE producer (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE account
  (source TEXT, outcome TEXT, rows INTEGER NOT NULL, checksum INTEGER NOT NULL, PRIMARY KEY (source, outcome)) WITHOUT ROWID;
CREATE TABLE activity
  (source TEXT PRIMARY KEY, first_us INTEGER NOT NULL, last_us INTEGER NOT NULL, busy_us INTEGER NOT NULL,
   checksum INTEGER NOT NULL) WITHOUT ROWID;
"""
LEASE = "(one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, owner TEXT NOT NULL)"
LOG_COLUMNS = (
    "(offset INTEGER PRIMARY KEY, appended_us INTEGER NOT NULL, rows INTEGER NOT NULL, rows_before INTEGER NOT NULL,"
    " key TEXT NOT NULL, headers TEXT NOT NULL, head INTEGER NOT NULL, checksum INTEGER NOT NULL, payload BLOB NOT NULL)"
)
TABLE_COLUMNS = "(key TEXT PRIMARY KEY, checksum INTEGER NOT NULL, value BLOB NOT NULL) WITHOUT ROWID"
LOG, TABLE = "log ", "table "
BEGIN, END = -1, -2
"""As shards, in ``position``, of a log's name: the offsets of its first record, and of the one that comes next."""


def make_tables(connection: sqlite3.Connection) -> None:
    """Make the tables of an empty file, in the transaction that is open."""
    for statement in SCHEMA.split(";"):
        connection.execute(statement)
    connection.execute(f"CREATE TABLE lease {LEASE}")
    connection.execute(f"PRAGMA user_version = {LAYOUT}")
    seal(connection)


def make(connection: sqlite3.Connection, name: str, columns: str) -> None:
    """Make a log or a table, of this quoted name, where it is not there yet."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = ?", (_unquoted(name),)).fetchone():
        connection.execute(f"CREATE TABLE {name} {columns}")
        seal(connection)


def seal(connection: sqlite3.Connection) -> None:
    """Write down which tables there are, so that one that has vanished is missed."""
    connection.execute(f"PRAGMA application_id = {_schema_of(connection)}")


def is_sealed(connection: sqlite3.Connection) -> bool:
    """Whether the tables that are there are those that were made."""
    application: int = connection.execute("PRAGMA application_id").fetchone()[0]
    return application == _schema_of(connection)


def there(connection: sqlite3.Connection) -> list[str]:
    """The names of the tables that are there, not quoted."""
    return [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]


def log_name(stream: str) -> str:
    """The SQL name of a stream's log."""
    return _quoted(LOG + stream)


def table_name(name: str) -> str:
    """The SQL name of a table."""
    return _quoted(TABLE + name)


def _schema_of(connection: sqlite3.Connection) -> int:
    """31 bits about the statements that made the tables; an application id has no more."""
    made = connection.execute("SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name").fetchall()
    return of_fields(*(field for row in made for field in row)) & 0x7FFFFFFF


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"')

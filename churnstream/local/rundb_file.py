"""The SQLite file of the run database: its layout, its transactions, and a connection for each thread and process."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from churnstream.errors import StorageFailed, UnknownVersion

LAYOUT = 1
WAIT_FOR_LOCK_S = 30.0

SCHEMA = """
create table if not exists objects(
    kind text not null, project text not null, name text not null, uid text not null, iter integer not null,
    tree text not null, best integer not null, created text not null, updated text not null,
    body text not null,
    primary key(kind, project, name, uid, iter));
create table if not exists tags(
    kind text not null, project text not null, name text not null, tag text not null,
    uid text not null, iter integer not null,
    primary key(kind, project, name, tag, uid, iter)) without rowid;
create table if not exists logs(
    project text not null, uid text not null, part integer not null, body blob not null,
    primary key(project, uid, part)) without rowid;
"""


class RunFile:
    """Every write is one transaction that survives `kill -9`. Threads and forked processes each get their own
    connection. Raises StorageFailed when the file cannot be opened or stays locked for 30 s, and UnknownVersion
    when a newer Churnstream wrote it.
    """

    def __init__(self, path: Path):
        self.path = path
        self._mine = threading.local()
        layout = self.connection().execute("pragma user_version").fetchone()[0]
        if layout > LAYOUT:
            raise UnknownVersion(f"{path} has layout {layout} and this version reads up to {LAYOUT}; upgrade churnstream")
        if layout < LAYOUT:
            with self.transaction() as db:
                for statement in SCHEMA.split(";\n"):
                    db.execute(statement)
                db.execute(f"pragma user_version = {LAYOUT}")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One write transaction; inside another one of the same thread it joins that one."""
        db = self.connection()
        if db.in_transaction:
            yield db
            return
        try:
            db.execute("begin immediate")
        except sqlite3.Error as cause:
            raise StorageFailed(f"cannot write to the run database {self.path}: {cause}") from cause
        try:
            yield db
            db.execute("commit")
        except BaseException as cause:
            if db.in_transaction:
                db.execute("rollback")
            if isinstance(cause, sqlite3.Error):
                raise StorageFailed(f"a write to the run database {self.path} failed: {cause}") from cause
            raise

    def connection(self) -> sqlite3.Connection:
        """This thread's own."""
        # A connection must not cross a fork, not even to be closed: the parent's stays open here, unused.
        if getattr(self._mine, "pid", None) != os.getpid():
            self._mine.inherited = [*getattr(self._mine, "inherited", ()), getattr(self._mine, "db", None)]
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                db = sqlite3.connect(self.path, timeout=WAIT_FOR_LOCK_S, isolation_level=None)
                db.execute("pragma journal_mode = wal")
                db.execute("pragma synchronous = full")
            except (OSError, sqlite3.Error) as cause:
                raise StorageFailed(f"cannot open the run database {self.path}: {cause}") from cause
            self._mine.db, self._mine.pid = db, os.getpid()
        connection: sqlite3.Connection = self._mine.db
        return connection

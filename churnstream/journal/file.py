"""The file of a journal, and the connection to it."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from churnstream.errors import CorruptedRecord, StorageFailed, UnknownVersion
from churnstream.journal.checksums import is_of_row
from churnstream.journal.migration import OLDEST, bring_up
from churnstream.journal.schema import LAYOUT, LOG, is_sealed

LOCK_WAIT_S = 30.0
WAL_RETRY_S = 0.002
OTHERS_AT_WORK = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL)  # a full disk is not among them
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


class JournalFile:
    """``writable=False`` reads only, and reads as empty while the file does not exist."""

    def __init__(self, path: Path, writable: bool = False, patience: float = LOCK_WAIT_S):
        self.path = path
        self._writable = writable
        self._patience = patience
        self._resolved = path.resolve()
        self._lock = threading.RLock()
        self._known: set[str] = set()  # logs and tables that are there, by their SQL names
        self._sound: set[str] = set()  # tables of whose pages SQLite found that they hang together
        self._connection: sqlite3.Connection | None = None
        if writable:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as cause:
                raise StorageFailed(f"the journal {path} could not be opened ({cause})") from cause
            self._connection = self._open()

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None
                self._sound.clear()

    def _open(self) -> sqlite3.Connection:
        connection = None
        try:
            connection = self._connect("rwc" if self._writable else "ro")
            layout = self._layout(connection)
            if layout > LAYOUT:
                raise UnknownVersion(
                    f"the journal {self.path} has layout {layout}, and this version of Churnstream knows layouts up to {LAYOUT};"
                    " use the version that wrote it, or a newer one"
                )
            if self._writable:
                self._prepare(connection)
            elif OLDEST <= layout < LAYOUT:
                self._bring_up(layout)
            if not is_sealed(connection):
                raise self._damaged("its tables are not those that were made")
        except Exception as cause:
            if connection is not None:
                connection.close()
            if isinstance(cause, sqlite3.Error | UnicodeDecodeError):
                raise self._failure("opened", cause) from cause
            raise
        return connection

    def _connect(self, mode: str) -> sqlite3.Connection:
        connection = sqlite3.connect(
            f"{self.path.resolve().as_uri()}?mode={mode}",
            uri=True,
            timeout=self._patience,
            isolation_level=None,
            check_same_thread=False,
        )
        connection.create_function("is_row", 4, is_of_row, deterministic=True)
        return connection

    def _layout(self, connection: sqlite3.Connection) -> int:
        """0 while no writer has finished making the file."""
        layout: int = connection.execute("PRAGMA user_version").fetchone()[0]
        if layout == 0 and connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            # one more look, in case it was made between the two
            layout = connection.execute("PRAGMA user_version").fetchone()[0]
            if layout == 0:
                raise self._damaged("it has tables, and no layout")
        if layout < 0:
            raise self._damaged(f"its layout is {layout}")
        return layout

    def _prepare(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA page_size = 16384")  # records are large; takes effect on a new file only
        self._use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 500")
        connection.execute("PRAGMA cell_size_check = ON")
        bring_up(connection)

    def _bring_up(self, layout: int) -> None:
        try:
            JournalFile(self.path, writable=True, patience=self._patience).close()
        except StorageFailed as cause:
            raise UnknownVersion(
                f"the journal {self.path} has layout {layout}, and it could not be brought to layout {LAYOUT}, which this version"
                f" of Churnstream reads ({cause}); make its folder writable, or read it with the version that wrote it"
            ) from cause

    def _use_wal(self, connection: sqlite3.Connection) -> None:
        """Ask again when another process is making the same file: for this one statement SQLite does not wait by itself."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as cause:
                if cause.sqlite_errorcode & 0xFF not in OTHERS_AT_WORK or time.monotonic() > deadline:
                    raise
                time.sleep(WAL_RETRY_S)

    def _ready(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    @contextmanager
    def _reading(self, table: str) -> Iterator[sqlite3.Connection | None]:
        """A connection when ``table`` is there to be read, else None; raises CorruptedRecord and StorageFailed."""
        with self._lock:
            try:
                if self._connection is None and not self._written():
                    yield None
                    return
                connection = self._ready()
                there = table in self._known or self._is_there_now(connection, table)
                if there and table not in self._sound:
                    self._expect_sound(connection, table)
                yield connection if there else None
            except (sqlite3.Error, UnicodeDecodeError) as cause:  # the latter is raised by a message that is damaged itself
                raise self._failure("read", cause) from cause

    def _is_there_now(self, connection: sqlite3.Connection, table: str) -> bool:
        name = table[1:-1].replace('""', '"') if table.startswith('"') else table
        if connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)).fetchone() is None:
            return False
        self._known.add(table)
        return True

    def _written(self) -> bool:
        """Whether a writer has finished making the file; a reader that comes while it is being made sees nothing yet."""
        if not self.path.exists():
            return False
        try:
            with closing(self._connect("ro")) as connection:
                return bool(self._layout(connection))
        except sqlite3.OperationalError:
            return False

    def _expect_sound(self, connection: sqlite3.Connection, table: str) -> None:
        """No checksum of rows tells that one is not found any more, as its page leads elsewhere: pages are looked at once a
        connection. Those of a log are not, which may be long: its records have numbers, and it knows its first and last."""
        if not table.startswith(f'"{LOG}'):
            (said,) = connection.execute(f"PRAGMA quick_check({table})").fetchone()
            if said != "ok":
                raise self._damaged(f"in its table {table}, SQLite says: {said}")
        self._sound.add(table)

    def _failure(self, done: str, cause: Exception) -> StorageFailed:
        code = getattr(cause, "sqlite_errorcode", None)  # SQLite's extended code; its low byte is the plain one
        if (
            (code is not None and code & 0xFF in DAMAGED)
            or isinstance(cause, UnicodeDecodeError)
            or "decode to UTF-8" in str(cause)
            or "user-defined function" in str(cause)  # which is given text that is none
        ):
            return self._damaged(f"SQLite says: {cause}")
        kept = "; nothing of this batch was kept" if done == "written" else ""
        return StorageFailed(f"the journal {self.path} could not be {done} ({cause}){kept}")

    def _damaged(self, what: str) -> CorruptedRecord:
        return CorruptedRecord(
            f"the journal {self.path} is damaged: {what}. Nothing of it was used; `churnstream check` lists every damaged place,"
            " and a copy of the file from before puts it right"
        )

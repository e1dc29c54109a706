"""Who may move a journal's positions: the process that holds its lease."""

import sqlite3
from pathlib import Path

from churnstream.errors import LeaseLost
from churnstream.journal.changes import Lease
from churnstream.journal.reading import JournalReader

_taken: dict[Path, Lease] = {}  # the leases of this process, whichever of its connections writes


class HeldJournal(JournalReader):
    """A journal that a process may hold."""

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

    def _refuse_when_held_by_another(self, connection: sqlite3.Connection) -> None:
        found = connection.execute("SELECT epoch, owner FROM lease").fetchone()
        if found is not None and found[1] and Lease(*found) != _taken.get(self._resolved):
            raise LeaseLost(f"{self._shard()} is held by {found[1]} (epoch {found[0]}); nothing of this was written")

    def _in_one_statement(self, statement: str, given: tuple[object, ...]) -> bool:
        """Whether it changed a row."""
        with self._lock:
            try:
                return self._ready().execute(statement, given).rowcount > 0
            except sqlite3.Error as cause:
                raise self._failure("written", cause) from cause

    def _shard(self) -> str:
        return f"{self.path.parent.name}, shard {self.path.stem}"

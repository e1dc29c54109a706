"""Who may move a function's positions: one process a shard, as the shard's journal says."""

import os
from contextlib import closing
from typing import Protocol

from churnstream import wiring
from churnstream.journal import Journal, Lease
from churnstream.local.retention import begin_where_streams_begin
from churnstream.settings import Settings

LOCK_WAIT_S = 1.0  # for a writer to finish; one that was stopped in the middle never does


class Leases(Protocol):
    """The leases of one function. Calls may block for a moment; any thread may make them."""

    def newest(self, shards: int) -> int:
        """The highest epoch under which one of the shards was ever held; 0 when none was."""
        ...

    def take(self, shard: int, epoch: int) -> None:
        """Hold the shard; raises LeaseLost when its epoch is not below ``epoch``, StorageFailed when nothing can be written."""
        ...

    def give_up(self, shard: int) -> None:
        """Hold the shard no longer; raises StorageFailed."""
        ...

    def is_held(self, shard: int) -> bool:
        """True while nobody else has taken it."""
        ...


class JournalLeases:
    """Leases in the journals of an embedded function, in the name of this process."""

    def __init__(self, function: str, settings: Settings):
        self._function, self._settings = function, settings

    def newest(self, shards: int) -> int:
        newest = 0
        for shard in range(shards):
            with closing(self._read(shard)) as journal:
                newest = max(newest, journal.lease().epoch)
        return newest

    def take(self, shard: int, epoch: int) -> None:
        with closing(self._write(shard)) as journal:
            journal.take(Lease(epoch, f"process {os.getpid()}"))
            begin_where_streams_begin(journal, self._function, shard, self._settings)

    def give_up(self, shard: int) -> None:
        with closing(self._write(shard)) as journal:
            journal.give_up()

    def is_held(self, shard: int) -> bool:
        with closing(self._read(shard)) as journal:
            return journal.is_held_here()

    def _read(self, shard: int) -> Journal:
        return wiring.open_journal(self._function, shard, self._settings)

    def _write(self, shard: int) -> Journal:
        return Journal(self._read(shard).path, writable=True, patience=LOCK_WAIT_S)

"""What is written into a journal at once, and who may write it."""

from collections.abc import Set
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from churnstream.records import Record


@dataclass(slots=True)
class Changes:
    """What one transaction writes; collected first, so that the lock is held only while it is written.

    ``effects_of`` is the record (stream, shard, offset) whose effects these are: when they are there already, because a worker
    that was thought dead was not, nothing is written. ``held`` changes are refused while another process holds the journal.
    ``seen`` is what they were decided on, (table, key) -> value: they are refused when another process has changed it since.
    ``unmet`` are the keys that a memory did not hold, memory -> (the end of its log by then, keys): they are refused when another
    process has added one of them since. ``forget`` has logs with an instant: of what was appended then or before, a little is
    removed.
    """

    appends: list[tuple[str, Record]] = field(default_factory=list)
    puts: dict[str, dict[str, bytes]] = field(default_factory=dict)
    deletes: dict[str, list[str]] = field(default_factory=dict)
    positions: dict[tuple[str, int], int] = field(default_factory=dict)
    counts: dict[tuple[str, str], int] = field(default_factory=dict)
    producers: dict[str, int] = field(default_factory=dict)
    busy: dict[str, timedelta] = field(default_factory=dict)
    effects_of: tuple[str, int, int] | None = None
    held: bool = False
    seen: dict[tuple[str, str], bytes | None] = field(default_factory=dict)
    unmet: dict[str, tuple[int, Set[bytes]]] = field(default_factory=dict)
    forget: dict[str, datetime] = field(default_factory=dict)

    def count(self, source: str, outcome: str, rows: int) -> None:
        if rows:
            self.counts[source, outcome] = self.counts.get((source, outcome), 0) + rows


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to move a journal's positions; each has an ``epoch`` above the last. Without an ``owner`` nobody holds it."""

    epoch: int = 0
    owner: str = ""

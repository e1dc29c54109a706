"""The file of one (function, shard): everything that this function keeps about this shard, in one SQLite database.

It holds the function's output streams' shard, its dead letters, its tables' rows, the positions it has consumed and its accounts,
so that one ordinary transaction covers them all: a record's effects and the position behind it are durable together or not at
all. SQLite runs in WAL mode with ``synchronous=FULL``: a committed transaction survives ``kill -9`` and a power cut. One process
writes a journal at a time (others wait for its lock); any process may read it. Whoever moves its positions holds its lease: what
a process writes that has lost it, maybe without knowing, is refused. Every row carries a checksum, and one that does not match it
is never given away: CorruptedRecord says where it stands. That a row is not there is believed where SQLite finds that the pages
of its table hang together, and of a record where it is noted that its log begins later, or ends before. (A damaged write-ahead
log is another matter: SQLite leaves out what it holds from the damage on, effects and positions together, so that they are read
from their source again.)
"""

from churnstream.journal.changes import Changes, Lease
from churnstream.journal.check import damages
from churnstream.journal.memory import KEY_BYTES, MOVED_AT_ONCE, pack
from churnstream.journal.shards import Journals, journal_path
from churnstream.journal.writing import Journal

__all__ = ["KEY_BYTES", "MOVED_AT_ONCE", "Changes", "Journal", "Journals", "Lease", "damages", "journal_path", "pack"]

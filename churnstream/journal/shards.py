"""The journals of one function, a file for each shard."""

from pathlib import Path

from churnstream.errors import StorageFailed
from churnstream.journal.memory import Memory
from churnstream.journal.writing import Journal


def journal_path(folder: Path, function: str, shard: int) -> Path:
    """Where the journal of (function, shard) lies in the folder of a project's case."""
    return folder / function / f"{shard:02d}.db"


class Journals:
    """The journals of one function, opened when first needed."""

    def __init__(self, folder: Path, function: str, shards: int, writable: bool = False):
        self.shards = shards
        self._folder, self._function, self._writable = folder, function, writable
        self._open: dict[int, Journal] = {}
        self._memories: dict[tuple[int, str], Memory] = {}
        self.free_since = 0.0  # when the last unit ended, in seconds of the performance counter
        self.owed = 0.0  # seconds spent committing, which only the next commit can write down

    def __getitem__(self, shard: int) -> Journal:
        journal = self._open.get(shard)
        if journal is None:
            if not 0 <= shard < self.shards:
                raise StorageFailed(f"{self._function} has shards 0 to {self.shards - 1}; there is no shard {shard}")
            journal = Journal(journal_path(self._folder, self._function, shard), self._writable)
            self._open[shard] = journal
        return journal

    def memory(self, shard: int, name: str) -> Memory:
        """What was met in ``shard`` before, as it was when it was last read."""
        return self._memories.setdefault((shard, name), Memory())

    def close(self) -> None:
        for journal in self._open.values():
            journal.close()
        self._open.clear()
        self._memories.clear()

"""Tables on one machine: a key's value lies in the journal of the function that keeps the table, in the key's shard."""

from collections.abc import Iterable, Iterator

from churnstream.journal import Journals
from churnstream.records import shard_of


class EmbeddedTable:
    """Reads one table across the shards of its keeper."""

    def __init__(self, journals: Journals, name: str):
        self._journals, self._name = journals, name

    def get(self, key: str) -> bytes | None:
        return self._journals[shard_of(key, self._journals.shards)].get(self._name, key)

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        by_shard: dict[int, list[str]] = {}
        for key in keys:
            by_shard.setdefault(shard_of(key, self._journals.shards), []).append(key)
        found: dict[str, bytes] = {}
        for shard, some in by_shard.items():
            found |= self._journals[shard].get_many(self._name, some)
        return found

    def version(self, key: str) -> int | None:
        return self._journals[shard_of(key, self._journals.shards)].version()

    def items(self) -> Iterator[tuple[str, bytes]]:
        for shard in range(self._journals.shards):
            yield from self._journals[shard].items(self._name)

    def __len__(self) -> int:
        return sum(self._journals[shard].size(self._name) for shard in range(self._journals.shards))

    def close(self) -> None:
        self._journals.close()

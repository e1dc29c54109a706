"""What a function moves and writes in its shards, watched: who is refused because another worker holds the shard is found out."""

from collections.abc import Callable, Sequence

from churnstream.errors import LeaseLost
from churnstream.local.refusals import Refusals
from churnstream.records import Delivered
from churnstream.streams.base import Positions
from churnstream.streams.delivery import LeftOut


class WatchedPositions:
    """Positions that tell when moving one was refused."""

    def __init__(self, positions: Positions, refused: Callable[[int], None]):
        self._positions, self._refused = positions, refused

    def get(self, stream: str, shard: int) -> int:
        return self._positions.get(stream, shard)

    def advance(self, stream: str, shard: int, next_offset: int) -> None:
        try:
            self._positions.advance(stream, shard, next_offset)
        except LeaseLost:
            self._refused(shard)
            raise

    def close(self) -> None:
        self._positions.close()


class WatchedRefusals:
    """Refusals that tell when passing a record was refused."""

    def __init__(self, refusals: Refusals, refused: Callable[[int], None]):
        self._refusals, self._refused = refusals, refused
        self.tries, self.redriven = refusals.tries, refusals.redriven

    def refuse(self, record: Delivered, letters: Sequence[LeftOut]) -> None:
        try:
            self._refusals.refuse(record, letters)
        except LeaseLost:
            self._refused(record.shard)
            raise

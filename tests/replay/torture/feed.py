"""The producer, a process of its own: ``python -m tests.replay.torture.feed HOME SEED CUSTOMERS EVENTS PIECE``.

Each line of its input is a number of events that are to be in the generated stream; it answers with how many are. Killed and
started again, it makes the same events, and adds those that are missing. A piece is how many it appends at a time.
"""

import sys
import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from churnstream.records import shard_of
from churnstream.settings import Settings, read_settings
from churnstream.stages.produce import Producer
from churnstream.usecases.first_day import simulate
from churnstream.wiring import open_parts
from tests.replay.torture.events import STRAY_EVERY, STRAYS, Strays, events, size

PAUSE_S = 0.01  # between two pieces, so that functions are found at work more often


class Feed:
    """Puts the events of a seed into the generated stream of ``settings``."""

    def __init__(self, settings: Settings, seed: int, customers: int, count: int):
        self._parts = open_parts("event-generator", settings)
        parts, home = self._parts, shard_of(STRAYS, self._parts.shards)
        self._producer = Producer(f"torture/{seed}", parts.begin, lambda shard, name: parts.journal(shard).sequence(name))
        self._strays = Strays(parts.begin, lambda name: parts.journal(home).sequence(name))
        self._events = events(seed, customers, count)
        self._few = simulate(seed + 1, max(8, customers // STRAY_EVERY), size(customers, count) // STRAY_EVERY)
        self.fed = 0

    def give(self, count: int) -> bool:
        """Append the next ``count`` events, durably, and a stray beside each 40; False when there are no more."""
        given = 0
        for event in islice(self._events, count):
            self._producer.add(event)
            given += 1
            if (self.fed + given) % STRAY_EVERY == 0:
                self._strays.add(next(self._few))
        self._producer.flush()
        self._strays.flush()
        self.fed += given
        return given == count

    def close(self) -> None:
        self._parts.close()


def serve(feed: Feed, targets: Iterable[str], piece: int) -> Iterator[int]:
    """Feed up to each target; how many have been fed, after each piece."""
    for line in targets:
        while feed.fed < int(line) and feed.give(min(piece, int(line) - feed.fed)):
            yield feed.fed
            time.sleep(PAUSE_S)
        yield feed.fed


def main(given: list[str]) -> Any:
    """The command line."""
    home, seed, customers, count, piece = given[0], *(int(each) for each in given[1:])
    feed = Feed(read_settings({"CHURNSTREAM_HOME": home}), seed, customers, count)
    for fed in serve(feed, sys.stdin, piece):
        sys.stdout.write(f"{fed}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])

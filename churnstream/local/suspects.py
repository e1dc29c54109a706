"""Which record a worker's process ends of: what the supervisor knows about it, as it outlives the workers.

A worker that ends unasked leaves the shards that it held in doubt. Whoever holds one of them next hands its first record over
alone, and says so before (``local/caution.py``): when the process ends again, it is known of which record. Nothing of this is
asked for, or written anywhere, while no process ends.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

DEATHS = 2  # while one record was in hand, and the rows that it ends of are looked for
SEARCHES = 64  # deaths within SEARCH_WINDOW_S that a search may cost, before they count as a crash loop
SEARCH_WINDOW_S = 600.0
DOUBT = "doubt"  # the word of which a worker's messages about it are made

Place = tuple[str, int, int]  # a stream's name, a shard, an offset


@dataclass(slots=True)
class Suspicion:
    """About one record: a sentence for each process that ended while all of it was in hand; and what became of the trials of
    some of its rows, in order: empty for those that went well."""

    deaths: list[str] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)

    @property
    def reason(self) -> str:
        """Why the rows that it ends of are to be looked for now; empty while they are not."""
        searched = next((outcome for outcome in self.outcomes if outcome), "")
        return self.deaths[-1] if len(self.deaths) >= DEATHS else searched


class Suspects:
    """The doubts about one deployment's records."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.shards: set[int] = set()
        """Those in doubt."""
        self._clock = clock
        self._records: dict[Place, Suspicion] = {}
        self._in_hand: dict[int, tuple[Place, bool]] = {}  # worker -> its record, and whether only some rows of it, on trial
        self._searched: deque[float] = deque()

    def hear(self, worker: int, said: Mapping[str, Any]) -> dict[str, Any]:
        """What a worker said about a record that it holds; returns the answer."""
        place = (said["stream"], said["shard"], said["offset"])
        match said[DOUBT]:
            case "recall":
                return asdict(self.recall(place))
            case "begin":
                self.begin(worker, place, said["trial"], said["outcomes"])
            case "returned":
                self.returned(worker)
            case "through":
                self.through(place, said["last"])
        return {}

    def recall(self, place: Place) -> Suspicion:
        """What is known about a record."""
        return self._records.get(place) or Suspicion()

    def begin(self, worker: int, place: Place, trial: bool, outcomes: Iterable[str]) -> None:
        """A worker is about to hand a record over; ``outcomes`` are those of all trials before this one."""
        self._records.setdefault(place, Suspicion()).outcomes = list(outcomes)
        self._in_hand[worker] = (place, trial)

    def returned(self, worker: int) -> None:
        """The function came back to the worker, whatever it made of the record."""
        self._in_hand.pop(worker, None)

    def through(self, place: Place, last: bool) -> None:
        """A record is behind the function; ``last``, its shard is in doubt no longer."""
        self._records.pop(place, None)
        if last:
            self.shards.discard(place[1])

    def died(self, worker: int, shards: Iterable[int], how: str) -> bool:
        """A worker that had ``shards`` ended unasked; returns whether that was the price of a search.

        ``how`` completes "the process …", as in "was ended by SIGSEGV".
        """
        self.shards.update(shards)
        place, trial = self._in_hand.pop(worker, (None, False))
        if place is None:
            return False
        known, reason = self._records[place], f"the function's process {how} while it worked on it"
        if not trial:
            known.deaths.append(reason)
            return False
        known.outcomes.append(reason)
        return self._affordable()

    def _affordable(self) -> bool:
        now = self._clock()
        while self._searched and self._searched[0] < now - SEARCH_WINDOW_S:
            self._searched.popleft()
        self._searched.append(now)
        return len(self._searched) <= SEARCHES

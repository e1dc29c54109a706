"""Customers' features as of now, out of this process's memory: a cache that reads through to the feature table.

What is answered is never older than ``staleness``: after that a customer's stored bytes are looked at again, or, where the table
can say that nothing in it has changed, only the windows are read again, so that silence counts. ``heard`` makes the next look-up
of a customer read the table: serving calls it for everyone whose new features come by in the stream.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime, timedelta

from churnstream.errors import BadRequest, UnknownCustomer
from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op, Ratio
from churnstream.features.windows import First, Lifetime
from churnstream.graph.engine import EPOCH, read, restore
from churnstream.graph.memory import NEWEST, Memory
from churnstream.graph.places import Places
from churnstream.graph.plan import compile_plan
from churnstream.serving.requests import Known
from churnstream.tables.base import TableReader
from churnstream.usecases.case import UseCase

STALENESS = timedelta(seconds=1)
MOST_CUSTOMERS = 200_000  # these two where the settings say nothing else


class _Held:
    """A customer in memory: the stored bytes, the version of the table they were read at, and what was last read of them."""

    __slots__ = ("known", "looked_at", "newest", "packed", "place", "stale_at", "version")

    def __init__(self, packed: bytes, place: int, newest: datetime):
        self.packed, self.place, self.newest = packed, place, newest
        self.version: int | None = None
        self.known: Known
        self.looked_at: datetime
        self.stale_at: datetime


class Customers:
    """``customers(user_id)`` is what is known of a customer now. ``most`` are held at once; not for several threads.

    ``looks`` counts how often the table was looked at; other answers came out of memory alone.

    Two generations: who is asked for moves into the young one; when that holds half of ``most``, the old one goes.
    """

    def __init__(
        self,
        case: UseCase,
        table: TableReader,
        clock: Callable[[], datetime],
        staleness: timedelta = STALENESS,
        most: int = MOST_CUSTOMERS,
    ):
        self._plan, self._table, self._clock = compile_plan(case), table, clock
        self._still = stands_still(case.features)
        self.staleness, self.most, self._half = staleness, most, max(1, most // 2)
        self.looks = 0
        self._old: dict[str, _Held] = {}
        self._begin()

    def __len__(self) -> int:
        return len(self._young | self._old)

    def __call__(self, user_id: str) -> Known:
        """What is known now, or was at most ``staleness`` ago; raises UnknownCustomer."""
        now = self._clock()
        held = self._young.get(user_id)
        if held is not None and held.looked_at <= now < held.stale_at:
            return held.known
        return self._look(user_id, now).known

    def at(self, user_id: str, as_of: datetime) -> Known:
        """The same for another instant, from what the table holds now; raises UnknownCustomer, or BadRequest for the past."""
        held = self._look(user_id, self._clock())
        if as_of < held.newest:
            raise BadRequest(
                f"as_of is {as_of.isoformat()}, before the customer's newest event ({held.newest.isoformat()}), and windows"
                " are not kept for the past"
            )
        return self._read(held, user_id, as_of)

    def warm(self) -> None:
        """Look at one customer, whoever it is, so that the first who is asked for waits for nothing to be loaded."""
        first = next(iter(self._table.items()), None)
        if first is not None:
            with suppress(UnknownCustomer):
                self(first[0])

    def heard(self, user_ids: Iterable[str]) -> None:
        """There is news of these customers."""
        for user_id in user_ids:
            held = self._young.get(user_id)
            if held is not None:
                held.version, held.stale_at = None, held.looked_at

    def _look(self, user_id: str, now: datetime) -> _Held:
        self.looks += 1
        version = self._table.version(user_id)
        held = self._young.get(user_id)
        before = held or self._old.get(user_id)
        if before is None or version is None or before.version != version:
            packed = self._table.get(user_id)
            if packed is None:
                raise _unknown(user_id)
        else:
            packed = before.packed
        known = held is not None and packed == held.packed
        if held is None or not known:
            held = self._take_in(user_id, packed)
        held.version, held.looked_at, held.stale_at = version, now, now + self.staleness
        if known and self._still:
            held.known = Known(held.known.values, max(now, held.newest), held.newest)
        else:
            held.known = self._read(held, user_id, now)
        return held

    def _read(self, held: _Held, user_id: str, at: datetime) -> Known:
        at = max(at, held.newest)  # events may be ahead of this machine's clock
        vector = read(self._plan, self._memory, held.place, at)
        if vector is None:
            raise _unknown(user_id)
        return Known(vector.tolist(), at, held.newest)

    def _take_in(self, user_id: str, packed: bytes) -> _Held:
        if self._taken >= self._half:
            self._old = self._young
            self._begin()
        place = self._taken  # a place of its own each time: nobody is taken up twice
        restore(self._plan, self._memory, self._places, [(str(place), packed)])
        self._taken += 1
        newest = EPOCH + timedelta(microseconds=int(self._memory.pools.irows[place, NEWEST]))
        held = self._young[user_id] = _Held(packed, place, newest)
        return held

    def _begin(self) -> None:
        self._young: dict[str, _Held] = {}
        self._memory, self._places, self._taken = Memory(self._plan), Places(), 0


def stands_still(table: FeatureTable) -> bool:
    """Whether silence changes no number of the table: every window begins at the anchor, or never ends, and none tells a time."""
    return all(
        isinstance(each, Attribute | Ratio)
        or (isinstance(each, Feature) and isinstance(each.window, First | Lifetime) and each.op is not Op.SINCE_LAST)
        for each in table.features
    )


def _unknown(user_id: str) -> UnknownCustomer:
    return UnknownCustomer(f"no features are known for the customer {user_id!r}")

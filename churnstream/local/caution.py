"""Hands the records of a shard in doubt over one at a time, each noted with the supervisor before: a process that ends in the
middle cannot say any more what it ended of (``local/suspects.py``)."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from churnstream.local.isolation import Try
from churnstream.local.suspects import Suspicion
from churnstream.local.turnstile import Turnstile
from churnstream.records import Delivered

UNSETTLED = 500  # records, of a function that acknowledges: it may have ended of any that it held back


class Witness(Protocol):
    """Who remembers what a worker had in hand. Those that return something raise PlatformFailed when nobody answers."""

    async def recall(self, record: Delivered) -> Suspicion:
        """What is known about the record."""
        ...

    async def begin(self, record: Delivered, trial: bool, outcomes: Sequence[str]) -> None:
        """Returns when it is noted that the record is about to be handed over; raises PlatformFailed."""
        ...

    async def returned(self, record: Delivered) -> None:
        """The function came back, whatever it made of the record."""
        ...

    async def through(self, record: Delivered, last: bool) -> None:
        """The record is behind the function; ``last``, its shard is in doubt no longer. Raises PlatformFailed."""
        ...


class Caution:
    """With one shard, until the records before ``until`` are through, one at least. ``alone`` is closed while one is in hand."""

    def __init__(self, witness: Witness, alone: Turnstile, until: int = 0):
        self._witness, self._alone, self._until = witness, alone, until
        self._outcomes: list[str] = []
        self.over = False

    async def recall(self, record: Delivered) -> Suspicion:
        """What is known about the record, of which nothing was tried here yet; raises PlatformFailed."""
        self._outcomes = []
        return await self._witness.recall(record)

    @asynccontextmanager
    async def handing_over(self, record: Delivered, trial: bool) -> AsyncIterator[None]:
        """Around one handing over; raises PlatformFailed."""
        async with self._alone.closed():
            await self._witness.begin(record, trial, self._outcomes)
            try:
                yield
            finally:
                await self._witness.returned(record)

    def going_on(self, outcomes: Sequence[str], attempt: Try) -> Try:
        """``attempt``, but the first so many end as ``outcomes`` say, which were those of processes before this one."""
        known, self._outcomes = iter(outcomes), []

        async def go_on(places: Sequence[int]) -> str:
            outcome = next(known, None)
            if outcome is None:
                outcome = await attempt(places)
            self._outcomes.append(outcome)
            return outcome

        return go_on

    async def through(self, record: Delivered) -> None:
        """The record is behind the function; raises PlatformFailed."""
        last = record.offset + 1 >= self._until
        await self._witness.through(record, last)
        self.over = last

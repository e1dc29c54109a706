"""Hands one record over until it is through: tries again, waits for what is down, and leaves out what cannot be applied."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from churnstream.codecs.rows import Rows, read_rows
from churnstream.errors import PlatformFailed, StorageFailed, TrialPassed
from churnstream.local.caution import Caution
from churnstream.local.contract import Answer
from churnstream.local.isolation import Try, find_poison
from churnstream.local.letters import one_row, told, whole
from churnstream.local.outside import Refused, is_from_outside
from churnstream.local.refusals import Refusals
from churnstream.local.suspects import Suspicion
from churnstream.local.turnstile import Turnstile
from churnstream.records import Delivered
from churnstream.streams.delivery import Delivery, LeftOut

Answered = TypeVar("Answered")
HandOver = Callable[[Delivered, Delivery], Awaitable[Answer]]

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
NOTHING = Suspicion()


class Stopped(Exception):
    """No further try is to be made."""


class Died(Exception):
    """Processes before this one ended while they worked on the record."""


class Indivisible(Exception):
    """The function begins no unit of work, so that some rows of a record cannot be tried by themselves."""


class Courier:
    """Hands the records of one shard over, one after another. ``trouble`` says why the present one is not through; empty: it is.

    ``behind(record)`` lets the function write down what it holds back from before the record, and says whether it has; only what
    is asked for by explicit acknowledgement needs it. Without ``refusals`` a record is tried for ever. With ``caution`` each is
    handed over while nobody else passes ``alone``.
    """

    def __init__(
        self,
        place: str,
        hand_over: HandOver,
        refusals: Refusals | None,
        explicit: bool,
        behind: Callable[[Delivered], Awaitable[bool]],
        stopping: asyncio.Event,
        log: logging.Logger,
        alone: Turnstile,
        caution: Caution | None = None,
    ):
        self._alone, self._caution = alone, caution
        self._place, self._hand_over, self._refusals, self._explicit = place, hand_over, refusals, explicit
        self._behind, self._stopping, self._log = behind, stopping, log
        self.trouble = ""

    async def deliver(self, record: Delivered) -> None:
        """Return when the record is through, or is passed with all of it in the dead letters. Raises Stopped."""
        known = NOTHING if self._caution is None else await self._answered(record, self._caution.recall)
        while True:
            failure = (Died(known.reason), True) if known.reason else await self._insist(record, ())
            if failure is None or await self._look_into(record, *failure, known.outcomes if known.reason else ()):
                break
            known = NOTHING
        if self._caution is not None:
            await self._answered(record, self._caution.through)
            self._caution = None if self._caution.over else self._caution
        self.trouble = ""

    async def _look_into(self, record: Delivered, cause: Exception, joined: bool, outcomes: Sequence[str]) -> bool:
        """Apply the record without what is wrong with it; False when all that was left failed again."""
        rows = read_rows(record.payload, record.headers.get("content-type", ""))
        if rows is None or not joined or self._explicit or len(rows) < 1:
            await self._refuse_all(record, [whole(record, rows, _reason(cause))])
            return True
        self._log.warning("%s, record %d: looking for what is wrong with it", self._place, record.offset)
        if len(rows) == 1:
            found = {0: _reason(cause)}
        else:
            try:
                found = await find_poison(len(rows), self._trying(record, rows, outcomes))
            except Indivisible:
                await self._refuse_all(record, [whole(record, rows, _reason(cause))])
                return True
        left_out = tuple(one_row(record, rows, place, reason) for place, reason in sorted(found.items()))
        if len(left_out) == len(rows):
            await self._refuse_all(record, left_out)
            return True
        kept = [place for place in range(len(rows)) if place not in found]
        failure = await self._insist(replace(record, payload=rows.take(kept)) if found else record, left_out)
        if failure is None and found:
            self._log.error("%s, record %d: %s", self._place, record.offset, told(left_out))
        return failure is None

    async def _insist(self, record: Delivered, left_out: tuple[LeftOut, ...]) -> tuple[Exception, bool] | None:
        """None once the record is through; after so many failures of its own, the last cause, and whether a unit was begun."""
        failures, delays = 0, _delays()
        while True:
            delivery = Delivery(left_out=left_out)
            cause = await self._once(record, delivery)
            if cause is None:
                return None
            failures += not is_from_outside(cause)
            if self._refusals is not None and failures >= self._refusals.tries:
                return cause, delivery.joined
            await self._wait(record, cause, next(delays))

    def _trying(self, record: Delivered, rows: Rows, outcomes: Sequence[str]) -> Try:
        async def attempt(places: Sequence[int]) -> str:
            return await self._attempt(record, rows, places)

        return attempt if self._caution is None else self._caution.going_on(outcomes, attempt)

    async def _attempt(self, record: Delivered, rows: Rows, places: Sequence[int]) -> str:
        """Why these rows fail on trial; empty when they do not. Waits while something from outside is in the way."""
        delays = _delays()
        while True:
            if self._stopping.is_set():
                raise Stopped
            delivery = Delivery(trial=True)
            cause = await self._once(replace(record, payload=rows.take(places)), delivery)
            await asyncio.sleep(0)  # a synchronous handler leaves no other chance to others
            if cause is None and not delivery.joined:
                raise Indivisible
            if cause is None or not is_from_outside(cause):
                return "" if cause is None else _reason(cause)
            await self._wait(record, cause, next(delays))

    async def _refuse_all(self, record: Delivered, letters: Sequence[LeftOut]) -> None:
        assert self._refusals is not None
        delays = _delays()
        while True:
            try:
                if await self._behind(record):
                    self._refusals.refuse(record, letters)
                    self._log.error("%s, record %d: %s", self._place, record.offset, told(letters))
                    return
                cause: Exception = StorageFailed("what the function holds back from before this record is not written yet")
            except Exception as failure:
                cause = failure
            await self._wait(record, cause, next(delays))

    async def _once(self, record: Delivered, delivery: Delivery) -> Exception | None:
        try:
            if self._caution is None:
                async with self._alone.passing():
                    answer = await self._hand_over(record, delivery)
            else:
                async with self._caution.handing_over(record, delivery.trial):
                    answer = await self._hand_over(record, delivery)
                    if self._explicit:
                        await self._behind(replace(record, offset=record.offset + 1))
        except TrialPassed:
            return None
        except Exception as cause:
            return None if delivery.passed else _within(delivery) or cause
        if answer.status < 400 or delivery.passed:
            return None
        return _within(delivery) or Refused(answer.status, answer.body)

    async def _answered(self, record: Delivered, ask: Callable[[Delivered], Awaitable[Answered]]) -> Answered:
        """What the supervisor says about the record; waited for."""
        for delay in _delays():
            try:
                return await ask(record)
            except PlatformFailed as cause:
                await self._wait(record, cause, delay)
        raise AssertionError("delays never end")

    async def _wait(self, record: Delivered, cause: Exception, seconds: float) -> None:
        self.trouble = f"{self._place}, record {record.offset}: {type(cause).__name__}: {cause}"
        sentence = "%s, record %d: the handler failed (%s: %s); trying again in %.1f s"
        self._log.warning(sentence, self._place, record.offset, type(cause).__name__, cause, seconds)
        self._log.debug("its traceback", exc_info=cause)
        await pause(self._stopping, seconds)
        if self._stopping.is_set():
            raise Stopped


async def pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait, but not longer than until ``stopping`` is set."""
    try:
        async with asyncio.timeout(seconds):
            await stopping.wait()
    except TimeoutError:
        return


def _delays() -> Iterator[float]:
    delay = FIRST_RETRY_S
    while True:
        yield delay
        delay = min(delay * 2, LAST_RETRY_S)


def _within(delivery: Delivery) -> Exception | None:
    return delivery.cause if isinstance(delivery.cause, Exception) else None


def _reason(cause: Exception) -> str:
    if isinstance(cause, Died):
        return str(cause)
    failure = str(cause) if isinstance(cause, Refused) else f"{type(cause).__name__}: {cause}"
    return f"the function failed on it: {failure}"

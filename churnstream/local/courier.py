"""Hands one record over until it is through: tries again, waits for what is down, and leaves out what cannot be applied."""

import asyncio
import logging
import sqlite3
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import replace

from churnstream.codecs.rows import Rows, read_rows
from churnstream.errors import (
    FingerprintMismatch,
    InvalidModel,
    InvalidSetting,
    MissingSetting,
    StorageFailed,
    TooFarBehind,
    TrialPassed,
    UnknownVersion,
)
from churnstream.local.contract import Answer
from churnstream.local.isolation import find_poison
from churnstream.local.refusals import Refusals
from churnstream.records import Delivered, Record
from churnstream.streams.delivery import Delivery, LeftOut

HandOver = Callable[[Delivered, Delivery], Awaitable[Answer]]

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0
NOT_NOW = frozenset({429, 503})  # statuses by which a function says that it waits for something
FROM_OUTSIDE = (
    OSError,
    MemoryError,
    sqlite3.Error,
    StorageFailed,
    TooFarBehind,
    UnknownVersion,
    FingerprintMismatch,
    InvalidModel,
    InvalidSetting,
    MissingSetting,
)
"""What no record can help: a disk, a table or a lease that is away, or a function that is out of date or set up wrongly."""


class Refused(Exception):
    """A handler answered with a status that means failure."""

    def __init__(self, status: int, body: bytes):
        super().__init__(f"status {status}: {body[:200].decode(errors='replace')}")
        self.status = status


class Stopped(Exception):
    """No further try is to be made."""


class Courier:
    """Hands the records of one shard over, one after another. ``trouble`` says why the present one is not through; empty: it is.

    ``behind(record)`` lets the function write down what it holds back from before the record, and says whether it has; only what
    is asked for by explicit acknowledgement needs it. Without ``refusals`` a record is tried for ever.
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
    ):
        self._place, self._hand_over, self._refusals, self._explicit = place, hand_over, refusals, explicit
        self._behind, self._stopping, self._log = behind, stopping, log
        self.trouble = ""

    async def deliver(self, record: Delivered) -> None:
        """Return when the record is through, or is passed with all of it in the dead letters. Raises Stopped."""
        while True:
            failure = await self._insist(record, ())
            if failure is None or await self._look_into(record, *failure):
                self.trouble = ""
                return

    async def _look_into(self, record: Delivered, cause: Exception, joined: bool) -> bool:
        """Apply the record without what is wrong with it; False when all that was left failed again."""
        rows = read_rows(record.payload, record.headers.get("content-type", ""))
        if rows is None or not joined or self._explicit or len(rows) < 1:
            await self._refuse_all(record, [_whole(record, rows, _reason(cause))])
            return True
        self._log.warning("%s, record %d: looking for what is wrong with it", self._place, record.offset)
        if len(rows) == 1:
            found = {0: _reason(cause)}
        else:
            found = await find_poison(len(rows), lambda places: self._attempt(record, rows, places))
        left_out = tuple(_row(record, rows, place, reason) for place, reason in sorted(found.items()))
        if len(left_out) == len(rows):
            await self._refuse_all(record, left_out)
            return True
        kept = [place for place in range(len(rows)) if place not in found]
        failure = await self._insist(replace(record, payload=rows.take(kept)) if found else record, left_out)
        if failure is None and found:
            self._log.error("%s, record %d: %s", self._place, record.offset, _told(left_out))
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

    async def _attempt(self, record: Delivered, rows: Rows, places: Sequence[int]) -> str:
        """Why these rows fail on trial; empty when they do not. Waits while something from outside is in the way."""
        delays = _delays()
        while True:
            if self._stopping.is_set():
                raise Stopped
            cause = await self._once(replace(record, payload=rows.take(places)), Delivery(trial=True))
            await asyncio.sleep(0)  # a synchronous handler leaves no other chance to others
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
                    self._log.error("%s, record %d: %s", self._place, record.offset, _told(letters))
                    return
                cause: Exception = StorageFailed("what the function holds back from before this record is not written yet")
            except Exception as failure:
                cause = failure
            await self._wait(record, cause, next(delays))

    async def _once(self, record: Delivered, delivery: Delivery) -> Exception | None:
        try:
            answer = await self._hand_over(record, delivery)
        except TrialPassed:
            return None
        except Exception as cause:
            return None if delivery.passed else _within(delivery) or cause
        if answer.status < 400 or delivery.passed:
            return None
        return _within(delivery) or Refused(answer.status, answer.body)

    async def _wait(self, record: Delivered, cause: Exception, seconds: float) -> None:
        self.trouble = f"{self._place}, record {record.offset}: {type(cause).__name__}: {cause}"
        sentence = "%s, record %d: the handler failed (%s: %s); trying again in %.1f s"
        self._log.warning(sentence, self._place, record.offset, type(cause).__name__, cause, seconds)
        self._log.debug("its traceback", exc_info=cause)
        await pause(self._stopping, seconds)
        if self._stopping.is_set():
            raise Stopped


def is_from_outside(cause: BaseException | None) -> bool:
    """True for a failure that says nothing about the record: it is waited for, as long as it takes."""
    while cause is not None:
        if isinstance(cause, FROM_OUTSIDE) or (isinstance(cause, Refused) and cause.status in NOT_NOW):
            return True
        cause = cause.__cause__
    return False


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
    told = str(cause) if isinstance(cause, Refused) else f"{type(cause).__name__}: {cause}"
    return f"the function failed on it: {told}"


def _row(record: Delivered, rows: Rows, place: int, reason: str) -> LeftOut:
    return LeftOut(place, reason, rows.text(place), _as_sent(record, rows.take([place]), 1))


def _whole(record: Delivered, rows: Rows | None, reason: str) -> LeftOut:
    text = record.payload if rows is None else b"\n".join(rows.text(place) for place in range(len(rows)))
    return LeftOut(None, reason, text, _as_sent(record, record.payload, record.rows))


def _as_sent(record: Delivered, payload: bytes, rows: int) -> Record:
    return Record(payload, rows, record.key, record.headers)


def _told(letters: Sequence[LeftOut]) -> str:
    count = "the record is" if letters[0].row is None else "1 row is" if len(letters) == 1 else f"{len(letters)} rows are"
    return f"{count} in the dead letters; {letters[0].reason}"

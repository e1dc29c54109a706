"""Brings records and ticks to a function: one pump a shard, one clock a cron trigger."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from churnstream.failpoints import reach
from churnstream.local import courier
from churnstream.local.caution import Caution
from churnstream.local.contract import Answer
from churnstream.local.courier import Courier, Stopped
from churnstream.local.doorbell import doorbell
from churnstream.local.events import record_event, tick_event
from churnstream.local.refusals import Refusals
from churnstream.local.triggers import CronTrigger, StreamTrigger
from churnstream.local.turnstile import Turnstile
from churnstream.records import Delivered
from churnstream.streams.base import Positions, StreamReader, Traced
from churnstream.streams.delivery import Delivery

Call = Callable[[Any], Awaitable[Answer]]
Flush = Callable[[], Awaitable[None]]

NO_ACK = "x-nuclio-stream-no-ack"  # the header that ``Response.ensure_no_ack`` sets


class ShardPump:
    """Hands every record of a shard to the function, in order, each until it is through; skips none.

    Through is what was applied, and what cannot be and is in the dead letters (``local/courier.py``); without ``refusals``
    nothing is passed that was not applied. ``flush`` lets the function write down what it holds back. ``alone`` is shared by
    pumps that keep out of each other's way while one of them works with ``caution``.
    """

    def __init__(
        self,
        trigger: StreamTrigger,
        shard: int,
        reader: StreamReader,
        positions: Positions,
        call: Call,
        log: logging.Logger,
        refusals: Refusals | None = None,
        flush: Flush | None = None,
        alone: Turnstile | None = None,
        caution: Caution | None = None,
    ):
        self._trigger = trigger
        self._shard = shard
        self._reader = reader
        self._positions = positions
        self._call = call
        self._log = log
        self._flush = flush
        self._stopping = asyncio.Event()
        self._courier = Courier(
            self._place(),
            self._hand_over,
            refusals,
            trigger.explicit,
            self._is_next,
            self._stopping,
            log,
            alone or Turnstile(),
            caution,
        )
        self._unread = ""
        self._bell: asyncio.Event | None = None
        self.next_offset = positions.get(trigger.stream, shard)

    def stop(self) -> None:
        """Take no further record; ``run`` returns once the present one is done or waits for its next try."""
        self._stopping.set()
        if self._bell is not None:
            self._bell.set()

    @property
    def trouble(self) -> str:
        """Why nothing moves, in a sentence; empty while it does."""
        return self._unread or self._courier.trouble

    async def run(self) -> None:
        """Pump until stopped."""
        trace = self._reader.trace(self._shard) if isinstance(self._reader, Traced) else None
        with doorbell().bell(trace) as self._bell:
            while not self._stopping.is_set():
                self._bell.clear()  # before the look: what is appended after it rings again
                records = await self._read()
                for record in records:
                    try:
                        await self._courier.deliver(record)
                    except Stopped:
                        return
                    self.next_offset = record.offset + 1
                    if self._stopping.is_set():
                        return
                    await asyncio.sleep(0)  # a synchronous handler leaves no other chance to answer HTTP
                if not records and not self._stopping.is_set():
                    await self._bell.wait()

    async def _read(self) -> list[Delivered]:
        delay = courier.FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                records = list(self._reader.read(self._shard, self.next_offset))
                self._unread = ""
                return records
            except Exception as cause:
                self._unread = f"{self._place()} cannot be read ({cause})"
                self._log.warning("%s; trying again in %.1f s", self._unread, delay)
            await courier.pause(self._stopping, delay)
            delay = min(delay * 2, courier.LAST_RETRY_S)
        return []

    async def _hand_over(self, record: Delivered, delivery: Delivery) -> Answer:
        event = record_event(record, self._trigger, self._reader.shards)
        event.delivery = delivery
        answer = await self._call(event)
        declined = self._trigger.declinable and answer.headers.get(NO_ACK, False) is True
        if answer.status < 400 and not delivery.trial and not declined:
            self._move_past(record)
        return answer

    async def _is_next(self, record: Delivered) -> bool:
        """Whether everything before ``record`` is durable, so that the record may be passed."""
        if self._trigger.explicit and self._flush is not None:
            await self._flush()
        return not self._trigger.explicit or self._positions.get(record.stream, record.shard) >= record.offset

    def _move_past(self, record: Delivered) -> None:
        reach("stream.before-acknowledge")
        following = record.offset + 1
        if not self._trigger.explicit and self._positions.get(record.stream, record.shard) < following:
            self._positions.advance(record.stream, record.shard, following)

    def _place(self) -> str:
        return f"{self._trigger.stream}, shard {self._shard}"


class Clock:
    """Calls the function at every interval, first after one; a failed call is logged, not repeated."""

    def __init__(self, trigger: CronTrigger, call: Call, log: logging.Logger):
        self._trigger = trigger
        self._call = call
        self._log = log

    async def run(self) -> None:
        """Tick until cancelled; ticks that fall into a running call are left out."""
        every = self._trigger.every.total_seconds()
        loop = asyncio.get_running_loop()
        due = loop.time() + every
        while True:
            await asyncio.sleep(due - loop.time())
            try:
                answer = await self._call(tick_event(self._trigger))
                if answer.status >= 400:
                    self._log.warning("cron %s: the handler answered %d", self._trigger.name, answer.status)
            except Exception as cause:
                self._log.warning("cron %s: the handler failed (%s: %s)", self._trigger.name, type(cause).__name__, cause)
            due += every * max(1, -(-(loop.time() - due) // every))

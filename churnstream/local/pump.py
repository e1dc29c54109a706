"""Brings records and ticks to a function: one pump a shard, one clock a cron trigger."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import nuclio_sdk

from churnstream.local.contract import Answer, decode_body
from churnstream.local.doorbell import doorbell
from churnstream.local.triggers import EMBEDDED, CronTrigger, StreamTrigger
from churnstream.records import Delivered
from churnstream.streams.base import Positions, StreamReader, Traced

Call = Callable[[Any], Awaitable[Answer]]

FIRST_RETRY_S = 0.1
LAST_RETRY_S = 5.0


class Refused(Exception):
    """A handler answered with a status that means failure."""


class ShardPump:
    """Hands every record of a shard to the function, in order, each until it succeeds; skips none."""

    def __init__(
        self,
        trigger: StreamTrigger,
        shard: int,
        reader: StreamReader,
        positions: Positions,
        call: Call,
        log: logging.Logger,
    ):
        self._trigger = trigger
        self._shard = shard
        self._reader = reader
        self._positions = positions
        self._call = call
        self._log = log
        self._stopping = asyncio.Event()
        self._bell: asyncio.Event | None = None
        self.next_offset = positions.get(trigger.stream, shard)

    def stop(self) -> None:
        """Take no further record; ``run`` returns once the present one is done or waits for its next try."""
        self._stopping.set()
        if self._bell is not None:
            self._bell.set()

    async def run(self) -> None:
        """Pump until stopped."""
        trace = self._reader.trace(self._shard) if isinstance(self._reader, Traced) else None
        with doorbell().bell(trace) as self._bell:
            while not self._stopping.is_set():
                self._bell.clear()  # before the look: what is appended after it rings again
                records = await self._read()
                for record in records:
                    await self._deliver(record)
                    if self._stopping.is_set():
                        return
                    await asyncio.sleep(0)  # a synchronous handler leaves no other chance to answer HTTP
                if not records and not self._stopping.is_set():
                    await self._bell.wait()

    async def _read(self) -> list[Delivered]:
        delay = FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                return list(self._reader.read(self._shard, self.next_offset))
            except Exception as cause:
                self._log.warning("%s cannot be read (%s); trying again in %.1f s", self._place(), cause, delay)
            await self._wait(delay)
            delay = min(delay * 2, LAST_RETRY_S)
        return []

    async def _deliver(self, record: Delivered) -> None:
        delay = FIRST_RETRY_S
        while not self._stopping.is_set():
            try:
                answer = await self._call(to_event(record, self._trigger, self._reader.shards))
                if answer.status >= 400:
                    raise Refused(f"status {answer.status}: {answer.body[:200].decode(errors='replace')}")
                self._move_past(record)
                return
            except Exception as cause:
                sentence = "%s, record %d: the handler failed (%s: %s); trying again in %.1f s"
                self._log.warning(sentence, self._place(), record.offset, type(cause).__name__, cause, delay)
                self._log.debug("its traceback", exc_info=cause)
            await self._wait(delay)
            delay = min(delay * 2, LAST_RETRY_S)

    def _move_past(self, record: Delivered) -> None:
        following = record.offset + 1
        if not self._trigger.explicit and self._positions.get(record.stream, record.shard) < following:
            self._positions.advance(record.stream, record.shard, following)
        self.next_offset = following

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

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
                answer = await self._call(tick(self._trigger))
                if answer.status >= 400:
                    self._log.warning("cron %s: the handler answered %d", self._trigger.name, answer.status)
            except Exception as cause:
                self._log.warning("cron %s: the handler failed (%s: %s)", self._trigger.name, type(cause).__name__, cause)
            due += every * max(1, -(-(loop.time() - due) // every))


def to_event(record: Delivered, trigger: StreamTrigger, shards: int) -> Any:
    """A record as Nuclio's event; as there, its timestamp is UTC without saying so."""
    content_type = record.headers.get("content-type", "")
    return nuclio_sdk.Event(
        body=decode_body(record.payload, content_type),
        content_type=content_type,
        trigger=nuclio_sdk.event.TriggerInfo(EMBEDDED, trigger.name),
        headers=dict(record.headers),
        _id=f"{record.stream}-{record.shard}-{record.offset}",
        method="",
        path="/",
        size=len(record.payload),
        timestamp=record.appended_at.astimezone(UTC).replace(tzinfo=None),
        url="",
        shard_id=record.shard,
        num_shards=shards,
        offset=record.offset,
        topic=record.stream,
    )


def tick(trigger: CronTrigger) -> Any:
    """A tick as Nuclio's event."""
    return nuclio_sdk.Event(
        body=trigger.body.encode(),
        content_type="",
        trigger=nuclio_sdk.event.TriggerInfo("cron", trigger.name),
        headers={"X-Nuclio-Invoke-Trigger": "cron", **trigger.headers},
        _id=f"{trigger.name}-{datetime.now(UTC).timestamp():.3f}",
        method="",
        path="/",
        size=len(trigger.body),
        timestamp=datetime.now(UTC).replace(tzinfo=None),
        url="",
        shard_id=0,
        num_shards=0,
    )

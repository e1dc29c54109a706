"""One deployed function at work: its handler, the pumps and clocks that feed it, and its orderly end."""

import asyncio
import logging
import time
from collections.abc import Collection, Coroutine, Mapping
from contextvars import copy_context
from datetime import timedelta
from typing import Any

import nuclio_sdk

from churnstream.errors import NotDrained
from churnstream.failpoints import reach
from churnstream.local.contract import Answer, Handler, handler_name, load_module
from churnstream.local.logs import stand_at
from churnstream.local.metrics import Meter
from churnstream.local.pump import Clock
from churnstream.local.shards import Shards, Streams
from churnstream.local.triggers import EMBEDDED, Triggers, read_triggers
from churnstream.local.turnstile import Turnstile

DRAIN_LOOK_S = 0.005


class RunningFunction:
    """One worker of a function, ``number`` among its workers. Created inside the event loop; ``start`` once, ``stop`` once."""

    def __init__(
        self, function: Mapping[str, Any], streams: Streams, log: logging.Logger, number: int = 0, meter: Meter | None = None
    ):
        self.triggers: Triggers = read_triggers(function)
        self.shards: Shards | None = None
        """Those of its streams, from ``start`` on; None when it reads none."""
        self._name: str = function["metadata"]["name"]
        self._streams = streams
        self._log = log
        self._meter = meter
        self._begun = self._stopped = False
        self._draining = 0
        self._turnstile = Turnstile()
        self._platform = nuclio_sdk.Platform(
            "local",
            namespace=function["metadata"].get("project") or "default",
            on_control_callback=self._acknowledge,
        )
        self._clocks: list[asyncio.Task[None]] = []
        self._clock_broke: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._flushing: asyncio.Task[None] | None = None
        context = nuclio_sdk.Context(
            nuclio_sdk.Logger(log.getEffectiveLevel(), name=log.name),
            self._platform,
            str(number),  # text, as Nuclio's worker says it
            self._trigger(function),
        )
        self._handler = Handler(load_module(function), handler_name(function), context)

    async def start(self, alone: bool = True) -> None:
        """Run ``init_context``; whatever that raises is raised. ``alone``, it then reads every shard and keeps the clocks."""
        await self._handler.begin()
        self._begun = True
        if self.triggers.streams:
            self.shards = Shards(self._name, self.triggers.streams, self._streams, self.call, self._flush, self._log)
        if alone:
            shards = range(self.shards.count) if self.shards else ()
            await self.hold(dict.fromkeys(shards, self.shards.newest() + 1 if self.shards else 0), clocks=True)

    async def hold(self, shards: Mapping[int, int], clocks: bool, doubtful: Collection[int] = ()) -> Mapping[int, int]:
        """Read these shards (shard -> epoch) and no others, and keep the clocks or not; returns what it holds now.

        Before a shard is given up its record at work is finished, and the function flushes, as on a cluster's rebalance. One that
        is ``doubtful``, since a process that held it ended unasked, is read with caution.
        """
        if not clocks:
            await self._stop_clocks()
        if self.shards is not None:
            await self.shards.hold(shards, doubtful)
        if clocks and not self._clocks:
            for cron in self.triggers.crons:
                clock = asyncio.create_task(Clock(cron, self.call, self._log).run(), name=f"cron {cron.name}")
                clock.add_done_callback(self._look_at_the_end)
                self._clocks.append(clock)
        return {} if self.shards is None else self.shards.held

    async def call(self, event: Any) -> Answer:
        """Hand one event to the function, unless it is flushing: then afterwards."""
        async with self._turnstile.passing():
            if event.trigger.kind not in ("http", "cron"):
                stand_at(event.topic, event.shard_id, event.offset)
            began, answered = time.perf_counter(), None
            try:
                answered = await self._handler.call(event)
            finally:
                self._took(event, began, answered)
            return answered

    def call_at_once(self, event: Any) -> "Answer | Coroutine[Any, Any, Answer] | None":
        """The answer to a request where the function gives it without waiting, otherwise what to await for it.

        None while it flushes: nothing was called. The handler runs in a context of its own, as a task would give it.
        """
        if not self._turnstile.slip_in():
            return None
        began, answered, going = time.perf_counter(), None, None
        try:
            begun = copy_context().run(self._handler.begin_call, event)
            if isinstance(begun, Answer):
                answered = begun
            else:
                going = self._go_on(event, began, begun)
        finally:
            if going is None:
                self._turnstile.leave()
                self._took(event, began, answered)
        return going or answered

    async def _go_on(self, event: Any, began: float, going: Coroutine[Any, Any, Answer]) -> Answer:
        answered = None
        try:
            answered = await going
        finally:
            self._turnstile.leave()
            self._took(event, began, answered)
        return answered

    def _took(self, event: Any, began: float, answered: Answer | None) -> None:
        if self._meter is not None:
            self._meter.handled(event, time.perf_counter() - began, answered is None or answered.status >= 400)

    def why_not_ready(self) -> str:
        """Nothing while the function takes what comes; otherwise a sentence."""
        if self._stopped:
            return f"{self._name} is stopping."
        if not self._begun:
            return f"{self._name} is starting: its init_context has not returned."
        if self._clock_broke.done() or (self.shards is not None and self.shards.broken.done()):
            return f"{self._name} has failed and is started again."
        return f"{self._name} is draining." if self._draining else ""

    async def failed(self) -> None:
        """Returns never, but raises what broke a pump or a clock; this must never happen."""
        breaking = [self._clock_broke, *([] if self.shards is None else [self.shards.broken])]
        done, _ = await asyncio.wait(breaking, return_when=asyncio.FIRST_COMPLETED)
        for future in done:
            future.result()

    async def drain(self, deadline: timedelta) -> dict[str, Any]:
        """Wait until all that is there now in the shards it holds has been read, then let the function flush what it holds back.

        Raises NotDrained when the deadline passes first; the function goes on reading.
        """
        ends = self.shards.ends() if self.shards else {}
        self._draining += 1
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                while self.shards is not None and self.shards.behind(ends):
                    await asyncio.sleep(DRAIN_LOOK_S)
                await self._flush()
        except TimeoutError as cause:
            behind = self.shards.behind(ends) if self.shards else 0
            raise NotDrained(
                f"{self._name} had {behind} records left to read after {deadline.total_seconds():g} s"
                if behind
                else f"{self._name} did not flush what it holds within {deadline.total_seconds():g} s"
            ) from cause
        finally:
            self._draining -= 1
        positions = {each["stream"]: each["positions"] for each in self.report()["streams"]}
        return {"drained": True, "positions": positions}

    def report(self) -> dict[str, Any]:
        """For each stream trigger ``position`` (next record to apply), ``end`` and ``lag``, in records, over all shards."""
        return {"streams": self.shards.report() if self.shards else []}

    async def stop(self) -> None:
        """Take nothing more, finish what is at work, flush, tell the function that it ends, and give up its shards."""
        self._stopped = True
        await self._stop_clocks()
        if self.shards is not None:
            await self.shards.stop()
        await self._flush()
        await self._signal("termination")
        if self.shards is not None:
            await self.shards.close()

    async def _stop_clocks(self) -> None:
        for clock in self._clocks:
            clock.cancel()
        await asyncio.gather(*self._clocks, return_exceptions=True)
        self._clocks.clear()

    def _look_at_the_end(self, clock: asyncio.Task[None]) -> None:
        if not clock.cancelled() and clock.exception() is not None and not self._clock_broke.done():
            self._clock_broke.set_exception(clock.exception())  # type: ignore[arg-type]

    async def _flush(self) -> None:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_alone(), name="flush")
        await asyncio.shield(self._flushing)  # cut short, a flush would leave a graph ended for good

    async def _flush_alone(self) -> None:
        async with self._turnstile.closed():
            await self._signal("drain")

    def _trigger(self, function: Mapping[str, Any]) -> Any:
        # Nuclio gives each trigger workers of its own, here one worker serves all. MLRun's graphs wait for a
        # result only below "http", and acknowledge only below a stream kind that they know by name.
        if self.triggers.explicit:
            kind = "kafka-cluster" if function.get("kind") == "serving" else EMBEDDED
            return nuclio_sdk.event.TriggerInfo(kind, self.triggers.streams[0].name)
        return nuclio_sdk.event.TriggerInfo("http", self.triggers.http)

    async def _acknowledge(self, message: Mapping[str, Any]) -> None:
        place = message["attributes"]
        stream, shard = place["topic"], place["partition"]
        reach("stream.before-acknowledge")
        if self.shards is None or not self.shards.acknowledge(stream, shard, place["offset"]):
            self._log.warning("an acknowledgement for %s, shard %s was ignored: this worker does not read it", stream, shard)

    async def _signal(self, kind: str) -> None:
        answered = self._platform._on_signal(kind)
        if asyncio.iscoroutine(answered):
            await answered

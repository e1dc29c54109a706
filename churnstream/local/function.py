"""One deployed function at work: its handler, the pumps and clocks that feed it, and its orderly end."""

import asyncio
import logging
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Protocol

import nuclio_sdk

from churnstream.errors import NotDrained
from churnstream.local.contract import Answer, Handler, handler_name, load_module
from churnstream.local.pump import Clock, ShardPump
from churnstream.local.triggers import EMBEDDED, StreamTrigger, Triggers, read_triggers
from churnstream.local.turnstile import Turnstile
from churnstream.streams.base import Positions, StreamReader

DRAIN_LOOK_S = 0.005


class Streams(Protocol):
    """Where a function's streams and positions come from."""

    def open_stream(self, name: str) -> StreamReader:
        """A reader of the stream."""
        ...

    def open_positions(self, function: str) -> Positions:
        """How far the function has read."""
        ...


class RunningFunction:
    """Created inside the event loop; ``start`` once, ``stop`` once."""

    def __init__(self, function: Mapping[str, Any], streams: Streams, log: logging.Logger):
        self.triggers: Triggers = read_triggers(function)
        self._name: str = function["metadata"]["name"]
        self._streams = streams
        self._log = log
        self._turnstile = Turnstile()
        self._platform = nuclio_sdk.Platform(
            "local",
            namespace=function["metadata"].get("project") or "default",
            on_control_callback=self._acknowledge,
        )
        self._positions: Positions | None = None
        self._readers: dict[str, StreamReader] = {}
        self._pumps: dict[tuple[str, int], ShardPump] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._clocks: list[asyncio.Task[None]] = []
        self._flushing: asyncio.Task[None] | None = None
        context = nuclio_sdk.Context(
            nuclio_sdk.Logger(log.getEffectiveLevel(), name=log.name),
            self._platform,
            0,
            self._trigger(function),
        )
        self._handler = Handler(load_module(function), handler_name(function), context)

    async def start(self) -> None:
        """Run ``init_context``, then feed the function; whatever that raises is raised."""
        if self.triggers.streams:
            self._positions = self._streams.open_positions(self._name)
        await self._handler.begin()
        for trigger in self.triggers.streams:
            self._follow(trigger, self._positions)
        for cron in self.triggers.crons:
            clock = Clock(cron, self.call, self._log)
            self._clocks.append(asyncio.create_task(clock.run(), name=f"cron {cron.name}"))

    async def call(self, event: Any) -> Answer:
        """Hand one event to the function, unless it is flushing: then afterwards."""
        async with self._turnstile.passing():
            return await self._handler.call(event)

    async def failed(self) -> None:
        """Returns only when a pump or clock broke, by raising what broke it; this must never happen."""
        waiting = [*self._tasks, *self._clocks]
        if not waiting:
            await asyncio.Event().wait()
        done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    async def drain(self, deadline: timedelta) -> dict[str, Any]:
        """Wait until all that is there now has been read, then let the function flush what it holds.

        Raises NotDrained when the deadline passes first; the function goes on reading.
        """
        ends = {(stream, shard): self._readers[stream].end(shard) for stream, shard in self._pumps}
        try:
            async with asyncio.timeout(deadline.total_seconds()):
                while self._behind(ends):
                    await asyncio.sleep(DRAIN_LOOK_S)
                await asyncio.shield(self._flush())  # cut short, a flush would leave a graph ended for good
        except TimeoutError as cause:
            behind = self._behind(ends)
            raise NotDrained(
                f"{self._name} had {behind} records left to read after {deadline.total_seconds():g} s"
                if behind
                else f"{self._name} did not flush what it holds within {deadline.total_seconds():g} s"
            ) from cause
        positions = {each["stream"]: each["positions"] for each in self.report()["streams"]}
        return {"drained": True, "positions": positions}

    def report(self) -> dict[str, Any]:
        """For each stream trigger ``position`` (next record to apply), ``end`` and ``lag``, in records."""
        return {"streams": [self._report(trigger) for trigger in self.triggers.streams]}

    async def stop(self) -> None:
        """Take nothing more, finish what is at work, flush, and tell the function that it ends."""
        for clock in self._clocks:
            clock.cancel()
        for pump in self._pumps.values():
            pump.stop()
        await asyncio.gather(*self._tasks, *self._clocks, return_exceptions=True)
        await self._flush()
        await self._signal("termination")
        for reader in self._readers.values():
            reader.close()
        if self._positions is not None:
            self._positions.close()

    def _flush(self) -> asyncio.Task[None]:
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush_alone(), name="flush")
        return self._flushing

    async def _flush_alone(self) -> None:
        async with self._turnstile.closed():
            await self._signal("drain")

    def _follow(self, trigger: StreamTrigger, positions: Positions | None) -> None:
        assert positions is not None
        reader = self._readers.setdefault(trigger.stream, self._streams.open_stream(trigger.stream))
        for shard in range(reader.shards):
            pump = ShardPump(trigger, shard, reader, positions, self.call, self._log)
            self._pumps[trigger.stream, shard] = pump
            self._tasks.append(asyncio.create_task(pump.run(), name=f"{trigger.stream} {shard}"))

    def _behind(self, ends: Mapping[tuple[str, int], int]) -> int:
        return sum(max(0, end - self._pumps[place].next_offset) for place, end in ends.items())

    def _report(self, trigger: StreamTrigger) -> dict[str, Any]:
        reader, positions = self._readers[trigger.stream], self._positions
        assert positions is not None
        at = [positions.get(trigger.stream, shard) for shard in range(reader.shards)]
        ends = [reader.end(shard) for shard in range(reader.shards)]
        return {
            "trigger": trigger.name,
            "stream": trigger.stream,
            "position": sum(at),
            "end": sum(ends),
            "lag": sum(ends) - sum(at),
            "positions": at,
            "ends": ends,
        }

    def _trigger(self, function: Mapping[str, Any]) -> Any:
        # Nuclio gives each trigger workers of its own, here one worker serves all. MLRun's graphs wait for a
        # result only below "http", and acknowledge only below a stream kind that they know by name.
        if self.triggers.explicit:
            kind = "kafka-cluster" if function.get("kind") == "serving" else EMBEDDED
            return nuclio_sdk.event.TriggerInfo(kind, self.triggers.streams[0].name)
        return nuclio_sdk.event.TriggerInfo("http", self.triggers.http)

    async def _acknowledge(self, message: Mapping[str, Any]) -> None:
        place = message["attributes"]
        if self._positions is None or (place["topic"], place["partition"]) not in self._pumps:
            self._log.warning(
                "an acknowledgement for %s, shard %s was ignored: no trigger reads it",
                place["topic"],
                place["partition"],
            )
            return
        self._positions.advance(place["topic"], place["partition"], place["offset"] + 1)

    async def _signal(self, kind: str) -> None:
        answered = self._platform._on_signal(kind)
        if asyncio.iscoroutine(answered):
            await answered

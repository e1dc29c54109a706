"""Feeds an opened function as the local platform does: pumps that try again, look into what fails, and pass it."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from churnstream import topology
from churnstream.local.contract import Answer, to_answer
from churnstream.local.pump import ShardPump
from churnstream.local.refusals import WiredRefusals
from churnstream.local.triggers import StreamTrigger
from churnstream.settings import Settings
from churnstream.wiring import open_positions, open_stream
from tests.doors import Door

DEADLINE_S = 60


class Pumping:
    """The pumps of one opened function; ``calls`` are the deliveries that it got, in order."""

    def __init__(self, door: Door, settings: Settings):
        self._door, self._settings = door, settings
        self.calls: list[Any] = []
        self.pumps: list[ShardPump] = []

    def run(self, until: Callable[[], bool] | None = None) -> None:
        """Pump until everything that waits has been read, or until ``until()``."""
        self._door.run(self._run(until))

    async def _call(self, event: Any) -> Answer:
        self.calls.append(event.delivery)
        return await to_answer(await self._door._call(event))

    async def _drain(self) -> None:
        await self._door._signal("drain")

    async def _run(self, until: Callable[[], bool] | None) -> None:
        function = topology.function(self._door.name)
        positions = open_positions(function.name, self._settings)
        refusals = WiredRefusals(function.name, self._settings)
        log = logging.getLogger("pumping")
        self.pumps = []
        ends: list[int] = []
        streams = (*function.reads, *(() if function.acknowledges else (refusals.redriven,)))
        readers = [open_stream(stream, self._settings) for stream in streams]
        for stream, reader in zip(streams, readers, strict=True):
            trigger = StreamTrigger("test", stream, function.acknowledges)
            for shard in range(reader.shards):
                self.pumps.append(ShardPump(trigger, shard, reader, positions, self._call, log, refusals, self._drain))
                ends.append(reader.end(shard))
        tasks = [asyncio.create_task(pump.run()) for pump in self.pumps]
        done = until or (lambda: all(pump.next_offset >= end for pump, end in zip(self.pumps, ends, strict=True)))
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not done():
                    for task in tasks:
                        if task.done():
                            task.result()
                    await asyncio.sleep(0.001)
        finally:
            for pump in self.pumps:
                pump.stop()
            await asyncio.gather(*tasks)
            for reader in readers:
                reader.close()
            positions.close()

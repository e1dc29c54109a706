"""The shards that a worker holds: each is read by a pump of its own, and what a lost one would still write is refused."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Protocol

from churnstream.errors import ChurnstreamError
from churnstream.local.caution import UNSETTLED, Caution, Witness
from churnstream.local.contract import Answer
from churnstream.local.leases import Leases
from churnstream.local.progress import progress
from churnstream.local.pump import Call, ShardPump
from churnstream.local.refusals import Refusals
from churnstream.local.triggers import StreamTrigger
from churnstream.local.turnstile import Turnstile
from churnstream.local.watched import WatchedPositions, WatchedRefusals
from churnstream.streams.base import Positions, StreamReader

Place = tuple[str, int]  # a stream's name and a shard


class Streams(Protocol):
    """Where a function's streams, positions and leases come from."""

    def open_stream(self, name: str) -> StreamReader:
        """A reader of the stream."""
        ...

    def open_positions(self, function: str) -> Positions:
        """How far the function has read."""
        ...

    def open_leases(self, function: str) -> Leases:
        """Who may move its positions."""
        ...

    def open_refusals(self, function: str) -> Refusals | None:
        """Its dead letters; None when there is no place for any."""
        ...


class Shards:
    """Created inside the event loop. ``flush`` lets the function write what it holds back; ``lost`` is called when another worker
    was found to hold a shard that this one had, with the shard and its epoch."""

    def __init__(
        self,
        function: str,
        triggers: Iterable[StreamTrigger],
        streams: Streams,
        call: Call,
        flush: Callable[[], Awaitable[None]],
        log: logging.Logger,
    ):
        self._triggers = tuple(triggers)
        self._call, self._flush, self._log = call, flush, log
        self._leases = streams.open_leases(function)
        self._positions = WatchedPositions(streams.open_positions(function), self._refused)
        refusals = streams.open_refusals(function)
        self._refusals = None if refusals is None else WatchedRefusals(refusals, self._refused)
        explicit = any(trigger.explicit for trigger in self._triggers)
        self._redriven = StreamTrigger("redriven", refusals.redriven) if refusals and refusals.redriven and not explicit else None
        if self._redriven is not None:
            self._triggers += (self._redriven,)
        self._readers = {trigger.stream: streams.open_stream(trigger.stream) for trigger in self._triggers}
        self.count = max((reader.shards for reader in self._readers.values()), default=0)
        self.held: dict[int, int] = {}
        """Shard -> the epoch under which it is held here."""
        self.lost: Callable[[int, int], Awaitable[None]] | None = None
        self.witness: Witness | None = None
        self._alone = Turnstile()
        self._pumps: dict[Place, ShardPump] = {}
        self._tasks: dict[Place, asyncio.Task[None]] = {}
        self._losing: dict[int, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()
        self.broken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Ends with what a pump raised, which must never happen."""

    def newest(self) -> int:
        """The highest epoch under which any shard was ever held."""
        return self._leases.newest(self.count)

    async def hold(self, wanted: Mapping[int, int], doubtful: Collection[int] = ()) -> None:
        """Give up every shard but those of ``wanted`` (shard -> epoch), in order, and take those that are not held.

        One that cannot be taken is logged and left out of ``held``. Of those taken, the ``doubtful`` are read with caution.
        """
        async with self._changing:
            await self._give_up([shard for shard, epoch in self.held.items() if wanted.get(shard) != epoch])
            for shard, epoch in wanted.items():
                if shard not in self.held:
                    await self._take(shard, epoch, shard in doubtful)

    def ends(self) -> dict[Place, int]:
        """Where the shards that are held end at this moment."""
        return {(stream, shard): self._readers[stream].end(shard) for stream, shard in self._pumps}

    def behind(self, ends: Mapping[Place, int]) -> int:
        """How many records are left to hand over before ``ends``, in the shards that are still held."""
        return sum(max(0, end - self._pumps[place].next_offset) for place, end in ends.items() if place in self._pumps)

    def report(self) -> list[dict[str, Any]]:
        """For each stream trigger ``position`` (next record to apply), ``end`` and ``lag``, in records, over all shards.

        ``positions`` and ``ends`` say the same shard by shard, whoever holds it. ``trouble`` says, for each shard held here that
        does not move, why.
        """
        told = [self._report(trigger) for trigger in self._triggers if trigger is not self._redriven]
        if self._redriven is not None:
            redriven = self._report(self._redriven)
            told += [redriven] if redriven["end"] else []  # mostly nothing ever was
        return told

    def acknowledge(self, stream: str, shard: int, offset: int) -> bool:
        """Move past a record; False when the shard is not held. Raises LeaseLost."""
        if (stream, shard) not in self._pumps:
            return False
        self._positions.advance(stream, shard, offset + 1)
        return True

    async def stop(self) -> None:
        """Take nothing more; returns when what is at work is done."""
        await self._changing.acquire()  # and keep it: nothing moves any more
        await self._stop(self._pumps)

    async def close(self) -> None:
        """Give up what is held, after ``stop``."""
        for task in self._losing.values():
            task.cancel()
        for shard in list(self.held):
            await self._free(shard)
        for reader in self._readers.values():
            reader.close()
        self._positions.close()

    def _report(self, trigger: StreamTrigger) -> dict[str, Any]:
        told = progress(self._readers[trigger.stream], self._positions, trigger.stream)
        waiting = [pump.trouble for (stream, _), pump in self._pumps.items() if stream == trigger.stream and pump.trouble]
        return {"trigger": trigger.name, **told, "trouble": list(dict.fromkeys([*waiting, *told["trouble"]]))}

    async def _give_up(self, shards: Iterable[int]) -> None:
        leaving = {place: pump for place, pump in self._pumps.items() if place[1] in shards}
        if not leaving:
            return
        await self._stop(leaving)
        try:
            await self._flush()
        except Exception as cause:
            what = "what the function held back was not written; whoever holds the shards next reads it again"
            self._log.error("shards %s: %s", sorted(shards), what, exc_info=cause)
        for place in leaving:
            del self._pumps[place], self._tasks[place]
        for shard in shards:
            await self._free(shard)

    async def _stop(self, pumps: Mapping[Place, ShardPump]) -> None:
        for pump in pumps.values():
            pump.stop()
        await asyncio.gather(*(self._tasks[place] for place in pumps), return_exceptions=True)

    async def _free(self, shard: int) -> None:
        del self.held[shard]
        try:
            await asyncio.to_thread(self._leases.give_up, shard)
        except ChurnstreamError as cause:
            self._log.warning("shard %d: the lease stays as it is until the next holder takes it (%s)", shard, cause)

    async def _take(self, shard: int, epoch: int, doubtful: bool) -> None:
        try:
            await asyncio.to_thread(self._leases.take, shard, epoch)
        except ChurnstreamError as cause:
            self._log.warning("shard %d was not taken: %s", shard, cause)
            return
        self.held[shard] = epoch
        for trigger in self._triggers:
            reader, place = self._readers[trigger.stream], (trigger.stream, shard)
            if shard < reader.shards:
                try:
                    pump = ShardPump(
                        trigger,
                        shard,
                        reader,
                        self._positions,
                        self._deliver,
                        self._log,
                        self._refusals,
                        self._flush,
                        self._alone,
                        self._caution(trigger, shard) if doubtful else None,
                    )
                except ChurnstreamError as cause:  # where to go on is not known; its report says so, and the others go on
                    self._log.error("%s, shard %d is not read: %s", trigger.stream, shard, cause)
                    continue
                self._pumps[place] = pump
                task = self._tasks[place] = asyncio.create_task(pump.run(), name=f"{trigger.stream} {shard}")
                task.add_done_callback(self._look_at_the_end)

    def _caution(self, trigger: StreamTrigger, shard: int) -> Caution | None:
        if self.witness is None:
            return None
        until = 0
        if trigger.explicit:
            begin, end = self._positions.get(trigger.stream, shard), self._readers[trigger.stream].end(shard)
            until = min(end, begin + UNSETTLED)
        return Caution(self.witness, self._alone, until)

    async def _deliver(self, event: Any) -> Answer:
        try:
            answer = await self._call(event)
        except Exception:
            self._doubt(event.shard_id)
            raise
        if answer.status >= 400:
            self._doubt(event.shard_id)
        return answer

    def _doubt(self, shard: int) -> None:
        """A record failed; that may be because the shard is not ours any more."""
        if not self._leases.is_held(shard):
            self._refused(shard)

    def _refused(self, shard: int) -> None:
        for (_, each), pump in self._pumps.items():
            if each == shard:
                pump.stop()
        if shard in self.held and shard not in self._losing:
            losing = asyncio.create_task(self._lose(shard, self.held[shard]), name=f"lose {shard}")
            self._losing[shard] = losing
            losing.add_done_callback(lambda done: self._losing.pop(shard))

    async def _lose(self, shard: int, epoch: int) -> None:
        async with self._changing:
            if self.held.get(shard) != epoch:
                return
            self._log.warning("shard %d is held by another worker; it is given up here", shard)
            await self._give_up([shard])
        if self.lost is not None:
            await self.lost(shard, epoch)

    def _look_at_the_end(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None and not self.broken.done():
            self.broken.set_exception(task.exception())  # type: ignore[arg-type]

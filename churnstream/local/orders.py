"""A worker's side of the line to its supervisor: it obeys orders, answers questions, and asks for what only the whole can do."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping
from datetime import timedelta
from typing import Any

from churnstream.errors import NotDrained, PlatformFailed
from churnstream.local.channel import Channel
from churnstream.local.function import RunningFunction

HOLD, DRAIN, REPORT = "hold", "drain", "report"
DRAINED, LATE, MESSAGE = "drained", "late", "message"  # how a drain ended: well, too late, or with an error
ANSWER_S = 5.0  # beyond a deadline, for the supervisor to say what it knows


class Orders:
    """Listens for the supervisor of a running function until it is gone."""

    def __init__(self, channel: Channel, function: RunningFunction, log: logging.Logger):
        self._channel, self._function, self._log = channel, function, log
        self._questions: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._asked = 0
        self._working: set[asyncio.Task[None]] = set()
        self._one_at_a_time = asyncio.Lock()
        if function.shards is not None:
            function.shards.lost = self._lost

    async def obey(self) -> None:
        """Return when the supervisor is gone."""
        async for message in self._channel.messages():
            if "told" in message:
                waiting = self._questions.pop(message["id"], None)
                if waiting is not None:
                    waiting.set_result(message["told"])
            else:
                self._start(self._answer(message))

    async def drain(self, deadline: timedelta) -> dict[str, Any]:
        """Let all workers of the function read what is there and flush.

        Raises NotDrained at the deadline, and PlatformFailed when one of them could not flush.
        """
        self._asked += 1
        waiting = self._questions[self._asked] = asyncio.get_running_loop().create_future()
        seconds = deadline.total_seconds()
        await self._channel.say(wants=DRAIN, id=self._asked, deadline=seconds)
        try:
            told = await asyncio.wait_for(waiting, seconds + ANSWER_S)
        except TimeoutError:
            raise NotDrained(f"the supervisor did not answer within {seconds:g} s") from None
        finally:
            self._questions.pop(self._asked, None)
        if told.get(DRAINED):
            return told
        raise NotDrained(told[LATE]) if LATE in told else PlatformFailed(told[MESSAGE])

    def close(self) -> None:
        """Answer no more."""
        for task in self._working:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work, name="order")
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _answer(self, message: Mapping[str, Any]) -> None:
        try:
            answer = await self._work_out(message)
        except NotDrained as cause:
            answer = {LATE: str(cause)}
        except Exception as cause:
            self._log.error("the supervisor asked to %s, which failed", message["ask"], exc_info=cause)
            answer = {MESSAGE: f"{type(cause).__name__}: {cause}"}
        await self._channel.say(id=message["id"], answer=answer)

    async def _work_out(self, message: Mapping[str, Any]) -> dict[str, Any]:
        if message["ask"] == DRAIN:
            return await self._function.drain(timedelta(seconds=message["deadline"]))
        if message["ask"] == REPORT:
            return self._function.report()
        async with self._one_at_a_time:  # in the order in which they came: asyncio's locks are fair
            wanted = {int(shard): epoch for shard, epoch in message["shards"].items()}
            held = dict(await self._function.hold(wanted, message["clocks"]))
        everything = all(held.get(shard) == epoch for shard, epoch in wanted.items())
        return {"holds": held, "newest": 0 if everything else self._newest()}

    async def _lost(self, shard: int, epoch: int) -> None:
        await self._channel.say(lost=shard, epoch=epoch)

    def _newest(self) -> int:
        return 0 if self._function.shards is None else self._function.shards.newest()

    async def greet(self, pid: int) -> None:
        """Say that the function is ready, how many shards it could read, and the highest epoch that any of them has."""
        shards = self._function.shards.count if self._function.shards else 0
        await self._channel.say(ready=pid, shards=shards, newest=self._newest())

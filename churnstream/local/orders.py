"""A worker's side of the line to its supervisor: it obeys orders, answers questions, and asks for what only the whole can do."""

import asyncio
import logging
from collections.abc import Coroutine, Mapping, Sequence
from datetime import timedelta
from typing import Any

from churnstream.errors import NotDrained, PlatformFailed
from churnstream.local.channel import Channel
from churnstream.local.function import RunningFunction
from churnstream.local.suspects import DOUBT, Suspicion
from churnstream.records import Delivered

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
            function.shards.lost, function.shards.witness = self._lost, self

    async def obey(self) -> None:
        """Return when the supervisor is gone."""
        async for message in self._channel.messages():
            if "told" in message:
                waiting = self._questions.pop(message["id"], None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(message["told"])
            else:
                self._start(self._answer(message))
        for waiting in self._questions.values():
            if not waiting.done():
                waiting.set_exception(PlatformFailed("the supervisor is gone"))

    async def drain(self, deadline: timedelta) -> dict[str, Any]:
        """Let all workers of the function read what is there and flush.

        Raises NotDrained at the deadline, and PlatformFailed when one of them could not flush.
        """
        seconds = deadline.total_seconds()
        try:
            told = await self._ask(seconds + ANSWER_S, wants=DRAIN, deadline=seconds)
        except TimeoutError:
            raise NotDrained(f"the supervisor did not answer within {seconds:g} s") from None
        if told.get(DRAINED):
            return told
        raise NotDrained(told[LATE]) if LATE in told else PlatformFailed(told[MESSAGE])

    async def recall(self, record: Delivered) -> Suspicion:
        return Suspicion(**await self._doubt("recall", record))

    async def begin(self, record: Delivered, trial: bool, outcomes: Sequence[str]) -> None:
        await self._doubt("begin", record, trial=trial, outcomes=list(outcomes))

    async def returned(self, record: Delivered) -> None:
        await self._channel.say(**_about(record), doubt="returned")

    async def through(self, record: Delivered, last: bool) -> None:
        await self._doubt("through", record, last=last)

    def close(self) -> None:
        """Answer no more."""
        for task in self._working:
            task.cancel()

    async def _doubt(self, what: str, record: Delivered, **more: Any) -> dict[str, Any]:
        try:
            return await self._ask(ANSWER_S, **{DOUBT: what}, **_about(record), **more)
        except TimeoutError:
            raise PlatformFailed(f"the supervisor did not answer within {ANSWER_S:g} s") from None

    async def _ask(self, seconds: float, **question: Any) -> dict[str, Any]:
        """The supervisor's answer; raises TimeoutError, and PlatformFailed when it ends."""
        self._asked += 1
        number, waiting = self._asked, asyncio.get_running_loop().create_future()
        self._questions[number] = waiting
        try:
            await self._channel.say(**question, id=number)
            return await asyncio.wait_for(waiting, seconds)
        finally:
            self._questions.pop(number, None)

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
            held = dict(await self._function.hold(wanted, message["clocks"], message["doubtful"]))
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


def _about(record: Delivered) -> dict[str, Any]:
    return {"stream": record.stream, "shard": record.shard, "offset": record.offset}

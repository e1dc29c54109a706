"""The workers of one function: hired, told which shards to hold, asked, let drain, and let go."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from churnstream.local.births import Process
from churnstream.local.orders import DRAIN, DRAINED, HOLD, LATE
from churnstream.local.replica import BUILDING, ERROR, READY, STOPPED, Replica
from churnstream.local.sharing import Order, Sharing
from churnstream.local.suspects import Suspects

ASK_S = 2.0
RETRY_S = 0.5  # until a shard that could not be taken is tried again
log = logging.getLogger("supervisor")


class Crew:
    """The replicas of a function by their numbers, and how they share its shards.

    ``birth`` starts the process of the worker with a number; ``given_up`` is called when no worker is left that would ever be
    ready.
    """

    def __init__(self, name: str, birth: Callable[[int], Awaitable[Process]], given_up: Callable[[], None]):
        self.failure = ""
        """Why the function cannot work at all; empty while it can."""
        self.replicas: dict[int, Replica] = {}
        self._name, self._birth, self._given_up = name, birth, given_up
        self._sharing = Sharing()
        self._suspects = Suspects()
        self._moved = asyncio.Event()  # set for an instant whenever something happened to a worker
        self._sharing_begun = False
        self._telling: set[asyncio.Task[None]] = set()
        self._stopped = False

    @property
    def state(self) -> str:
        """MLRun's word for how the function is: ready while at least one worker is."""
        if self._stopped:
            return STOPPED
        states = {each.state for each in self.replicas.values()}
        if self.failure or (states and states <= {ERROR}):
            return ERROR
        return READY if READY in states else BUILDING

    @property
    def message(self) -> str:
        """What is wrong, or was the last time that something ended; empty when all is well."""
        return self.failure or next((each.message for each in self.replicas.values() if each.message), "")

    @property
    def pid(self) -> int | None:
        """The process id of the first worker that has one."""
        return next((each.pid for each in self.replicas.values() if each.pid is not None), None)

    def status(self) -> list[dict[str, Any]]:
        """Of each worker its ``number``, ``pid``, ``state``, ``restarts`` and ``shards``."""
        return [self._status(each) for each in self.replicas.values()]

    async def hire(self, numbers: Iterable[int], patience: float, forgiving: bool) -> None:
        """Start workers, which may be silent for ``patience`` seconds; returns when each was ready, or has failed, once."""
        if self._stopped:
            return
        hired = [Replica(self._name, number, self._birth, patience, self) for number in numbers]
        self.replicas |= {each.number: each for each in hired}
        for each in hired:
            each.start(forgiving)
        await asyncio.gather(*(each.begun.wait() for each in hired))

    async def dismiss(self, numbers: list[int], seconds: float) -> None:
        """Let workers give up their shards, within ``seconds``, and end them, within as many again."""
        for number in numbers:
            self._sharing.retire(number)
        self._order()
        leaving = [self.replicas[number] for number in numbers]
        await self._until(lambda: not any(self._sharing.holds(number) for number in numbers), seconds)
        await asyncio.gather(*(each.stop(seconds) for each in leaving))
        for number in numbers:
            self._sharing.leave(number)
            del self.replicas[number]
        self._order()

    def share(self) -> None:
        """From now on tell the workers which shards to hold."""
        self._sharing_begun = True
        self._order()

    async def shared(self, seconds: float) -> bool:
        """Wait until every shard has its holder; False when that took longer, or no worker is left who could."""
        await self._until(lambda: self._sharing.settled or self.state in (ERROR, STOPPED), seconds)
        return self._sharing.settled

    async def ask(self, question: str, seconds: float, **details: Any) -> list[dict[str, Any] | None]:
        """What each worker that is ready and not silent answers; None for one that does not within ``seconds``."""
        awake = [each for each in self.replicas.values() if each.state == READY and not self._sharing.is_silent(each.number)]
        return await asyncio.gather(*(each.ask(question, seconds, **details) for each in awake))

    async def stop(self, seconds: float) -> bool:
        """End the workers in order, or by force after ``seconds``; returns whether that was needed."""
        self._stopped = True
        forced = await asyncio.gather(*(each.stop(seconds) for each in self.replicas.values()))
        for telling in self._telling:
            telling.cancel()
        return any(forced)

    # -- what happens to the workers ------------------------------------------------------------------------------------------

    async def everyone_drained(self, seconds: float) -> dict[str, Any]:
        """The answer to a worker that was asked to drain. Shards that move meanwhile are drained where they go."""
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            if not await self.shared(end - clock()):
                return {LATE: self.message or f"{self._name} had shards that no worker held after {seconds:g} s"}
            turns, left = self._sharing.turns, max(0.0, end - clock())
            late: dict[str, Any] = {LATE: f"{self._name} did not answer within {seconds:g} s"}
            answers = [each or late for each in await self.ask(DRAIN, left + ASK_S, deadline=left)]
            bad = next((each for each in answers if not each.get(DRAINED)), None)
            if bad is None and self._sharing.turns == turns and answers:
                return {DRAINED: True, "positions": _furthest([each["positions"] for each in answers])}
            if bad is not None and (self._sharing.turns == turns or clock() >= end):
                return bad

    def ready(self, replica: Replica, shards: int, newest: int) -> None:
        self._sharing.join(replica.number, shards, newest)
        self._order()

    def died(self, replica: Replica, how: str) -> bool:
        return self._suspects.died(replica.number, self._sharing.told(replica.number), how)

    def doubted(self, replica: Replica, said: dict[str, Any]) -> dict[str, Any]:
        return self._suspects.hear(replica.number, said)

    def gone(self, replica: Replica) -> None:
        self._suspects.returned(replica.number)
        self._sharing.leave(replica.number)
        if self.replicas and self.state == ERROR:
            self._given_up()
        self._order()

    def silent(self, replica: Replica) -> None:
        sentence = "%s, worker %d (process %s) gives no sign of life; others get its shards, where there are any"
        log.warning(sentence, self._name, replica.number, replica.pid)
        self._sharing.silence(replica.number)
        self._order()

    def heard(self, replica: Replica) -> None:
        log.info("%s, worker %d gives signs of life again", self._name, replica.number)
        self._sharing.heard(replica.number)
        self._order()

    def lost(self, replica: Replica, shard: int, epoch: int) -> None:
        self._sharing.lost(replica.number, shard, epoch)
        self._order()

    # -- the inside ---------------------------------------------------------------------------------------------------------

    def _order(self) -> None:
        """Tell the workers what to hold, where that has changed."""
        if self._sharing_begun and not self._stopped:
            for number, (turn, order) in self._sharing.orders().items():
                telling = asyncio.create_task(self._tell(self.replicas[number], turn, order))
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)
        self._moved.set()
        self._moved.clear()

    async def _tell(self, replica: Replica, turn: int, order: Order) -> None:
        doubtful = sorted(self._suspects.shards.intersection(order.shards))
        answered = await replica.ask(HOLD, shards=order.shards, clocks=order.clocks, doubtful=doubtful)
        if answered is None:
            return  # it ended, which is told otherwise
        holds = {int(shard): epoch for shard, epoch in answered.get("holds", {}).items()}
        failed = self._sharing.answer(replica.number, turn, holds, answered.get("newest", 0))
        for number in {self._sharing.left_by(shard) for shard in failed}:
            if number in self.replicas:
                sentence = "%s, worker %d gives no sign of life and may keep a journal locked; it is killed"
                log.warning(sentence, self._name, number)
                self.replicas[number].kill()
        if failed:
            asyncio.get_running_loop().call_later(RETRY_S, self._order)
        else:
            self._order()

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    await self._moved.wait()
        except TimeoutError:
            return

    def _status(self, replica: Replica) -> dict[str, Any]:
        silent = self._sharing.is_silent(replica.number)
        return {
            "number": replica.number,
            "pid": replica.pid,
            "state": "silent" if silent else replica.state,
            "restarts": replica.restarts,
            "shards": self._sharing.holds(replica.number),
        }


def _furthest(found: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """Of several readings of the same positions, the latest of each shard."""
    return {stream: [max(each) for each in zip(*(one[stream] for one in found), strict=True)] for stream in found[0]}

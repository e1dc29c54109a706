"""One function under the supervisor: its port, its workers, and how they share its shards."""

import asyncio
import errno
import logging
import socket
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from churnstream.errors import InvalidFunction, PlatformFailed
from churnstream.failpoints import reach
from churnstream.local.births import Births, Process
from churnstream.local.home import Home
from churnstream.local.orders import DRAIN, DRAINED, HOLD, LATE, MESSAGE, REPORT
from churnstream.local.progress import Rates
from churnstream.local.replica import BUILDING, ERROR, READY, STOPPED, Replica
from churnstream.local.server import BACKLOG
from churnstream.local.sharing import Order, Sharing
from churnstream.local.specification import Specification
from churnstream.local.triggers import session_timeout

ASK_S = 2.0
SHARE_S = 30.0  # for the workers to take their shards, until a deployment goes on without waiting for it
LEAVE_S = 15.0  # for a worker to give up its shards, and again to end
RETRY_S = 0.5  # until a shard that could not be taken is tried again
NOTHING: dict[str, Any] = {"streams": []}
log = logging.getLogger("supervisor")


class Deployment:
    """Keeps one function alive.

    The listening socket is the deployment's, not a worker's: its workers share it, and clients wait while one is replaced.
    """

    def __init__(self, specification: Specification, home: Home, births: Births):
        self.specification = specification
        self._home = home
        self._births = births
        self._listener: socket.socket | None = None
        self._replicas: dict[int, Replica] = {}
        self._sharing = Sharing()
        self._moved = asyncio.Event()  # set for an instant whenever something happened to a worker
        self._sharing_begun = False
        self._telling: set[asyncio.Task[None]] = set()
        self._stopped = False
        self._failure = ""
        self._report = NOTHING
        self._rates = Rates()

    @property
    def state(self) -> str:
        """MLRun's word for how the function is: ready while at least one worker is."""
        if self._stopped:
            return STOPPED
        states = {each.state for each in self._replicas.values()}
        if self._failure or (states and states <= {ERROR}):
            return ERROR
        return READY if READY in states else BUILDING

    @property
    def message(self) -> str:
        """What is wrong, or was the last time that something ended; empty when all is well."""
        return self._failure or next((each.message for each in self._replicas.values() if each.message), "")

    @property
    def pid(self) -> int | None:
        """The process id of the first worker that has one."""
        return next((each.pid for each in self._replicas.values() if each.pid is not None), None)

    @property
    def address(self) -> str:
        """Where the function answers, ``host:port``."""
        return f"127.0.0.1:{self.specification.port}" if self.specification.port else ""

    def status(self) -> dict[str, Any]:
        """What MLRun wants to know, and more: of each worker its ``number``, ``pid``, ``state``, ``restarts`` and ``shards``."""
        return {
            "project": self.specification.project,
            "name": self.specification.name,
            "state": self.state,
            "address": self.address,
            "message": self.message,
            "pid": self.pid,
            "restarts": sum(each.restarts for each in self._replicas.values()),
            "workers": [self._worker(each) for each in self._replicas.values()],
            "deployed_at": self.specification.deployed_at,
        }

    async def start(self, forgiving: bool = False) -> None:
        """Start the function; returns when its workers are ready and share its shards, or when it is in error.

        A new function that fails while it starts is in error at once; a ``forgiving`` start tries again.
        """
        self._listener = _listen(self.specification.port)
        self.specification = self.specification.at(self._listener.getsockname()[1])
        self.specification.save(self._home)
        reach("deploy.before-start")
        try:
            workers = self.specification.workers
            await self._hire(range(workers), forgiving)
        except InvalidFunction as cause:
            self._failure = str(cause)
        failed = [each for each in self._replicas.values() if each.state == ERROR]
        if failed and not forgiving:
            self._failure = failed[0].message
        if self.state == ERROR:
            await self._dismiss([*self._replicas], LEAVE_S)
            self._close_listener()
            return
        self._sharing_begun = True
        self._order()
        await self._shared(SHARE_S)
        reach("deploy.before-answer")

    async def scale(self, workers: int) -> None:
        """Serve with so many workers from now on, also after a restart of the platform; those that stay go on meanwhile.

        Raises InvalidFunction for a number that makes no sense, and PlatformFailed when the function is not running.
        """
        if self.state in (ERROR, STOPPED):
            raise PlatformFailed(f"{self.specification.name} is not running and cannot be scaled; deploy it again")
        self.specification = self.specification.at_scale(workers)
        self.specification.save(self._home)
        await self._dismiss([number for number in self._replicas if number >= workers], LEAVE_S)
        await self._dismiss([number for number, each in self._replicas.items() if each.state == ERROR], LEAVE_S)
        await self._hire([number for number in range(workers) if number not in self._replicas], forgiving=False)
        await self._shared(SHARE_S)

    async def report(self) -> dict[str, Any]:
        """What a worker says of the function's streams, with the troubles of all; the last that was known when none answers."""
        answers = await asyncio.gather(*(replica.ask(REPORT, ASK_S) for replica in self._awake()))
        told = [each["streams"] for each in answers if each and "streams" in each]
        if told:
            troubles: dict[str, list[str]] = {}
            for stream in (each for streams in told for each in streams):
                troubles.setdefault(stream["stream"], []).extend(stream["trouble"])
            now = asyncio.get_running_loop().time()
            self._report = {
                "streams": [
                    each | {"trouble": list(dict.fromkeys(troubles[each["stream"]])), "rows_per_s": self._rates.look(each, now)}
                    for each in told[0]
                ]
            }
        return self._report

    async def drain(self, deadline: timedelta) -> str | None:
        """Let the workers read what is there and flush; a sentence when they did not manage to."""
        answered = await self.everyone_drained(deadline.total_seconds())
        return None if answered.get(DRAINED) else answered.get(LATE) or answered[MESSAGE]

    async def everyone_drained(self, seconds: float) -> dict[str, Any]:
        """As ``drain``; the answer to a worker that was asked to. Shards that move meanwhile are drained where they go."""
        name, clock = self.specification.name, asyncio.get_running_loop().time
        end = clock() + seconds
        while True:
            if not await self._shared(end - clock()):
                return {LATE: self.message or f"{name} had shards that no worker held after {seconds:g} s"}
            turns, left = self._sharing.turns, max(0.0, end - clock())
            asked = [each.ask(DRAIN, left + ASK_S, deadline=left) for each in self._awake()]
            answers = [each or {LATE: f"{name} did not answer within {seconds:g} s"} for each in await asyncio.gather(*asked)]
            bad = next((each for each in answers if not each.get(DRAINED)), None)
            if bad is None and self._sharing.turns == turns and answers:
                return {DRAINED: True, "positions": _furthest([each["positions"] for each in answers])}
            if bad is not None and (self._sharing.turns == turns or clock() >= end):
                return bad

    async def stop(self, deadline: timedelta) -> str | None:
        """End the workers in order, or by force at the deadline, which a sentence tells; free the port."""
        self._stopped = True
        seconds = deadline.total_seconds()
        forced = await asyncio.gather(*(each.stop(seconds) for each in self._replicas.values()))
        for telling in self._telling:
            telling.cancel()
        self._close_listener()
        return f"{self.specification.name} did not stop within {seconds:g} s and was killed" if any(forced) else None

    # -- what happens to the workers ------------------------------------------------------------------------------------------

    def ready(self, replica: Replica, shards: int, newest: int) -> None:
        self._sharing.join(replica.number, shards, newest)
        self._order()

    def gone(self, replica: Replica) -> None:
        self._sharing.leave(replica.number)
        if self._replicas and self.state == ERROR:
            self._close_listener()  # a client is better refused than left waiting for ever
        self._order()

    def silent(self, replica: Replica) -> None:
        sentence = "%s, worker %d (process %s) gives no sign of life; others get its shards, where there are any"
        log.warning(sentence, self.specification.name, replica.number, replica.pid)
        self._sharing.silence(replica.number)
        self._order()

    def heard(self, replica: Replica) -> None:
        log.info("%s, worker %d gives signs of life again", self.specification.name, replica.number)
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
                telling = asyncio.create_task(self._tell(self._replicas[number], turn, order))
                self._telling.add(telling)
                telling.add_done_callback(self._telling.discard)
        self._moved.set()
        self._moved.clear()

    async def _tell(self, replica: Replica, turn: int, order: Order) -> None:
        answered = await replica.ask(HOLD, shards=order.shards, clocks=order.clocks)
        if answered is None:
            return  # it ended, which is told otherwise
        holds = {int(shard): epoch for shard, epoch in answered.get("holds", {}).items()}
        failed = self._sharing.answer(replica.number, turn, holds, answered.get("newest", 0))
        for number in {self._sharing.left_by(shard) for shard in failed}:
            if number in self._replicas:
                sentence = "%s, worker %d gives no sign of life and may keep a journal locked; it is killed"
                log.warning(sentence, self.specification.name, number)
                self._replicas[number].kill()
        if failed:
            asyncio.get_running_loop().call_later(RETRY_S, self._order)
        else:
            self._order()

    async def _hire(self, numbers: Iterable[int], forgiving: bool) -> None:
        if self._stopped:
            return
        patience = session_timeout(self.specification.function).total_seconds()
        hired = [Replica(self.specification.name, number, self._birth, patience, self) for number in numbers]
        self._replicas |= {each.number: each for each in hired}
        for each in hired:
            each.start(forgiving)
        await asyncio.gather(*(each.begun.wait() for each in hired))

    async def _dismiss(self, numbers: list[int], seconds: float) -> None:
        """Let workers give up their shards, and end them."""
        for number in numbers:
            self._sharing.retire(number)
        self._order()
        leaving = [self._replicas[number] for number in numbers]
        await self._until(lambda: not any(self._sharing.holds(number) for number in numbers), seconds)
        await asyncio.gather(*(each.stop(seconds) for each in leaving))
        for number in numbers:
            self._sharing.leave(number)
            del self._replicas[number]
        self._order()

    async def _birth(self, number: int) -> Process:
        assert self._listener is not None
        project, name = self.specification.project, self.specification.name
        path, output = self._home.spec(project, name), self._home.log(project, name)
        return await self._births.start(path, self._home, output, self._listener, number)

    async def _shared(self, seconds: float) -> bool:
        """Wait until every shard has its holder; False when that took longer, or no worker is left who could."""
        await self._until(lambda: self._sharing.settled or self.state in (ERROR, STOPPED), seconds)
        return self._sharing.settled

    async def _until(self, holds: Callable[[], bool], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                while not holds():
                    await self._moved.wait()
        except TimeoutError:
            return

    def _awake(self) -> list[Replica]:
        return [each for each in self._replicas.values() if each.state == READY and not self._sharing.is_silent(each.number)]

    def _worker(self, replica: Replica) -> dict[str, Any]:
        silent = self._sharing.is_silent(replica.number)
        return {
            "number": replica.number,
            "pid": replica.pid,
            "state": "silent" if silent else replica.state,
            "restarts": replica.restarts,
            "shards": self._sharing.holds(replica.number),
        }

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _furthest(found: list[dict[str, list[int]]]) -> dict[str, list[int]]:
    """Of several readings of the same positions, the latest of each shard."""
    return {stream: [max(each) for each in zip(*(one[stream] for one in found), strict=True)] for stream in found[0]}


def _listen(port: int) -> socket.socket:
    """A listening socket on the port that the function had before, where that is still free."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as cause:
        if port and cause.errno == errno.EADDRINUSE:
            return socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        raise PlatformFailed(f"no port could be opened on 127.0.0.1 ({cause})") from cause

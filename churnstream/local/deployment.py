"""One function under the supervisor: its port, its workers, and what they say of its streams."""

import asyncio
import errno
import socket
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from churnstream.errors import InvalidFunction, PlatformFailed
from churnstream.failpoints import reach
from churnstream.local.births import Births, Process
from churnstream.local.crew import ASK_S, Crew
from churnstream.local.home import Home
from churnstream.local.orders import DRAINED, LATE, MESSAGE, REPORT
from churnstream.local.progress import Rates
from churnstream.local.replica import ERROR, STOPPED
from churnstream.local.server import BACKLOG
from churnstream.local.specification import Specification
from churnstream.local.triggers import session_timeout

SHARE_S = 30.0  # for the workers to take their shards, until a deployment goes on without waiting for it
LEAVE_S = 15.0  # for a worker to give up its shards, and again to end
NOTHING: dict[str, Any] = {"streams": []}


class Deployment:
    """Keeps one function alive.

    The listening socket is the deployment's, not a worker's: its workers share it, and clients wait while one is replaced. A
    deployment that takes the place of another gets its ``listener``, so that they wait then as well.
    """

    def __init__(self, specification: Specification, home: Home, births: Births, listener: socket.socket | None = None):
        self.specification = specification
        self._home = home
        self._births = births
        self._listener = listener
        self._crew = Crew(specification.name, self._birth, given_up=self._close_listener)
        self._report = NOTHING
        self._rates = Rates()

    @property
    def state(self) -> str:
        """MLRun's word for how the function is: ready while at least one worker is."""
        return self._crew.state

    @property
    def pid(self) -> int | None:
        """The process id of the first worker that has one."""
        return self._crew.pid

    @property
    def address(self) -> str:
        """Where the function answers, ``host:port``."""
        return f"127.0.0.1:{self.specification.port}" if self.specification.port else ""

    def status(self) -> dict[str, Any]:
        """What MLRun wants to know, and more: of each worker its ``number``, ``pid``, ``state``, ``restarts`` and ``shards``."""
        workers = self._crew.status()
        return {
            "project": self.specification.project,
            "name": self.specification.name,
            "state": self.state,
            "address": self.address,
            "message": self._crew.message,
            "pid": self.pid,
            "restarts": sum(each["restarts"] for each in workers),
            "workers": workers,
            "deployed_at": self.specification.deployed_at,
        }

    async def start(self, forgiving: bool = False) -> None:
        """Start the function; returns when its workers are ready and share its shards, or when it is in error.

        A new function that fails while it starts is in error at once; a ``forgiving`` start tries again.
        """
        if self._listener is None:
            self._listener = _listen(self.specification.port)
        self.specification = self.specification.at(self._listener.getsockname()[1])
        self.specification.save(self._home)
        reach("deploy.before-start")
        try:
            await self._hire(range(self.specification.workers), forgiving)
        except InvalidFunction as cause:
            self._crew.failure = str(cause)
        failed = [each for each in self._crew.replicas.values() if each.state == ERROR]
        if failed and not forgiving:
            self._crew.failure = failed[0].message
        if self.state == ERROR:
            await self._crew.dismiss([*self._crew.replicas], LEAVE_S)
            self._close_listener()
            return
        self._crew.share()
        await self._crew.shared(SHARE_S)
        reach("deploy.before-answer")

    async def scale(self, workers: int) -> None:
        """Serve with so many workers from now on, also after a restart of the platform; those that stay go on meanwhile.

        Raises InvalidFunction for a number that makes no sense, and PlatformFailed when the function is not running.
        """
        if self.state in (ERROR, STOPPED):
            raise PlatformFailed(f"{self.specification.name} is not running and cannot be scaled; deploy it again")
        self.specification = self.specification.at_scale(workers)
        self.specification.save(self._home)
        there = self._crew.replicas
        await self._crew.dismiss([number for number in there if number >= workers], LEAVE_S)
        await self._crew.dismiss([number for number, each in there.items() if each.state == ERROR], LEAVE_S)
        await self._hire([number for number in range(workers) if number not in there], forgiving=False)
        await self._crew.shared(SHARE_S)

    async def report(self) -> dict[str, Any]:
        """What a worker says of the function's streams, with the troubles of all; the last that was known when none answers."""
        told = [each["streams"] for each in await self._crew.ask(REPORT, ASK_S) if each and "streams" in each]
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
        answered = await self._crew.everyone_drained(deadline.total_seconds())
        return None if answered.get(DRAINED) else answered.get(LATE) or answered[MESSAGE]

    async def stop(self, deadline: timedelta) -> str | None:
        """End the workers in order, or by force at the deadline, which a sentence tells; free the port."""
        forced = await self._end(deadline)
        self._close_listener()
        return forced

    async def hand_over(self, deadline: timedelta) -> tuple[str | None, socket.socket | None]:
        """End the workers as ``stop`` does; the listening socket is the caller's from now on, None where it was closed before."""
        forced = await self._end(deadline)
        listener, self._listener = self._listener, None
        return forced, listener

    async def _end(self, deadline: timedelta) -> str | None:
        seconds = deadline.total_seconds()
        forced = await self._crew.stop(seconds)
        return f"{self.specification.name} did not stop within {seconds:g} s and was killed" if forced else None

    async def _hire(self, numbers: Iterable[int], forgiving: bool) -> None:
        patience = session_timeout(self.specification.function)
        await self._crew.hire(numbers, patience.total_seconds(), forgiving)

    async def _birth(self, number: int) -> Process:
        assert self._listener is not None
        project, name = self.specification.project, self.specification.name
        path, output = self._home.spec(project, name), self._home.log(project, name)
        return await self._births.start(path, self._home, output, self._listener, number)

    def _close_listener(self) -> None:
        """A client is better refused than left waiting for ever."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None


def _listen(port: int) -> socket.socket:
    """A listening socket on the port that the function had before, where that is still free."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as cause:
        if port and cause.errno == errno.EADDRINUSE:
            return socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        raise PlatformFailed(f"no port could be opened on 127.0.0.1 ({cause})") from cause

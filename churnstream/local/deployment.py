"""One function under the supervisor: its port, its worker, and what happens when that dies."""

import asyncio
import contextlib
import errno
import signal
import socket
import traceback
from collections import deque
from datetime import timedelta
from typing import Any

from churnstream.errors import PlatformFailed
from churnstream.local.births import Births, Process
from churnstream.local.home import Home
from churnstream.local.server import BACKLOG
from churnstream.local.specification import Specification

BUILDING, READY, ERROR, STOPPED = "building", "ready", "error", "stopped"

START_S = 120.0  # for init_context
ASK_S = 2.0
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
CRASHES = 6  # ends of its own making within CRASH_WINDOW_S, and the function is given up
CRASH_WINDOW_S = 60.0
NOTHING: dict[str, Any] = {"streams": []}


class Deployment:
    """Keeps one function alive.

    The listening socket is the deployment's, not the worker's: clients wait while a worker is replaced.
    """

    def __init__(self, specification: Specification, home: Home, births: Births):
        self.specification = specification
        self.state = BUILDING
        self.message = ""
        self.restarts = 0
        self._home = home
        self._births = births
        self._listener: socket.socket | None = None
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._settled = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._answers: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._report = NOTHING

    @property
    def pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        return self._process.pid if self._process else None

    @property
    def address(self) -> str:
        """Where the function answers, ``host:port``."""
        return f"127.0.0.1:{self.specification.port}" if self.specification.port else ""

    def status(self) -> dict[str, Any]:
        """What MLRun wants to know, and more."""
        return {
            "project": self.specification.project,
            "name": self.specification.name,
            "state": self.state,
            "address": self.address,
            "message": self.message,
            "pid": self.pid,
            "restarts": self.restarts,
            "deployed_at": self.specification.deployed_at,
        }

    async def start(self, forgiving: bool = False) -> None:
        """Start the function; returns when it is ready or in error.

        A new function that fails while it starts is in error at once; a ``forgiving`` start tries again.
        """
        self._listener = _listen(self.specification.port)
        self.specification = self.specification.at(self._listener.getsockname()[1])
        self.specification.save(self._home)
        self._keeper = asyncio.create_task(self._keep(forgiving), name=f"keep {self.specification.name}")
        await self._settled.wait()

    async def report(self) -> dict[str, Any]:
        """The worker's own report of its streams; the last one known when it does not answer."""
        answered = await self._ask("report", ASK_S)
        if answered and "streams" in answered:
            self._report = answered
        return self._report

    async def drain(self, deadline: timedelta) -> str | None:
        """Let the worker read what is there and flush; a sentence when it did not manage to."""
        seconds = deadline.total_seconds()
        answered = await self._ask("drain", seconds + ASK_S, deadline=seconds)
        if answered is None:
            return f"{self.specification.name} did not answer within {seconds:g} s"
        return None if answered.get("drained") else answered.get("message", f"{self.specification.name} did not drain")

    async def stop(self, deadline: timedelta) -> str | None:
        """End the worker in order, or by force at the deadline, which a sentence tells; free its port."""
        self._stopping.set()
        forced = None
        if self._process is not None:
            self._process.signal(signal.SIGTERM)
        if self._keeper is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._keeper), deadline.total_seconds())
            except TimeoutError:
                seconds = deadline.total_seconds()
                forced = f"{self.specification.name} did not stop within {seconds:g} s and was killed"
                if self._process is not None:
                    self._process.signal(signal.SIGKILL)
                await self._keeper
        self._close_listener()
        self.state = STOPPED
        return forced

    async def _keep(self, forgiving: bool) -> None:
        deaths: deque[float] = deque()
        crashes: deque[float] = deque()
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                was_ready, killed, why = await self._live()
                if self._stopping.is_set():
                    return
                deaths.append(clock())
                if not (was_ready and killed):
                    crashes.append(clock())
                for each in (deaths, crashes):
                    while each and each[0] < clock() - CRASH_WINDOW_S:
                        each.popleft()
                if len(deaths) == 1:
                    pause = FIRST_PAUSE_S
                if not was_ready and not forgiving:
                    self._give_up(why)
                    return
                if len(crashes) >= CRASHES:
                    often = f"ended {len(crashes)} times within {CRASH_WINDOW_S:g} s"
                    self._give_up(f"{self.specification.name} {often}; lastly: {why}")
                    return
                forgiving = True
                self.message = why
                self.restarts += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, LAST_PAUSE_S)
        except Exception:
            self._give_up(f"the supervisor failed while it kept {self.specification.name}:\n{traceback.format_exc()}")

    async def _live(self) -> tuple[bool, bool, str]:
        """One worker's life: whether it was ever ready, whether somebody else ended it by SIGKILL, and why it ended."""
        assert self._listener is not None
        project, name = self.specification.project, self.specification.name
        try:
            process = await self._births.start(
                self._home.spec(project, name), self._home, self._home.log(project, name), self._listener
            )
        except PlatformFailed as cause:
            return False, False, str(cause)
        self._process = process
        if self._stopping.is_set():
            process.signal(signal.SIGTERM)
        too_late = asyncio.Event()
        late = asyncio.get_running_loop().call_later(START_S, too_late.set)
        killing = asyncio.create_task(_kill_when(too_late, process))
        failure = ""
        async for message in process.channel.messages():
            if "ready" in message:
                late.cancel()
                self.state, self.message = READY, ""
                self._settled.set()
            elif "failed" in message:
                failure = f"{name} did not start: {message['failed']}\n{message['traceback']}"
            else:
                self._hear(message)
        late.cancel()
        killing.cancel()
        was_ready, self.state = self.state == READY, BUILDING
        self._forget_questions()
        process.channel.close()
        code = await process.exit_code()
        self._process = None
        if too_late.is_set():
            failure = f"{name} was not ready within {START_S:g} s and was killed; its init_context takes too long"
        return was_ready, code == -signal.SIGKILL, failure or _ending(name, code, was_ready)

    def _give_up(self, why: str) -> None:
        self.state, self.message = ERROR, why
        self._close_listener()  # a client is better refused than left waiting for ever
        self._settled.set()

    def _close_listener(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._settled.set()

    async def _ask(self, question: str, seconds: float, **details: Any) -> dict[str, Any] | None:
        if self._process is None or self.state != READY:
            return None
        answer = self._answers.get(question)
        if answer is None:
            answer = self._answers[question] = asyncio.get_running_loop().create_future()
            await self._process.channel.say(ask=question, **details)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(answer), seconds)
        return None

    def _hear(self, message: dict[str, Any]) -> None:
        for question, answered in message.items():
            waiting = self._answers.pop(question, None)
            if waiting is not None:
                waiting.set_result(answered)

    def _forget_questions(self) -> None:
        for waiting in self._answers.values():
            waiting.set_result({"message": f"{self.specification.name} ended meanwhile"})
        self._answers.clear()


async def _kill_when(too_late: asyncio.Event, process: Process) -> None:
    await too_late.wait()
    process.signal(signal.SIGKILL)


def _listen(port: int) -> socket.socket:
    """A listening socket on the port that the function had before, where that is still free."""
    try:
        return socket.create_server(("127.0.0.1", port), backlog=BACKLOG)
    except OSError as cause:
        if port and cause.errno == errno.EADDRINUSE:
            return socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        raise PlatformFailed(f"no port could be opened on 127.0.0.1 ({cause})") from cause


def _ending(name: str, code: int | None, was_ready: bool) -> str:
    if code is None:
        how = f"{name} ended and left no exit code"
    elif code < 0:
        how = f"{name} was ended by {signal.Signals(-code).name}"
    else:
        how = f"{name} ended with exit code {code}"
    return f"{how}{'' if was_ready else ' before it was ready'}; its log may say why: churnstream logs {name}"

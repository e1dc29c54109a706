"""One worker of a deployed function, seen from the supervisor: its process, which is started again when it ends."""

import asyncio
import contextlib
import signal
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

from churnstream.errors import PlatformFailed
from churnstream.local.births import Process
from churnstream.local.endings import Ending, how
from churnstream.local.pulse import listen
from churnstream.local.suspects import DOUBT

BUILDING, READY, ERROR, STOPPED = "building", "ready", "error", "stopped"

START_S = 120.0  # for init_context
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
CRASHES = 6  # ends of its own making within CRASH_WINDOW_S, and the worker is given up
CRASH_WINDOW_S = 60.0


class Team(Protocol):
    """Whom a replica tells what happens to it."""

    def ready(self, replica: "Replica", shards: int, newest: int) -> None:
        """Its function is ready; ``shards`` and ``newest`` as in ``Sharing.join``."""
        ...

    def died(self, replica: "Replica", how: str) -> bool:
        """Its process has ended unasked, as told by ``how``; whether that was the price of looking for what it ends of."""
        ...

    def doubted(self, replica: "Replica", said: dict[str, Any]) -> dict[str, Any]:
        """It said something about a record that a process before it may have ended of; the answer."""
        ...

    def gone(self, replica: "Replica") -> None:
        """Its process has ended, or it was given up."""
        ...

    def silent(self, replica: "Replica") -> None:
        """It gives no sign of life."""
        ...

    def heard(self, replica: "Replica") -> None:
        """It gives signs of life again."""
        ...

    def lost(self, replica: "Replica", shard: int, epoch: int) -> None:
        """It found a shard of its own held by another."""
        ...

    async def everyone_drained(self, seconds: float) -> dict[str, Any]:
        """Let every worker drain, as one of them was asked to."""
        ...


class Replica:
    """Keeps one process alive until ``stop``."""

    def __init__(self, name: str, number: int, birth: Callable[[int], Awaitable[Process]], patience: float, team: Team):
        self.number = number
        self.state = BUILDING
        self.message = ""
        self.restarts = 0
        self.begun = asyncio.Event()
        """Set when its function was ready, or has failed, for the first time."""
        self._name = name if number == 0 else f"{name}, worker {number},"
        self._birth, self._patience, self._team = birth, patience, team
        self._process: Process | None = None
        self._stopping = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._asked = 0
        self._answers: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._working: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """The process id, None while there is none."""
        return self._process.pid if self._process else None

    def start(self, forgiving: bool) -> None:
        """Start the process; one that fails before it was ever ready is started again only when ``forgiving``."""
        self._keeper = asyncio.create_task(self._keep(forgiving), name=f"keep {self._name}")

    async def ask(self, question: str, seconds: float | None = None, **details: Any) -> dict[str, Any] | None:
        """The worker's answer; None when it ends, or does not answer within ``seconds``."""
        if self._process is None or self.state != READY:
            return None
        self._asked += 1
        number, answer = self._asked, asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        await self._process.channel.say(ask=question, id=number, **details)
        try:
            return await asyncio.wait_for(answer, seconds)
        except TimeoutError:
            return None
        finally:
            self._answers.pop(number, None)

    def kill(self) -> None:
        """End the process by force; it is started again."""
        if self._process is not None:
            self._process.signal(signal.SIGKILL)

    async def stop(self, seconds: float) -> bool:
        """End the process in order, or by force after ``seconds``; returns whether that was needed."""
        self._stopping.set()
        forced = False
        if self._process is not None:
            self._process.signal(signal.SIGTERM)
        if self._keeper is not None:
            try:
                await asyncio.wait_for(asyncio.shield(self._keeper), seconds)
            except TimeoutError:
                forced = True
                self.kill()
                await self._keeper
        self.state = STOPPED
        self.begun.set()
        return forced

    async def _keep(self, forgiving: bool) -> None:
        deaths: deque[float] = deque()
        crashes: deque[float] = deque()
        clock = asyncio.get_running_loop().time
        pause = FIRST_PAUSE_S
        try:
            while not self._stopping.is_set():
                ending = await self._live()
                if self._stopping.is_set():
                    return
                if not ending.searched:
                    deaths.append(clock())
                if not (ending.searched or ending.killed):
                    crashes.append(clock())
                for each in (deaths, crashes):
                    while each and each[0] < clock() - CRASH_WINDOW_S:
                        each.popleft()
                if ending.searched or len(deaths) == 1:
                    pause = FIRST_PAUSE_S
                if not ending.was_ready and not forgiving:
                    self._give_up(ending.why)
                    return
                if len(crashes) >= CRASHES:
                    often = f"ended {len(crashes)} times within {CRASH_WINDOW_S:g} s"
                    self._give_up(f"{self._name} {often}; lastly: {ending.why}")
                    return
                forgiving = True
                self.message = ending.why
                self.begun.set()
                self.restarts += 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), pause)
                pause = min(pause * 2, LAST_PAUSE_S)
        except Exception:
            self._give_up(f"the supervisor failed while it kept {self._name}:\n{traceback.format_exc()}")

    async def _live(self) -> Ending:
        """One process's life."""
        try:
            process = await self._birth(self.number)
        except PlatformFailed as cause:
            return Ending(False, False, False, str(cause))
        self._process = process
        if self._stopping.is_set():
            process.signal(signal.SIGTERM)
        too_late = asyncio.Event()
        late = asyncio.get_running_loop().call_later(START_S, too_late.set)
        killing = asyncio.create_task(_kill_when(too_late, process))
        watching: asyncio.Task[None] | None = None
        failure = ""
        async for message in process.channel.messages():
            if "ready" in message:
                late.cancel()
                self.state, self.message = READY, ""
                watching = asyncio.create_task(self._watch(process))
                self._team.ready(self, message["shards"], message["newest"])
                self.begun.set()
            elif "failed" in message:
                what = "broke" if self.state == READY else "did not start"
                failure = f"{self._name} {what}: {message['failed']}\n{message['traceback']}"
            else:
                self._hear(process, message)
        late.cancel()
        killing.cancel()
        if watching is not None:
            watching.cancel()
        was_ready, self.state = self.state == READY, BUILDING
        for answer in self._answers.values():
            if not answer.done():
                answer.set_result(None)
        self._answers.clear()
        process.channel.close()
        process.pulse.close()
        code = await process.exit_code()
        self._process = None
        unasked = was_ready and not failure and code not in (None, -signal.SIGKILL) and not self._stopping.is_set()
        searched = unasked and self._team.died(self, how(code))
        self._team.gone(self)
        if too_late.is_set():
            failure = f"{self._name} was not ready within {START_S:g} s and was killed; its init_context takes too long"
        return Ending(was_ready, was_ready and code == -signal.SIGKILL, searched, failure or self._told(code, was_ready))

    async def _watch(self, process: Process) -> None:
        await listen(process.pulse, self._patience, lambda: self._team.silent(self), lambda: self._team.heard(self))

    def _hear(self, process: Process, message: dict[str, Any]) -> None:
        if "answer" in message:
            answer = self._answers.pop(message["id"], None)
            if answer is not None and not answer.done():
                answer.set_result(message["answer"])
        elif DOUBT in message:
            told = self._team.doubted(self, message)
            if "id" in message:
                self._start(process.channel.say(told=told, id=message["id"]))
        elif "lost" in message:
            self._team.lost(self, message["lost"], message["epoch"])
        elif "wants" in message:
            self._start(self._tell(process, message["id"], message["deadline"]))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _tell(self, process: Process, question: int, seconds: float) -> None:
        await process.channel.say(told=await self._team.everyone_drained(seconds), id=question)

    def _give_up(self, why: str) -> None:
        self.state, self.message = ERROR, why
        self.begun.set()
        self._team.gone(self)

    def _told(self, code: int | None, was_ready: bool) -> str:
        log = f"churnstream logs {self._name.partition(',')[0]}"
        return f"{self._name} {how(code)}{'' if was_ready else ' before it was ready'}; its log may say why: {log}"


async def _kill_when(too_late: asyncio.Event, process: Process) -> None:
    await too_late.wait()
    process.signal(signal.SIGKILL)

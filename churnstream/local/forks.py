"""Workers as forks of the nursery, which has imported what they need: born in a fraction of a second."""

import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from churnstream.local.births import EXIT_REPORT_S, FreshInterpreters, Lines, Process
from churnstream.local.home import Home
from churnstream.local.logs import open_log
from churnstream.local.nursery import CALM

NURSERY_START_S = 120.0
ATTEMPTS = 2  # to fork, before a worker is started afresh
NURSERY_TRIES = 3  # that may end before they are ready, in a row, until workers are not forked any more


class NurseryBirths:
    """Each worker is a fork of the nursery, which is itself started again when it was lost."""

    def __init__(self, home: Home, warn: Callable[[str], None]):
        self._home = home
        self._warn = warn
        self._line: socket.socket | None = None
        self._nursery: asyncio.subprocess.Process | None = None
        self._ready: asyncio.Future[bool] | None = None
        self._failed = 0  # nurseries in a row that were never ready
        self._born: asyncio.Future[int] | None = None
        self._processes: dict[int, Process] = {}
        self._early: dict[int, int] = {}
        self._one_at_a_time = asyncio.Lock()
        self._instead = FreshInterpreters()
        self._reading: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Start the nursery; it gets ready while the caller goes on."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        output = open_log(self._home.supervisor_log)
        self._nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "churnstream.local.nursery", "--line", str(theirs.fileno())),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **CALM},
            pass_fds=(theirs.fileno(),),
        )
        theirs.close()
        os.close(output)
        self._line = ours
        self._ready = asyncio.get_running_loop().create_future()
        self._reading = asyncio.create_task(self._read(ours, self._ready), name="nursery")

    async def start(self, specification: Path, home: Home, log: Path, listener: socket.socket, number: int) -> Process:
        """A new worker; raises PlatformFailed."""
        async with self._one_at_a_time:
            for _ in range(ATTEMPTS):
                if self._line is None:
                    await self.open()
                if not await self._forks():
                    break
                try:
                    return await self._fork(specification, home, log, listener, number)
                except OSError as cause:
                    self._warn(f"the nursery was lost ({cause}); another is started")
        return await self._instead.start(specification, home, log, listener, number)

    async def close(self) -> None:
        """Let the nursery end, and wait until it has."""
        await self._instead.close()
        if self._line is not None:
            if self._reading is not None:
                self._reading.cancel()
            self._line.close()
            self._line = None
        if self._nursery is not None:
            try:
                await asyncio.wait_for(self._nursery.wait(), EXIT_REPORT_S)
            except TimeoutError:
                self._nursery.kill()
                await self._nursery.wait()

    async def _forks(self) -> bool:
        assert self._ready is not None
        try:
            return await asyncio.wait_for(asyncio.shield(self._ready), NURSERY_START_S)
        except TimeoutError:
            return False

    async def _fork(self, specification: Path, home: Home, log: Path, listener: socket.socket, number: int) -> Process:
        if self._line is None:
            raise ConnectionResetError("it ended")
        lines = Lines()
        request = {"specification": str(specification), "home": str(home.root), "log": str(log), "number": number}
        self._born = asyncio.get_running_loop().create_future()
        try:
            socket.send_fds(self._line, [json.dumps(request).encode()], lines.handles(listener))
            pid = await self._born
        except OSError:
            lines.close()
            raise
        finally:
            lines.hand_over()
        process = await lines.process(pid)
        self._processes[pid] = process
        if pid in self._early:
            process.ended(self._early.pop(pid))
        return process

    async def _read(self, line: socket.socket, ready: asyncio.Future[bool]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                text = await loop.sock_recv(line, 65536)
            except OSError:
                text = b""
            if not text:
                break
            message = json.loads(text)
            if "ready" in message:
                self._failed = 0
                ready.set_result(True)
            elif "unsafe" in message:
                self._warn(f"a library started threads ({message['unsafe']}); workers are not forked but started afresh")
                ready.set_result(False)
            elif "born" in message and self._born is not None:
                self._born.set_result(message["born"])
            elif "died" in message:
                self._bury(message["died"], message["code"])
        self._lost(line, ready)

    def _bury(self, pid: int, code: int) -> None:
        process = self._processes.pop(pid, None)
        if process is None:
            self._early[pid] = code
        else:
            process.ended(code)

    def _lost(self, line: socket.socket, ready: asyncio.Future[bool]) -> None:
        if not ready.done():
            self._warn("the nursery did not start; workers are started afresh, which takes seconds each")
            ready.set_result(False)
            self._failed += 1
            if self._failed < NURSERY_TRIES:
                line.close()
                self._line = None  # it may have been killed, which says nothing of the next
        elif ready.result():
            line.close()
            self._line = None  # the next start opens another
        if self._born is not None and not self._born.done():
            self._born.set_exception(ConnectionResetError("it ended"))
        for process in self._processes.values():
            process.orphan = True
        self._processes.clear()


def can_fork() -> bool:
    """True where forking a process that has loaded native libraries is safe; macOS is not such a place."""
    return sys.platform == "linux"

"""How the supervisor gets workers: forked by the nursery where that is safe, else as fresh interpreters."""

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from churnstream.errors import PlatformFailed
from churnstream.local.channel import Channel
from churnstream.local.home import Home
from churnstream.local.logs import open_log
from churnstream.local.nursery import CALM

EXIT_REPORT_S = 2.0  # how long to wait for an exit code after a worker has hung up
NURSERY_START_S = 120.0
ATTEMPTS = 2  # to fork, before a worker is started afresh
NURSERY_TRIES = 3  # that may end before they are ready, in a row, until workers are not forked any more


class Process:
    """A worker, seen from the supervisor."""

    def __init__(self, pid: int, channel: Channel, pulse: socket.socket):
        self.pid = pid
        self.channel = channel
        self.pulse = pulse
        self.code: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.orphan = False  # nobody is left who would learn its exit code

    def ended(self, code: int) -> None:
        """The worker's exit code, or minus the signal that ended it, is known."""
        if not self.code.done():
            self.code.set_result(code)

    def signal(self, number: int) -> None:
        """Send a signal, unless the worker has ended."""
        if not self.code.done():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def exit_code(self) -> int | None:
        """Its exit code once it has hung up; None when nobody can tell."""
        try:
            return await asyncio.wait_for(asyncio.shield(self.code), 0 if self.orphan else EXIT_REPORT_S)
        except TimeoutError:
            return None


class Lines:
    """The supervisor's ends, and a worker's, of what they talk over."""

    def __init__(self) -> None:
        self._line, self._their_line = socket.socketpair()
        self._pulse, self._their_pulse = socket.socketpair()

    def handles(self, listener: socket.socket) -> tuple[int, ...]:
        """The descriptors of the worker's ``Post``."""
        return listener.fileno(), self._their_line.fileno(), self._their_pulse.fileno()

    def hand_over(self) -> None:
        """The worker has its ends."""
        self._their_line.close()
        self._their_pulse.close()

    def close(self) -> None:
        """There is no worker."""
        self._line.close()
        self._pulse.close()

    async def process(self, pid: int) -> Process:
        """The worker, which is there."""
        return Process(pid, await Channel.open(self._line), self._pulse)


class Births(Protocol):
    """Starts workers."""

    async def start(self, specification: Path, home: Home, log: Path, listener: socket.socket, number: int) -> Process:
        """A new worker for the function in ``specification``, which has the ``number``; raises PlatformFailed."""
        ...

    async def close(self) -> None:
        """Start no more."""
        ...


class FreshInterpreters:
    """Each worker is a new Python, which takes seconds to import what it needs."""

    def __init__(self) -> None:
        self._watching: set[asyncio.Task[None]] = set()

    async def start(self, specification: Path, home: Home, log: Path, listener: socket.socket, number: int) -> Process:
        """A new worker; raises PlatformFailed."""
        lines = Lines()
        handles = lines.handles(listener)
        output = open_log(log)
        names = ("--listen", "--line", "--pulse")
        descriptors = [word for name, handle in zip(names, handles, strict=True) for word in (name, str(handle))]
        command = [
            sys.executable,
            "-m",
            "churnstream.local.worker",
            str(specification),
            "--home",
            str(home.root),
            "--number",
            str(number),
            *descriptors,
        ]
        try:
            child = await asyncio.create_subprocess_exec(
                *command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=handles,
            )
        except OSError as cause:
            lines.close()
            raise PlatformFailed(f"no process could be started for {specification.stem} ({cause})") from cause
        finally:
            lines.hand_over()
            os.close(output)
        process = await lines.process(child.pid)
        watch = asyncio.create_task(self._watch(child, process))
        self._watching.add(watch)
        watch.add_done_callback(self._watching.discard)
        return process

    async def close(self) -> None:
        """Forget the workers, which end by themselves."""
        for watch in self._watching:
            watch.cancel()

    async def _watch(self, child: asyncio.subprocess.Process, process: Process) -> None:
        process.ended(await child.wait())


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

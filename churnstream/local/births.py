"""How the supervisor gets workers: as fresh interpreters here; as forks, where that is safe, in ``forks``."""

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from churnstream.errors import PlatformFailed
from churnstream.local.channel import Channel
from churnstream.local.home import Home
from churnstream.local.logs import open_log

EXIT_REPORT_S = 2.0  # how long to wait for an exit code after a worker has hung up


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

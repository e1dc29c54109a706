"""The supervisor of a home: the process that keeps its functions alive, and outlives whoever deployed them.

``python -m churnstream.local.supervisor --home FOLDER`` runs one in the foreground, with ``--detach`` in the
background.
"""

import argparse
import asyncio
import fcntl
import json
import logging
import os
import signal
import socket
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from churnstream.errors import AlreadyRunning, ChurnstreamError
from churnstream.local.births import Births, FreshInterpreters
from churnstream.local.control import Control
from churnstream.local.control_port import listen
from churnstream.local.deployments import Deployments
from churnstream.local.forks import NurseryBirths, can_fork
from churnstream.local.guard import Guard
from churnstream.local.home import Home, write_private
from churnstream.local.logs import log_to_stderr, redirect_output
from churnstream.local.server import Server

LOCK_WAIT_S = 1.0
HOME_LOOK_S = 1.0
log = logging.getLogger("supervisor")


async def serve(home: Home, lock: int, listener: socket.socket, births: Births) -> None:
    """Supervise ``home`` until it is told to stop, or is gone; control requests come in on ``listener``."""
    deployments = Deployments(home, births)
    stop = asyncio.Event()
    control = Control(deployments, Guard(home), stop)
    server = Server(control.application)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if isinstance(births, NurseryBirths):
        await births.open()
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="control")
    said = {
        "pid": os.getpid(),
        "port": listener.getsockname()[1],
        "started_at": datetime.now(UTC).isoformat(),
    }
    write_private(home.supervisor_file, json.dumps(said))
    log.info("the supervisor is ready")
    background = [
        asyncio.create_task(deployments.resume(), name="resume"),
        asyncio.create_task(_stop_without_home(home, lock, stop), name="home"),
    ]
    await stop.wait()
    for task in background:
        task.cancel()
    if not control.stopped:
        await deployments.stop(timedelta(0))
    server.should_exit = True
    await serving
    home.supervisor_file.unlink(missing_ok=True)
    log.info("the supervisor has stopped")


async def _stop_without_home(home: Home, lock: int, stop: asyncio.Event) -> None:
    """A deleted home leaves nobody who could stop its processes: no token, no address."""
    while home.supervisor_lock.exists() and os.path.samestat(home.supervisor_lock.stat(), os.fstat(lock)):
        await asyncio.sleep(HOME_LOOK_S)
    log.warning("the home is gone")
    stop.set()


def claim(home: Home) -> int:
    """Become the home's supervisor, until this process ends: a locked descriptor; raises AlreadyRunning."""
    handle = os.open(home.supervisor_lock, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return handle
        except BlockingIOError as cause:
            if time.monotonic() > deadline:
                os.close(handle)
                raise AlreadyRunning(f"a supervisor serves {home.root} already; `churnstream status` shows it") from cause
            time.sleep(0.02)  # whoever looks whether a supervisor runs holds the lock for an instant


def main() -> None:
    """The command line of a supervisor."""
    parser = argparse.ArgumentParser(description="Keep the functions of a home alive.")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--detach", action="store_true", help="go on in the background")
    parser.add_argument("--fresh", action="store_true", help="start workers as new interpreters, not from the nursery")
    given = parser.parse_args()
    home = Home(given.home.resolve())
    home.ensure()
    try:
        lock = claim(home)
        listener = listen(os.environ)
    except ChurnstreamError as cause:
        sys.exit(str(cause))
    if given.detach:
        if os.fork():
            os._exit(0)
        os.setsid()
        redirect_output(home.supervisor_log)
    os.chdir(home.root)
    log_to_stderr("INFO")
    home.supervisor_file.unlink(missing_ok=True)
    asyncio.run(_run(home, lock, listener, can_fork() and not given.fresh))


async def _run(home: Home, lock: int, listener: socket.socket, forks: bool) -> None:
    births: Births = NurseryBirths(home, log.warning) if forks else FreshInterpreters()
    await serve(home, lock, listener, births)


if __name__ == "__main__":
    main()

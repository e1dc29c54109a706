"""A function's process. The supervisor starts it; ``python -m churnstream.local.worker`` runs one by hand."""

import argparse
import asyncio
import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvloop

from churnstream import wiring
from churnstream.failpoints import reach
from churnstream.local.channel import Channel
from churnstream.local.contract import reload_settings
from churnstream.local.function import RunningFunction
from churnstream.local.gateway import Gateway
from churnstream.local.guard import Guard
from churnstream.local.home import Home
from churnstream.local.leases import JournalLeases, Leases
from churnstream.local.limits import Limits
from churnstream.local.logs import authors_traceback, gather_loggers, log_to_stderr
from churnstream.local.metrics import Meter
from churnstream.local.openapi import document
from churnstream.local.orders import Orders
from churnstream.local.post import Post
from churnstream.local.pulse import beat
from churnstream.local.refusals import Refusals, WiredRefusals
from churnstream.local.retention import Retention, keep_sweeping
from churnstream.local.routes import Behind
from churnstream.local.rundb import activate, configure_mlrun
from churnstream.local.scopes import scope_of
from churnstream.local.server import BACKLOG, Server
from churnstream.local.specification import Specification
from churnstream.local.standings import Page
from churnstream.streams.base import Positions, StreamReader

LOGGER = "function"


class WiredStreams:
    """Streams and positions as the environment says."""

    def __init__(self) -> None:
        self._settings = wiring.settings_from_env()

    def open_stream(self, name: str) -> StreamReader:
        """A reader of the stream."""
        return wiring.open_stream(name, self._settings)

    def open_positions(self, function: str) -> Positions:
        """How far the function has read."""
        return wiring.open_positions(function, self._settings)

    def open_leases(self, function: str) -> Leases:
        """Who may move its positions."""
        return JournalLeases(function, self._settings)

    def open_refusals(self, function: str) -> Refusals:
        """Its dead letters."""
        return WiredRefusals(function, self._settings)


def run(specification: Specification, home: Home, post: Post) -> int:
    """Serve the function until a signal, or the supervisor's end of the line, says stop.

    Returns the process's exit code: 0 after an orderly stop, 1 when the function did not start or broke.
    """
    faulthandler.enable()
    enter(specification, home, post.number)
    return uvloop.run(_serve(specification, home, post))


def enter(specification: Specification, home: Home, number: int = 0) -> None:
    """Make this process the function's: its environment, folder, log and run database."""
    os.environ.update(
        {
            "MLRUN_DEFAULT_PROJECT": specification.project,
            **specification.environment,
            "CHURNSTREAM_HOME": str(home.root),
            "CHURNSTREAM_PROJECT": specification.project,
            "CHURNSTREAM_FUNCTION": specification.name,
        }
    )
    if Path(specification.folder).is_dir():
        os.chdir(specification.folder)
    level = os.environ.get("MLRUN_LOG_LEVEL", "INFO")
    log_to_stderr(level, specification.name, number)
    reload_settings()
    activate(home.run_db)
    configure_mlrun(home.artifact_root, level)
    gather_loggers()


async def _serve(specification: Specification, home: Home, post: Post) -> int:
    log = logging.getLogger(LOGGER)
    channel = await Channel.open(post.line) if post.line else None
    me = specification.name if post.number == 0 else f"{specification.name}, worker {post.number}"
    meter = Meter(home, specification.project, specification.name, post.number, log)
    try:
        function = RunningFunction(specification.function, WiredStreams(), log, post.number, meter)
        await function.start(alone=channel is None)
        gc.collect()
        gc.freeze()  # what was loaded stays: looking through it again would now and then cost a request milliseconds
    except Exception as cause:
        log.error("%s did not start", me, exc_info=cause)
        if channel:
            await channel.say(failed=f"{type(cause).__name__}: {cause}", traceback=authors_traceback(cause))
        return 1
    orders = Orders(channel, function, log) if channel else None
    limits = Limits.read(function.triggers.body_limit, os.environ)
    behind = Behind(
        function.call,
        orders.drain if orders else function.drain,
        function.report,
        function.why_not_ready,
        Page(specification, home, meter).text,
        lambda: document(specification, limits),
        meter.request,
        function.call_at_once,
    )
    scope = scope_of(specification.function["metadata"]["name"])
    server = Server(Gateway(Guard(home), scope, behind, log, function.triggers.http, limits))
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    serving = asyncio.create_task(server.serve(sockets=[post.listener]), name="http")
    obeying = asyncio.create_task(_obey(orders, stop), name="supervisor") if orders else None
    if post.pulse:
        beat(post.pulse)
    held = function.shards.held if function.shards else {}
    retention = Retention(specification.name, wiring.settings_from_env()) if function.shards else None
    sweeping = asyncio.create_task(keep_sweeping(retention, lambda: held), name="retention") if retention else None
    reach("deploy.before-ready")
    if orders:
        await orders.greet(os.getpid())
    log.info("%s is ready", me)
    broken = await _until_stopped(function, stop, log)
    if broken and channel:
        await channel.say(failed=f"{type(broken).__name__}: {broken}", traceback=authors_traceback(broken))
    server.should_exit = True
    await serving  # which answers what was accepted: the listener is shared, and others go on with what was not
    if sweeping:
        sweeping.cancel()
    await function.stop()
    meter.save()
    if orders and obeying:
        obeying.cancel()
        orders.close()
    if channel:
        channel.close()
    log.info("%s has stopped", me)
    return 1 if broken else 0


async def _obey(orders: Orders, stop: asyncio.Event) -> None:
    try:
        await orders.obey()
    finally:
        stop.set()  # nobody is there any more to restart or stop this process


async def _until_stopped(function: RunningFunction, stop: asyncio.Event, log: logging.Logger) -> BaseException | None:
    """What broke the function; None when it was told to stop."""
    failing = asyncio.create_task(function.failed(), name="failed")
    stopping = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait([failing, stopping], return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if failing.done() and failing.exception() is not None:
        log.error("a trigger broke; the function stops and is started again", exc_info=failing.exception())
        return failing.exception()
    failing.cancel()
    return None


def main() -> None:
    """The command line of a worker."""
    parser = argparse.ArgumentParser(description="Serve one deployed function.")
    parser.add_argument("specification", type=Path, help="the function's file in its home")
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--listen", type=int, help="descriptor of a listening socket; without it a free port is taken")
    parser.add_argument("--line", type=int, help="descriptor of the line to the supervisor")
    parser.add_argument("--pulse", type=int, help="descriptor for signs of life")
    parser.add_argument("--number", type=int, default=0, help="which of the function's workers this is")
    given = parser.parse_args()
    specification = Specification.load(given.specification)
    if given.listen is None:
        listener = socket.create_server(("127.0.0.1", specification.port), backlog=BACKLOG)
        sys.stderr.write(f"{specification.name} answers on 127.0.0.1:{listener.getsockname()[1]}\n")
    else:
        listener = socket.socket(fileno=given.listen)
    line, pulse = (None if each is None else socket.socket(fileno=each) for each in (given.line, given.pulse))
    code = run(specification, Home(given.home), Post(listener, line, pulse, given.number))
    leave(code)


def leave(code: int) -> None:
    """End the process now: threads that libraries have left behind must not keep a stopped function alive."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()

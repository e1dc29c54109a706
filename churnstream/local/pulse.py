"""Signs of life: a thread of each worker sends one every so often, whatever its event loop is busy with.

A handler may work for minutes without the worker being dead; a process that was stopped, or hangs in the kernel, sends nothing.
"""

import asyncio
import socket
import threading
import time
from collections.abc import Callable

PULSE_S = 0.5
MANY = 4096  # bytes, one a sign


def beat(line: socket.socket) -> None:
    """Send signs of life over ``line`` until nobody listens any more; returns at once."""
    line.setblocking(False)
    threading.Thread(target=_beat, args=(line,), name="pulse", daemon=True).start()


def _beat(line: socket.socket) -> None:
    while True:
        try:
            line.send(b".")
        except BlockingIOError:
            pass  # nobody has listened for long, and what is on its way says enough
        except OSError:
            return
        time.sleep(PULSE_S)


async def listen(line: socket.socket, patience: float, silent: Callable[[], None], heard: Callable[[], None]) -> None:
    """Call ``silent`` when nothing came for ``patience`` seconds, and ``heard`` when something comes again; until the end."""
    line.setblocking(False)
    loop = asyncio.get_running_loop()
    is_silent = False
    while True:
        came: bytes | None
        try:
            came = await asyncio.wait_for(loop.sock_recv(line, MANY), None if is_silent else patience)
        except TimeoutError:
            came = _lying_there(line)  # it may have been this side that slept
        except OSError:
            return
        if came == b"":
            return
        if (came is None) != is_silent:
            is_silent = not is_silent
            (silent if is_silent else heard)()


def _lying_there(line: socket.socket) -> bytes | None:
    try:
        return line.recv(MANY)
    except BlockingIOError:
        return None
    except OSError:
        return b""

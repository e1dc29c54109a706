"""What tests of running things share: waiting for something to become true, and a platform that is gone afterwards."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from churnstream.local import Home, SupervisorClient

DEADLINE_S = 60.0
LOOK_S = 0.01


def wait_until(holds: Callable[[], Any], what: str = "this", seconds: float = DEADLINE_S) -> Any:
    """The first answer that is true; raises TimeoutError when none comes within ``seconds``."""
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come within {seconds:g} s")
        time.sleep(LOOK_S)
    return answer


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Meanwhile a process does nothing, and holds what it holds."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@contextmanager
def platform(folder: Path, up: bool = True) -> Iterator[SupervisorClient]:
    """A local platform over ``folder``, of which no process is left when the block ends."""
    client = SupervisorClient(Home(folder))
    try:
        if up:
            client.up()
        yield client
    finally:
        client.down(timedelta(0))

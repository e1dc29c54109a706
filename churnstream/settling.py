"""Waiting until a function has caught up, wherever it runs."""

import time
from datetime import timedelta

from churnstream.errors import NotDrained
from churnstream.local import Home, drain
from churnstream.local.rundb_address import cluster_address
from churnstream.reading import totals

LOOK_S = 0.5


def settle(function: str, deadline: timedelta = timedelta(minutes=10)) -> None:
    """Return when ``function`` has applied, durably, all that stands in its streams; raises NotDrained at the deadline.

    On one machine the function is told to write what it holds back; on a cluster this waits until it does by itself.
    """
    if cluster_address() is None:
        drain(Home.find(), function, deadline)
        return
    end = time.monotonic() + deadline.total_seconds()
    while waiting := sum(line.waiting for line in totals() if line.function == function):
        if time.monotonic() > end:
            raise NotDrained(f"{function} still had {waiting:,} rows to apply after {deadline}")
        time.sleep(LOOK_S)

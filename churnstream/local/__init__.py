"""MLRun on one machine: a run database, and functions as processes under a supervisor, without a cluster."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

from churnstream.local.client import SupervisorClient, requests_environment
from churnstream.local.home import Home
from churnstream.local.rundb_address import cluster_address

__all__ = ["Home", "SupervisorClient", "connect", "drain"]


def connect(home: Home | Path | str | None = None) -> Home | None:
    """Make MLRun in this process work on ``home``; ``Home.find()`` when none is given.

    Does nothing and returns None where MLRUN_DBPATH names a cluster.
    Raises PlatformFailed when the supervisor does not start.
    """
    if cluster_address() is not None:
        return None
    if home is None:
        home = Home.find()
    elif not isinstance(home, Home):
        home = Home(Path(home).expanduser().resolve())
    client = SupervisorClient(home)
    client.up()
    os.environ["CHURNSTREAM_HOME"] = str(home.root)
    os.environ.update(requests_environment(home, os.environ))

    from churnstream.local.rundb import activate, configure_mlrun  # imports mlrun, which takes seconds

    activate(home.run_db, client)
    configure_mlrun(home.artifact_root)
    return home


def drain(home: Home, function: str, deadline: timedelta) -> dict[str, Any]:
    """Wait until ``function`` has read and flushed all that is there; returns its positions by shard.

    Raises NotDrained at the deadline and UnknownFunction when it is not deployed.
    """
    return SupervisorClient(home).drain(function, deadline)

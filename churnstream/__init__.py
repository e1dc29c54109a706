"""Churnstream scores every customer's risk of leaving while their events still arrive."""

from typing import Any

__version__ = "0.1.0"


def connect(home: Any = None) -> Any:
    """Make MLRun run on this machine; does nothing when ``MLRUN_DBPATH`` names a cluster.

    Starts the local platform's supervisor if it is not running and plugs the local run database into MLRun. ``home`` is the
    folder that keeps everything, by default ``CHURNSTREAM_HOME`` or ``.churnstream`` in the project. Returns the home, or None on
    a cluster.
    """
    from churnstream.local import connect as connect_locally  # costs an import of mlrun, which most of the package does without

    return connect_locally(home)


def settle(function: str, minutes: float = 10) -> None:
    """Return when ``function`` has applied all that stands in its streams; raises NotDrained when that takes too long."""
    from datetime import timedelta

    from churnstream.settling import settle as settle_anywhere

    settle_anywhere(function, timedelta(minutes=minutes))

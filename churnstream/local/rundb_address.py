"""The name under which MLRun knows the local run database; to be asked before mlrun is imported."""

import os

ADDRESS = "churnstream://run.db"  # it names no path: MLRun writes it into function specs
DBPATH = "MLRUN_DBPATH"


def cluster_address() -> str | None:
    """The API of the cluster that `MLRUN_DBPATH` names, or None on one machine.

    Call it instead of reading the variable, since the local run database's own address may stand there.
    """
    forget_own_address()
    return os.environ.get(DBPATH, "").strip() or None


def forget_own_address() -> None:
    """Take the local run database's address out of the environment, where MLRun leaves it after a local run.

    A child that inherits it could not even `import mlrun`, which calls what stands there.
    """
    if os.environ.get(DBPATH, "").startswith(ADDRESS):
        del os.environ[DBPATH]

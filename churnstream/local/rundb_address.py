"""The name under which MLRun knows the local run database; it imports nothing, so that it can be asked before mlrun."""

import os

ADDRESS = "churnstream://run.db"  # MLRun asks for a scheme; it names no path, so function specs hold no machine's folders
DBPATH = "MLRUN_DBPATH"


def cluster_address() -> str | None:
    """The API of the cluster that `MLRUN_DBPATH` names, or None on one machine.

    A local run of MLRun writes its database's address into the environment of its process, from where children
    inherit it. That address is ours and no cluster: it is dropped here, because `import mlrun` would try to call it.
    """
    address = os.environ.get(DBPATH, "").strip()
    if address.startswith(ADDRESS):
        del os.environ[DBPATH]
        return None
    return address or None

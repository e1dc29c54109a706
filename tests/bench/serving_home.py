"""A home in which the serving function is deployed, over customers whose features are known."""

import base64
import contextlib
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import churnstream
import project_setup
from churnstream.local import Home, SupervisorClient
from churnstream.topology import FEATURES
from churnstream.wiring import open_table
from tests.functions.river import River

CASE, PROJECT, NAME = "first_day", "churnstream", "serving"
INFER = "/v2/models/churn/infer"


@dataclass(frozen=True)
class Served:
    """``address`` is host:port, ``token`` opens it, ``customers`` are known there; at ``bare`` a handler does nothing."""

    home: Home
    address: str
    token: str
    customers: tuple[str, ...]
    bare: str


@contextlib.contextmanager
def served(folder: Path, customers: int, **environment: str) -> Iterator[Served]:
    """Serving with the model that comes with the case; gone when the block ends."""
    import mlrun  # takes seconds, which --help should not

    river = River(folder / "home", CASE)
    home = Home(river.home)
    try:
        with contextlib.ExitStack() as quiet, river.environment() as patch:
            quiet.enter_context(contextlib.redirect_stdout(sys.stderr))  # stdout is for figures
            river.job("enrichment-table", "build")
            river.generate(customers=customers, events=12 * customers)
            river.flow("incoming-event-handler", "enrich-stream", "stream-to-features")
            table = open_table(FEATURES, river.settings)
            known = tuple(key for key, _ in table.items())
            table.close()
            churnstream.connect(home.root)
            project = mlrun.load_project(str(project_setup.HERE), name=PROJECT, parameters={"case": CASE}, save=False)
            project.save_to_db()
            function = project.get_function(NAME)
            for name, value in environment.items():
                function.set_env(name, value)
            function.deploy()
            patch.setenv("CHURNSTREAM_CASE", CASE)
            address = str(SupervisorClient(home).find(NAME)["address"])
            bare = _bare(SupervisorClient(home))
            quiet.close()
            yield Served(home, address, home.token(), known, bare)
    finally:
        SupervisorClient(home).down(timedelta(0))
        for name in ("MLRUN_DBPATH", "NETRC"):  # which connecting has set
            os.environ.pop(name, None)


def _bare(client: SupervisorClient) -> str:
    """The address of a function that does nothing."""
    code = base64.b64encode(b'def handler(context, event):\n    return "hello"\n').decode()
    function = {
        "kind": "remote",
        "metadata": {"name": "bare", "project": PROJECT, "tag": "latest"},
        "spec": {"build": {"functionSourceCode": code}, "config": {}, "env": []},
    }
    return str(client.deploy(PROJECT, "bare", function)["address"])

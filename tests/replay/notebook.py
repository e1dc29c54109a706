"""What a notebook does with the first day's river, each in a process of its own: MLRun keeps one run database a process."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DEPLOY = """
import json, sys, churnstream, mlrun
asked = json.loads(sys.argv[2])
churnstream.connect()
project = mlrun.load_project(sys.argv[1], name="churnstream", parameters={"case": "first_day"}, save=False)
project.save_to_db()
if asked["lookup"]:
    project.run_function("enrichment-table", local=True, params={"case": "first_day"})
for name in asked["functions"]:
    function = project.get_function(name)
    function.spec.min_replicas = asked["workers"]
    for key, value in asked["env"].items():
        function.set_env(key, value)
    for key, trigger in function.spec.config.items():
        if asked["session_timeout"] and key.startswith("spec.triggers.") and trigger["kind"] == "embedded-stream":
            trigger["attributes"]["sessionTimeout"] = asked["session_timeout"]
    function.deploy()
"""
GENERATE = """
import json, sys, churnstream, mlrun
churnstream.connect()
project = mlrun.get_or_create_project("churnstream", context=sys.argv[1], save=False)
project.run_function("event-generator", local=True, params={"case": "first_day", "progress": False} | json.loads(sys.argv[2]))
"""


def deploy(
    home: Path,
    functions: Sequence[str],
    workers: int = 1,
    lookup: bool = True,
    session_timeout: str = "",
    env: Mapping[str, str] | None = None,
) -> None:
    """Deploy functions with so many workers each; with ``lookup`` fill the enrichment table before."""
    asked = {"functions": functions, "workers": workers, "lookup": lookup, "session_timeout": session_timeout, "env": env or {}}
    with _running(home, DEPLOY, asked) as done:
        code = done.wait()
    assert code == 0, "the functions were not deployed"


def generate(home: Path, customers: int, events: int, rate: float = 0) -> "subprocess.Popen[bytes]":
    """A process that makes events, so many a second, or all at once; it has ended well when its code is 0."""
    return _running(home, GENERATE, {"customers": customers, "events": events, "rate": float(rate)})


def _running(home: Path, script: str, asked: Mapping[str, object]) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-c", script, str(ROOT), json.dumps(asked)]
    environment = os.environ | {"CHURNSTREAM_HOME": str(home)}
    return subprocess.Popen(command, env=environment, cwd=home.parent, stdout=subprocess.DEVNULL)

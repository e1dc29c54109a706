"""A project with jobs, a graph and a door, over a run database and a deployer of the test's own."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlrun
import pytest

from churnstream.errors import UnknownFunction
from churnstream.local.rundb import LocalRunDB, activate, configure_mlrun

JOB = """
import pandas as pd


def run(context, users: int = 3):
    context.log_result("events", users * 2)
    context.log_dataset("sample", df=pd.DataFrame({"user": range(users)}), index=False)
    context.log_model("model", body=f"tree {users}".encode(), model_file="model.txt", metrics={"auc": 0.9})
    print("made", users)


def boom(context):
    raise ValueError("no such case")


def score(context, p: int = 1):
    context.log_result("score", p * 10)
    context.log_artifact("drawing", body=str(p).encode(), format="txt")
"""


STEPS = """
def twice(event):
    return {"x": event["x"] * 2}
"""


DOOR = """
def handler(context, event):
    return "ok"
"""


WORKFLOW = """
import mlrun


def pipeline(users=1):
    made = mlrun.get_current_project().run_function("job", params={"users": users}, outputs=["sample"])
    mlrun.get_current_project().run_function("job", handler="score", inputs={}, params={"p": 7})
"""


SETUP = """
def setup(project):
    project.set_function("job.py", name="job", kind="job", handler="run")
    graph = project.set_function("steps.py", name="graph", kind="serving")
    graph = graph.set_topology("flow", engine="async")
    graph.to(name="twice", handler="twice").respond()
    project.set_function("door.py", name="door", kind="nuclio", handler="handler")
    project.set_workflow("main", "workflow.py", engine="local")
    return project
"""


PROJECT = """kind: project
metadata:
  name: river
spec:
  description: ours
"""


class Deployed:
    """A deployer of one HTTP server that echoes; what it is told to say of a function, it says."""

    def __init__(self) -> None:
        self.functions: dict[tuple[str, str], dict[str, Any]] = {}
        self.says: dict[str, Any] = {"state": "ready"}
        self.address = ""

    def deploy(self, project: str, name: str, function: dict[str, Any]) -> dict[str, Any]:
        self.functions[project, name] = json.loads(json.dumps(function))
        return {"state": "building", "address": ""}

    def state(self, project: str, name: str) -> dict[str, Any]:
        if (project, name) not in self.functions:
            raise UnknownFunction(f"{project}/{name} is not deployed")
        return {"address": self.address} | self.says

    def delete(self, project: str, name: str) -> None:
        if self.functions.pop((project, name), None) is None:
            raise UnknownFunction(f"{project}/{name} is not deployed")

    def logs(self, project: str, name: str, offset: int) -> tuple[bytes, int]:
        return b"it listens\n"[offset:], 11


class Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def deployed() -> Iterator[Deployed]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    deployer = Deployed()
    deployer.address = f"127.0.0.1:{server.server_port}"
    yield deployer
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def db(tmp_path: Path, deployed: Deployed) -> Iterator[LocalRunDB]:
    before = SimpleNamespace(
        dbpath=mlrun.mlconf.dbpath,
        artifact_path=mlrun.mlconf.artifact_path,
        active_project=mlrun.mlconf.active_project,
        log_level=mlrun.mlconf.log_level,
    )
    activate(tmp_path / "run.db", deployed)
    configure_mlrun(tmp_path / "artifacts")
    yield mlrun.get_run_db()
    for name, value in vars(before).items():
        setattr(mlrun.mlconf, name, value)
    mlrun.utils.logger.set_logger_level(before.log_level)


@pytest.fixture
def context(tmp_path: Path) -> Path:
    folder = tmp_path / "context"
    folder.mkdir()
    files = {
        "job.py": JOB,
        "steps.py": STEPS,
        "door.py": DOOR,
        "workflow.py": WORKFLOW,
        "project_setup.py": SETUP,
        "project.yaml": PROJECT,
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def project(db: LocalRunDB, context: Path) -> Any:
    project = mlrun.load_project(str(context), parameters={"case": "first_day"}, save=False)
    project.save_to_db()
    return project

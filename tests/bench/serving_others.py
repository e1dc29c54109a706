"""The peers of `make bench-serving`: who they are, how they are started, and in which words each is asked for a probability."""

import contextlib
import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.common import ROOT, RunFailed

ENVIRONMENTS = ROOT / "build" / "peers"  # one a peer, made by scripts/set-up-serving-peers
MODEL = ROOT / "assets" / "model" / "first_day" / "model.txt"
HERE = Path(__file__).parent / "serving_peers"
START_S = 90.0
LOOK_S = 0.1
UVICORN = ("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning")
Row = Sequence[float]


def tensor(row: Row) -> Any:
    """The protocol's form."""
    return {"inputs": [{"name": "features", "shape": [1, len(row)], "datatype": "FP64", "data": list(row)}]}


def plain(row: Row) -> Any:
    """MLRun's and MLflow's form."""
    return {"inputs": [list(row)]}


@dataclass(frozen=True)
class Peer:
    """One peer. ``command(python, port)`` starts it in a folder of its own; ``ours`` runs in the project's own environment."""

    name: str
    command: Callable[[Path, int], list[str]]
    path: str
    body: Callable[[Row], Any]
    ours: bool = False

    @property
    def python(self) -> Path:
        """Of its environment."""
        return Path(sys.executable) if self.ours else ENVIRONMENTS / self.name / "bin" / "python"

    def missing(self) -> str:
        """Why it cannot be asked; nothing when it can."""
        if self.python.exists():
            return ""
        why = ENVIRONMENTS / f"{self.name}.why"
        return why.read_text().strip() if why.exists() else f"scripts/set-up-serving-peers {self.name} was not run"


def _uvicorn(application: str) -> Callable[[Path, int], list[str]]:
    return lambda python, port: [str(python), "-m", "uvicorn", application, "--app-dir", str(HERE), "--port", str(port), *UVICORN]


PEERS = (
    Peer("asgi", _uvicorn("bare_asgi:application"), "/", tensor, ours=True),
    Peer("graphserver", _uvicorn("mlrun_graphserver:application"), "/v2/models/churn/infer", plain, ours=True),
    Peer("fastapi", _uvicorn("fastapi_idiom:application"), "/v2/models/churn/infer", tensor),
    Peer("mlserver", lambda python, port: [str(python.with_name("mlserver")), "start", "."], "/v2/models/churn/infer", tensor),
    Peer(
        "mlflow",
        lambda python, port: [
            *(str(python), "-m", "mlflow", "models", "serve", "--model-uri", "model", "--host", "127.0.0.1"),
            *("--port", str(port), "--env-manager", "local", "--workers", "1"),
        ],
        "/invocations",
        plain,
    ),
    Peer(
        "bentoml",
        lambda python, port: [
            *(str(python), "-m", "bentoml", "serve", "bento_service:Churn", "--working-dir", str(HERE)),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        "/predict",
        lambda row: {"rows": [list(row)]},
    ),
)


@contextlib.contextmanager
def running(peer: Peer, folder: Path, row: Row) -> Iterator[str]:
    """The URL of a peer that answers; gone when the block ends. Raises RunFailed with the end of its log."""
    place = folder / peer.name
    place.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "BENCH_MODEL": str(MODEL), "BENTOML_DO_NOT_TRACK": "True"}
    environment |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PATH": f"{peer.python.parent}:{os.environ['PATH']}",
        "MLRUN_LOG_LEVEL": "ERROR",
    }
    _prepare(peer, place, port, environment)
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            peer.command(peer.python, port), cwd=place, env=environment, stdout=log, stderr=log, start_new_session=True
        )
    try:
        _wait(peer, process, port, json.dumps(peer.body(row)), place / "log")
        yield f"http://127.0.0.1:{port}{peer.path}"
    finally:
        _stop(process)


def _prepare(peer: Peer, place: Path, port: int, environment: dict[str, str]) -> None:
    if peer.name == "mlserver":
        settings = {"http_port": port, "grpc_port": 0, "metrics_endpoint": None, "parallel_workers": 0, "host": "127.0.0.1"}
        (place / "settings.json").write_text(json.dumps(settings))
        told = {"name": "churn", "implementation": "mlserver_lightgbm.LightGBMModel", "parameters": {"uri": str(MODEL)}}
        (place / "model-settings.json").write_text(json.dumps(told))
    if peer.name == "mlflow":
        words = [str(peer.python), str(HERE / "mlflow_save.py"), str(place / "model")]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        if done.returncode:
            raise RunFailed(f"its model was not saved: {done.stderr.strip().splitlines()[-1:]}")


def _wait(peer: Peer, process: "subprocess.Popen[bytes]", port: int, body: str, log: Path) -> None:
    deadline, answer = time.monotonic() + START_S, "nobody listens"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RunFailed(f"it ended: {_last(log)}")
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        try:
            connection.request("POST", peer.path, body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            answer = f"{response.status} {response.read()[:200]!r}"
            if response.status == 200:
                return
        except OSError as cause:
            answer = str(cause)
        finally:
            connection.close()
        time.sleep(LOOK_S)
    raise RunFailed(f"it did not answer within {START_S:g} s ({answer}): {_last(log)}")


def _last(log: Path) -> str:
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-2:])[-400:]


def _stop(process: "subprocess.Popen[bytes]") -> None:
    for signal in (process.terminate, process.kill):
        signal()
        try:
            process.wait(10)
            return
        except subprocess.TimeoutExpired:
            continue

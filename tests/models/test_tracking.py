"""MLflow is told what MLRun is told, and its champion is ours; a server of its own, asked over plain HTTP, is the witness.

The server is the full `mlflow` in an environment of its own: `scripts/set-up-serving-peers mlflow` makes it.
"""

import base64
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import msgspec
import pytest
import requests

from churnstream.errors import InvalidSetting, MissingExtra, TrackingFailed
from churnstream.models import tracking
from churnstream.models.artifact import FILES, load_artifact
from churnstream.models.dossier import read_dossier
from churnstream.models.mlflow_server import tracking_address
from churnstream.models.registry import Registry
from churnstream.usecases import load
from churnstream.wiring import model_keys
from tests.functions.river import Job, River
from tests.models.commanding import own_home, run
from tests.waiting import wait_until

SERVER = Path(__file__).parents[2] / "build" / "peers" / "mlflow" / "bin" / "mlflow"
MODEL, SECRET = "churn-first-day", "s3cret-of-ann"


@pytest.fixture(scope="module", autouse=True)
def quick() -> Iterator[None]:
    """A server that is away is asked once; nothing of the developer's MLflow is used."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith("MLFLOW_"):
                patch.delenv(name)
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield


@pytest.fixture(scope="module")
def river(tmp_path_factory: pytest.TempPathFactory) -> River:
    """An archive to train on; every training in it keeps what it found."""
    river = River(tmp_path_factory.mktemp("home"), "first_day")
    river.archive(customers=400, events=6_000)
    return river


def fit(river: River, **params: Any) -> Job:
    return river.job("training", "fit", progress=False, **params)


def newest(river: River) -> str:
    return registry(river).versions()[0].version


def registry(river: River) -> Registry:
    assert river.settings.models is not None
    return Registry(river.settings.models)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def everything_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


@pytest.fixture
def home(river: River, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the river's registry, in which a test may promote."""
    return own_home(river.home, tmp_path / "home", monkeypatch)


def force(version: str) -> str:
    return run("promote", version, "--force", "--reason", "to see it in MLflow")


# Without a server


def test_without_the_client_the_extra_is_named_before_anything_is_trained(river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    said = r"telling MLflow needs the extra 'mlflow', which is not installed: pip install 'churnstream\[mlflow\]'"
    with pytest.raises(MissingExtra, match=said):
        fit(river, mlflow="http://127.0.0.1:5000")


@pytest.mark.parametrize(
    "given", ["5000", "sqlite:///mlflow.db", "file:///tmp/mlruns", "databricks", "http://", "http://127.0.0.1:port"]
)
def test_what_is_no_address_of_a_server_is_a_sentence(given: str) -> None:
    with pytest.raises(InvalidSetting, match=r"mlflow is no address of an MLflow server; one reads http://127.0.0.1:5000"):
        tracking_address(given)


def test_the_environment_is_used_only_when_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    with pytest.raises(InvalidSetting, match=r"MLFLOW_TRACKING_URI \(mlflow='env'\) is no address"):
        tracking_address("env")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://ann:pw@[::1]:5000/below/")
    assert tracking_address("") == ""
    assert tracking_address("env") == "https://[::1]:5000/below"


def test_a_password_in_the_parameter_is_refused_and_not_repeated() -> None:
    with pytest.raises(InvalidSetting, match=r"change that password, .* set MLFLOW_TRACKING_USERNAME") as refused:
        tracking_address(f"http://ann:{SECRET}@127.0.0.1:5000")
    assert SECRET not in str(refused.value)


class Doorkeeper(BaseHTTPRequestHandler):
    """Lets nobody in, and remembers who asked."""

    asked: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Authorization", "")))
        self.send_response(401)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is printed."""


@pytest.fixture
def doorkeeper() -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Where it listens, and who asked it: path and Authorization."""
    asked: list[tuple[str, str]] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Doorkeeper,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_port}", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_password_reaches_the_server_and_no_other_place(
    river: River,
    doorkeeper: tuple[str, list[tuple[str, str]]],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    place, asked = doorkeeper
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://ann:{SECRET}@{place}")
    job = fit(river, seed=11, mlflow="env")
    assert asked
    assert {who for _, who in asked} == {"Basic " + base64.b64encode(f"ann:{SECRET}".encode()).decode()}
    assert any(f"MLflow at http://{place} refuses: " in line for line in job.said)
    shown = capfd.readouterr()
    for told in (*job.said, str(job.outputs), shown.out, shown.err, *(path for path, _ in asked)):
        assert SECRET not in told
    assert SECRET.encode() not in everything_in(river.home)
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


def test_a_server_that_is_away_costs_neither_the_model_nor_the_promotion(
    river: River, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    address = f"http://127.0.0.1:{free_port()}"
    job = fit(river, seed=12, mlflow=address)
    version = newest(river)
    again = "`churnstream models publish` tells it again, with --to ADDRESS where it has moved."
    assert job.said[-1] == f"mind: MLflow at {address} does not answer. {again}"
    assert (job.outputs["mlflow_run"], job.outputs["mlflow_version"]) == ("not sent", "not sent")
    assert MODEL in job.logged
    own_home(river.home, tmp_path, monkeypatch)
    promoted = force(version)
    assert f"{version} is the champion." in promoted
    assert f"Here {version} is the champion, and MLflow may not know: MLflow at {address} does not answer. {again}" in promoted
    assert f"MLflow at {address} does not answer" in run("publish", code=1)
    assert f"{version} champion" in run("list")


def test_a_registry_that_never_heard_of_mlflow_does_not_need_its_client(
    river: River, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    river_home = River(tmp_path, "first_day")
    shutil.copytree(river.home / "data", tmp_path / "data")
    fit(river_home, seed=1)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path))
    version = newest(river_home)
    assert run("promote", version).endswith(f"{version} is the champion.")
    assert run("publish") == "No model here was trained with `mlflow`, so MLflow is told nothing."


# With a server


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """The address of a server on SQLite in ``folder``; no process of it is left when the block ends."""
    port = free_port()
    words = [str(SERVER), "server", "--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}", "--workers", "1"]
    words += ["--artifacts-destination", str(folder / "artifacts"), "--host", "127.0.0.1", "--port", str(port)]
    told = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(
            words, cwd=folder, env=os.environ | told, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, (folder / "server.log").read_text()
        try:
            return requests.get(f"{address}/health", timeout=5).ok
        except requests.RequestException:
            return False

    try:
        wait_until(answers, "MLflow's server", seconds=150)
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A server's address, and the folder in which it keeps everything."""
    pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    if not os.access(SERVER, os.X_OK):
        pytest.skip(f"no MLflow server is in {SERVER.parents[1]}; `scripts/set-up-serving-peers mlflow` installs one")
    folder = tmp_path_factory.mktemp("mlflow")
    with mlflow_server(folder) as address:
        yield address, folder


def ask(address: str, what: str, **params: Any) -> Any:
    answer = requests.get(f"{address}/api/2.0/mlflow/{what}", params=params, timeout=30)
    answer.raise_for_status()
    return answer.json()


def runs(address: str, model: str = MODEL) -> list[Any]:
    experiment = ask(address, "experiments/get-by-name", experiment_name=model)["experiment"]["experiment_id"]
    found = requests.post(f"{address}/api/2.0/mlflow/runs/search", json={"experiment_ids": [experiment]}, timeout=30)
    found.raise_for_status()
    return list(found.json().get("runs", []))


def files(address: str, run: str, folder: str) -> dict[str, bytes]:
    """What MLflow has in a run's folder: name -> content."""
    listed = ask(address, "artifacts/list", run_id=run, path=folder)
    root = listed["root_uri"].removeprefix("mlflow-artifacts:/")
    found = {}
    for each in listed["files"]:
        answer = requests.get(f"{address}/api/2.0/mlflow-artifacts/artifacts/{root}/{each['path']}", timeout=30)
        answer.raise_for_status()
        found[each["path"].removeprefix(f"{folder}/")] = answer.content
    return found


def champion_of(address: str) -> dict[str, str] | None:
    """The version that carries MLflow's alias, as its tags say; None where none does."""
    answer = requests.get(
        f"{address}/api/2.0/mlflow/registered-models/alias", params={"name": MODEL, "alias": "champion"}, timeout=30
    )
    if not answer.ok:
        assert "alias champion not found" in answer.json()["message"]
        return None
    found = answer.json()["model_version"]
    return {"version": named(found["tags"])["version"], "number": found["version"]}


def named(pairs: list[dict[str, Any]]) -> dict[str, Any]:
    return {each["key"]: each["value"] for each in pairs}


@pytest.fixture(scope="module")
def trained(river: River, server: tuple[str, Path]) -> dict[str, Job]:
    """version -> what MLRun was told, for two models that MLflow was told of."""
    found = {}
    for seed in (1, 2):
        job = fit(river, seed=seed, mlflow=server[0])
        found[newest(river)] = job
    return found


@pytest.mark.slow
def test_mlflow_has_what_mlrun_has_and_the_signed_model(
    river: River, server: tuple[str, Path], trained: dict[str, Job], tmp_path: Path
) -> None:
    address = server[0]
    version, job = next(iter(trained.items()))
    manifest = next(each for each in registry(river).versions() if each.version == version)
    (told,) = (each for each in runs(address) if each["info"]["run_id"] == job.outputs["mlflow_run"])
    number = told["info"]["run_id"]
    assert told["info"]["status"] == "FINISHED"
    assert told["info"]["end_time"] >= told["info"]["start_time"] > 0

    figures = {name: value for name, value in job.outputs.items() if isinstance(value, int | float) and value == value}
    assert {"auc", "brier", "auc_recency", "auc_logistic_regression", "customers", "unmatured"} <= set(figures)
    assert named(told["data"]["metrics"]) == pytest.approx(figures, rel=1e-12)
    params = named(told["data"]["params"])
    assert {name: params[name] for name in ("seed", "hours", "trials", "case")} == {
        "seed": "1", "hours": "24.0", "trials": "0", "case": "first_day",
    }  # fmt: skip
    assert {name: params[name] for name in manifest.parameters} == {k: str(v) for k, v in manifest.parameters.items()}
    (data,) = told["inputs"]["dataset_inputs"]
    assert data["dataset"]["digest"] == manifest.data_digest == job.outputs["data_digest"]
    assert data["tags"] == [{"key": "mlflow.data.context", "value": "training"}]

    assert set(files(address, number, "plots")) == {
        f"{name}.png" for name in ("roc", "precision-recall", "calibration", "lift", "importance")
    }
    sheets = files(address, number, "tables")
    assert set(sheets) == {"baselines.csv", "slices.csv"}
    assert sheets["slices.csv"].count(b"\n") == 1 + len(job.frames["slices"])
    model = files(address, number, "model")
    assert set(model) == set(FILES)  # no MLmodel and no pickle: nothing that would be executed
    for name, content in model.items():
        (tmp_path / name).write_bytes(content)
    with river.environment():
        assert load_artifact(tmp_path, load("first_day").features, model_keys(river.settings)).manifest == manifest

    registered = ask(address, "model-versions/get", name=MODEL, version=job.outputs["mlflow_version"])["model_version"]
    assert registered["run_id"] == number
    assert registered["source"] == f"{told['info']['artifact_uri']}/model"
    wanted = {"version": version, "fingerprint": manifest.fingerprint, "data_digest": manifest.data_digest, "case": "first_day"}
    assert wanted.items() <= named(registered["tags"]).items()


@pytest.mark.slow
def test_no_customer_and_no_pickle_is_in_mlflow(river: River, server: tuple[str, Path], trained: dict[str, Job]) -> None:
    kept = [path for path in (server[1] / "artifacts").rglob("*") if path.is_file()]
    assert {path.suffix for path in kept} == {".png", ".csv", ".txt", ".json", ".md"}
    ids = {row["user_id"] for row in river.rows("incoming-events-stream")}
    assert len(ids) > 100
    known = b"".join(path.read_bytes() for path in kept if path.suffix != ".png").decode()
    assert not [each for each in ids if each in known]


@pytest.mark.slow
def test_the_alias_follows_promotions_and_rollbacks(
    river: River, server: tuple[str, Path], trained: dict[str, Job], home: Path
) -> None:
    address = server[0]
    one, two = trained
    for version in (one, two):
        said, number = force(version), trained[version].outputs["mlflow_version"]
        assert f"MLflow at {address} has version {number} of {MODEL} as its champion: {version}." in said
        assert champion_of(address) == {"version": version, "number": number}
    assert f"champion: {one}." in run("rollback")
    assert champion_of(address) == {"version": one, "number": trained[one].outputs["mlflow_version"]}


@pytest.mark.slow
def test_a_champion_that_mlflow_was_never_told_of_takes_the_alias_away(
    river: River, server: tuple[str, Path], trained: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server[0]
    fit(river, seed=3)
    unknown, known = newest(river), next(iter(trained))
    assert unknown not in trained
    own_home(river.home, tmp_path, monkeypatch)
    force(known)
    assert champion_of(address)
    assert f"has no champion of {MODEL} any more: it was not told of {unknown}." in force(unknown)
    assert champion_of(address) is None
    run("rollback")
    assert champion_of(address) == {"version": known, "number": trained[known].outputs["mlflow_version"]}


@pytest.mark.slow
def test_what_a_server_missed_is_sent_later_once_and_elsewhere(
    river: River, server: tuple[str, Path], trained: dict[str, Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server[0]
    fit(river, seed=4, mlflow=f"http://127.0.0.1:{free_port()}")
    version = newest(river)
    assert not [each for each in runs(address) if named(each["data"]["tags"])["version"] == version]
    own_home(river.home, tmp_path, monkeypatch)

    def stumble(*told: Any) -> str:
        raise TrackingFailed("the line went dead")

    with monkeypatch.context() as patch:
        patch.setattr(tracking, "_version", stumble)
        assert "the line went dead" in run("publish", "--to", address, code=1)
    said = run("publish", "--to", address)
    assert f"MLflow at {address} has {version} as version " in said
    assert " has " not in run("publish")
    # the one that stumbled was gone on with, and those that MLflow had before were found again, each by its dossier
    found = Counter(named(each["data"]["tags"])["version"] for each in runs(address))
    assert found == Counter({version, *trained} | set(found))
    assert {each["info"]["status"] for each in runs(address)} == {"FINISHED"}
    registered = ask(address, "model-versions/search", filter=f"name = '{MODEL}'")["model_versions"]
    assert Counter(named(each["tags"])["version"] for each in registered) == found


@pytest.mark.slow
def test_without_a_registry_a_run_is_sent_and_nothing_is_kept(
    river: River, server: tuple[str, Path], trained: dict[str, Job]
) -> None:
    address, version = server[0], next(iter(trained))
    told = read_dossier(registry(river).dossier(version))
    assert told is not None
    artifact = registry(river).artifact(version)
    told = msgspec.structs.replace(told, id="another", model="churn-elsewhere")
    sent, said = tracking.track(None, artifact, told, {}, {})
    assert sent is not None
    assert [each["info"]["run_id"] for each in runs(address, "churn-elsewhere")] == [sent.run]
    assert said == []
    lost = msgspec.structs.replace(told, id="a third", address=f"http://127.0.0.1:{free_port()}")
    sent, said = tracking.track(None, artifact, lost, {}, {})
    assert sent is None
    assert said == [f"mind: MLflow at {lost.address} does not answer. The model is trained; no registry keeps what MLflow lacks."]


@pytest.mark.slow
def test_mlflows_own_client_downloads_the_champion_and_it_verifies(
    server: tuple[str, Path], trained: dict[str, Job], home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="the extra `mlflow` is not installed")
    version = next(iter(trained))
    force(version)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server[0])
    place = mlflow.artifacts.download_artifacts(f"models:/{MODEL}@champion", dst_path=str(tmp_path / "got"))
    assert run("verify", place).startswith(f"{version} of first_day is as ")

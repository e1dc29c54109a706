"""MLRun's own calls over the local run database, as the notebooks make them."""

import asyncio
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlrun
import mlrun.feature_store as fstore
import pandas as pd
import pytest
from mlrun.db.httpdb import HTTPRunDB
from mlrun.errors import (
    MLRunConflictError,
    MLRunInvalidArgumentError,
    MLRunNotFoundError,
    MLRunPreconditionFailedError,
)
from mlrun.runtimes import RunError

from churnstream.errors import NeedsCluster, UnknownFunction
from churnstream.local.rundb import LocalRunDB, activate, configure_mlrun
from churnstream.local.rundb_address import ADDRESS, cluster_address

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


def test_loading_without_save_registers_the_project_and_leaves_its_file_alone(
    project: Any, context: Path, db: LocalRunDB
) -> None:
    assert (context / "project.yaml").read_text() == PROJECT
    assert db.list_projects() == ["river"]
    again = mlrun.get_or_create_project("river", context=str(context))
    assert again.spec.params == {"case": "first_day"}
    assert again.get_function("graph").spec.graph is not None
    assert (context / "project.yaml").read_text() == PROJECT


def test_a_new_project_is_created_once(db: LocalRunDB, tmp_path: Path) -> None:
    mlrun.new_project("fresh", context=str(tmp_path / "fresh"))
    with pytest.raises(MLRunConflictError):
        mlrun.new_project("fresh", context=str(tmp_path / "fresh"))
    assert mlrun.get_or_create_project("fresh", context=str(tmp_path / "fresh")).name == "fresh"


def test_an_unknown_project_is_an_error(db: LocalRunDB) -> None:
    with pytest.raises(MLRunNotFoundError, match="nowhere"):
        db.get_project("nowhere")


def test_a_local_run_gives_results_and_artifacts_that_can_be_opened(project: Any, tmp_path: Path) -> None:
    run = project.run_function("job", params={"users": 4}, local=True)
    assert run.status.state == "completed"
    assert run.outputs["events"] == 8
    assert run.outputs["sample"].startswith("store://datasets/river/")
    assert len(mlrun.get_dataitem(run.outputs["sample"]).as_df()) == 4
    assert len(run.artifact("sample").as_df()) == 4
    file, model, _ = mlrun.artifacts.get_model(run.outputs["model"])
    assert Path(file).read_text() == "tree 4"
    assert model.metrics == {"auc": 0.9}
    assert Path(file).is_relative_to(tmp_path / "artifacts" / "river")


def test_what_a_run_printed_is_its_log(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = project.run_function("job", local=True)
    capsys.readouterr()
    assert run.logs(watch=True) == ("completed", len("made 3\n"))
    assert capsys.readouterr().out == "made 3\n"


def test_a_handler_that_raises_is_a_run_error_and_a_run_in_error(project: Any) -> None:
    with pytest.raises(RunError, match="no such case"):
        project.run_function("job", handler="boom", local=True)
    (run,) = project.list_runs(states=["error"])
    assert "no such case" in run["status"]["error"]
    assert run["status"]["end_time"] >= run["status"]["start_time"]


def test_an_unknown_function_is_an_error(project: Any) -> None:
    with pytest.raises(MLRunNotFoundError, match="nobody"):
        project.run_function("nobody", local=True)


def test_two_runs_keep_two_versions_of_what_they_made(project: Any) -> None:
    first, second = (project.run_function("job", params={"users": n}, local=True) for n in (1, 2))
    assert [len(run.artifact("sample").as_df()) for run in (first, second)] == [1, 2]
    assert len(mlrun.get_dataitem(first.outputs["sample"]).as_df()) == 1
    assert len(mlrun.get_dataitem("store://datasets/river/job-run_sample").as_df()) == 2
    assert len(project.list_artifacts("job-run_sample")) == 2
    assert len(project.list_artifacts("job-run_sample", tag="latest")) == 1
    assert first.refresh().outputs == first.outputs


def test_hyper_parameters_select_the_best_iteration(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = project.run_function("job", handler="score", hyperparams={"p": [1, 3, 2]}, selector="max.score", local=True)
    assert run.outputs["best_iteration"] == 2
    assert run.outputs["score"] == 30
    assert run.artifact("drawing").get() == b"3"
    assert project.get_artifact("job-score_drawing", iter=0).iter == 2
    assert project.get_artifact("job-score_drawing", iter=3).to_dataitem().get() == b"2"
    (best,) = project.list_artifacts("job-score_drawing", tree=run.uid(), best_iteration=True)
    assert best["metadata"]["iter"] == 2
    assert [len(project.list_runs("job-score", iter=each)) for each in (False, True)] == [1, 4]


@pytest.fixture
def event_loop() -> Iterator[None]:
    """MLRun's workflows tell their news on the thread's event loop, which they would make and leave open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def test_a_local_workflow_runs_its_functions(project: Any, event_loop: None) -> None:
    status = project.run("main", arguments={"users": 2}, engine="local")
    assert status.state == "Succeeded"
    runs = project.list_runs(labels=f"workflow={status.run_id}")
    assert {run["metadata"]["name"] for run in runs} == {"job-run", "job-score"}
    made = [run for run in runs.to_objects() if run.metadata.name == "job-run"]
    assert made[0].outputs["events"] == 4
    assert len(made[0].refresh().artifact("sample").as_df()) == 2


def test_models_are_read_by_tag_version_and_uri(project: Any) -> None:
    old = project.log_model("model", body=b"old", model_file="old.txt", tag="v1", labels={"kind": "lgbm"})
    new = project.log_model("model", body=b"new", model_file="new.txt", tag="v2")
    assert project.get_artifact("model").uid == new.uid != old.uid
    assert project.get_artifact("model", tag="v1").uid == old.uid
    assert project.get_artifact("model", uid=old.uid).uid == old.uid
    assert project.get_artifact_uri("model", category="model", tag="v1") == "store://models/river/model:v1"
    for uri in ("store://models/river/model:v1", old.uri, project.get_artifact_uri("model", "model", "v1")):
        assert mlrun.datastore.get_store_resource(uri).uid == old.uid
    assert [(m.uid, m.tag) for m in project.list_models("model")] == [
        (new.uid, "latest"),
        (new.uid, "v2"),
        (old.uid, "v1"),
    ]
    assert [m.uid for m in project.list_models(tag="latest", labels="kind=lgbm")] == []
    assert project.list_artifacts(category="dataset") == []
    with pytest.raises(MLRunNotFoundError, match="v3"):
        project.get_artifact("model", tag="v3")


def test_datasets_and_files_are_read_by_their_uris(project: Any) -> None:
    project.log_dataset("people", df=pd.DataFrame({"age": [30, 40]}))
    project.log_artifact("note", body=b"hello", format="txt", tag="first")
    assert list(mlrun.get_dataitem("store://datasets/river/people").as_df()["age"]) == [30, 40]
    assert mlrun.get_dataitem("store://artifacts/river/note:first").get() == b"hello"
    assert {a["metadata"]["key"] for a in project.list_artifacts("~O")} == {"people", "note"}


def test_artifacts_are_listed_by_when_they_were_stored(project: Any) -> None:
    note = project.log_artifact("note", body=b"1", format="txt")
    stored = mlrun.utils.datetime_from_iso(project.get_artifact("note").metadata.updated)
    second = timedelta(seconds=1)
    assert [a["metadata"]["uid"] for a in project.list_artifacts(tag="latest", since=stored - second)] == [note.uid]
    assert project.list_artifacts(since=stored + second) == []
    assert project.list_artifacts(until=stored - second) == []


def test_tags_are_put_on_and_taken_off(project: Any, db: LocalRunDB) -> None:
    model = project.log_model("model", body=b"x", model_file="m.txt")
    db.tag_artifacts(model, "river", "prod")
    assert project.get_artifact("model", tag="prod").uid == model.uid
    assert db.list_artifact_tags("river") == ["latest", "prod"]
    db.delete_artifacts_tags(model, "river", "prod")
    with pytest.raises(MLRunNotFoundError):
        project.get_artifact("model", tag="prod")
    db.tag_artifacts(model, "river", "only", replace=True)
    assert db.list_artifact_tags("river") == ["only"]


def test_deleting_an_artifact_keeps_other_versions_and_its_data_unless_asked(project: Any) -> None:
    old = project.log_artifact("note", body=b"old", format="txt", tag="v1", artifact_path="+/old")
    new = project.log_artifact("note", body=b"new", format="txt", tag="v2", artifact_path="+/new")
    project.delete_artifact(new)
    assert [a["metadata"]["uid"] for a in project.list_artifacts("note")] == [old.uid]
    assert Path(new.target_path).is_file()
    project.delete_artifact(old, deletion_strategy="data-force")
    assert project.list_artifacts() == []
    assert not Path(old.target_path).exists()


def test_data_that_is_not_deleted_keeps_its_artifact_only_when_forced(project: Any) -> None:
    model = project.log_model("model", body=b"x", model_file="m.txt")  # its data is a folder
    with pytest.raises(MLRunInvalidArgumentError, match="whole folder"):
        project.delete_artifact(model, deletion_strategy="data-force")
    assert [each.uid for each in project.list_models(tag="latest")] == [model.uid]
    project.delete_artifact(model, deletion_strategy="data-optional")
    assert project.list_models() == []
    assert (Path(model.target_path) / "m.txt").is_file()


def test_runs_are_listed_by_name_label_state_and_time(project: Any, db: LocalRunDB) -> None:
    for name in ("train-a", "train-b", "other"):
        project.run_function("job", handler="score", name=name, local=True)
    names = {run["metadata"]["name"] for run in project.list_runs("~TRAIN")}
    assert names == {"train-a", "train-b"}
    assert project.list_runs("train") == []
    assert len(project.list_runs(labels="kind=local", states=["completed"])) == 3
    assert len(project.list_runs(labels="kind=job")) == 0
    start = mlrun.utils.now_date() + timedelta(hours=1)
    assert project.list_runs(start_time_from=start) == []
    page, token = project.paginated_list_runs("~train", page_size=1)
    rest, end = db.paginated_list_runs(page_token=token)
    assert {run["metadata"]["name"] for run in page + rest} == names
    assert end is None


def test_asked_for_nothing_the_runs_are_the_last_of_each_name(project: Any) -> None:
    last = [project.run_function("job", handler="score", local=True) for _ in range(2)][-1]
    assert [run["metadata"]["uid"] for run in project.list_runs()] == [last.uid()]
    assert len(project.list_runs("job-score")) == 2


def test_deleted_runs_are_gone(project: Any, db: LocalRunDB) -> None:
    run = project.run_function("job", local=True)
    db.del_run(run.uid(), "river")
    with pytest.raises(MLRunNotFoundError, match=run.uid()):
        db.read_run(run.uid(), "river")
    assert db.get_log(run.uid(), "river") == ("unknown", b"")
    project.run_function("job", handler="score", local=True)
    db.del_runs("job-score", "river", state="completed")
    assert project.list_runs("~") == []


def test_functions_are_versioned_by_hash_and_tag(project: Any, db: LocalRunDB) -> None:
    function = mlrun.new_function("counter", kind="job", project="river", image="one")
    first = db.store_function(function, "counter", "river", tag="v1", versioned=True)
    function.spec.image = "two"
    db.store_function(function, "counter", "river", tag="v2", versioned=True)
    db.store_function(function, "counter", "river")
    assert db.get_function("counter", "river", tag="v1")["spec"]["image"] == "one"
    assert db.get_function("counter", "river", hash_key=first)["spec"]["image"] == "one"
    assert db.get_function("counter", "river")["spec"]["image"] == "two"
    assert {f["metadata"]["tag"] for f in db.list_functions("~COUNT", "river", tag="*")} == {
        "v1",
        "v2",
        "latest",
    }
    assert db.list_functions(project="river", kind="serving") == []
    db.delete_function("counter", "river")
    with pytest.raises(MLRunNotFoundError, match="counter"):
        db.get_function("counter", "river")


def test_a_deployed_function_is_invoked_at_the_deployers_address(project: Any, deployed: Deployed) -> None:
    function = project.get_function("graph")
    assert function.deploy() == f"http://{deployed.address}"
    assert function.invoke("/", body={"x": 2}) == {"x": 2}
    assert project.list_functions("graph", tag="latest")[0].status.state == "ready"
    stored = mlrun.import_function("db://river/graph")
    assert stored.invoke("/", body={"x": 3}) == {"x": 3}


def test_a_function_that_this_kernel_did_not_deploy_is_invoked_too(project: Any, context: Path) -> None:
    project.get_function("door").deploy()
    elsewhere = mlrun.load_project(str(context), save=False)
    assert elsewhere.get_function("door").invoke("/", body={"x": 4}) == {"x": 4}


def test_a_serving_function_is_given_its_graph_in_its_environment(project: Any, deployed: Deployed) -> None:
    function = project.get_function("graph")
    function.deploy()
    function.deploy()
    env = deployed.functions["river", "graph"]["spec"]["env"]
    (spec,) = [json.loads(each["value"]) for each in env if each["name"] == "SERVING_SPEC_ENV"]
    assert list(spec["graph"]["steps"]) == ["twice"]
    assert {"name": "MLRUN_ACTIVE_PROJECT", "value": "river"} in env
    assert "SERVING_SPEC_ENV" not in {each["name"] for each in function.to_dict()["spec"]["env"]}


def test_a_function_with_a_tag_is_deployed_beside_the_one_without(project: Any, deployed: Deployed) -> None:
    project.get_function("door").deploy()
    project.get_function("door").deploy(tag="green")
    assert set(deployed.functions) == {("river", "door"), ("river", "door-green")}


def test_a_function_that_does_not_start_fails_the_deploy_with_the_reason(project: Any, deployed: Deployed) -> None:
    deployed.says = {"state": "error", "message": "ImportError: no module named tomato"}
    with pytest.raises(RunError, match="no module named tomato"):
        project.get_function("door").deploy()
    assert project.list_functions("door", tag="latest")[0].status.state == "error"


def test_a_verbose_deploy_prints_the_functions_log(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    project.get_function("door").deploy(verbose=True)
    assert "it listens" in capsys.readouterr().out


def test_deleting_a_function_stops_it(project: Any, deployed: Deployed, db: LocalRunDB) -> None:
    project.get_function("door").deploy()
    project.get_function("graph").save()  # stored, never deployed
    db.delete_function("door", "river")
    db.delete_function("graph", "river")
    assert deployed.functions == {}


def test_a_project_that_holds_something_is_deleted_only_in_cascade(project: Any, deployed: Deployed, db: LocalRunDB) -> None:
    project.get_function("door").deploy()
    project.run_function("job", local=True)
    with pytest.raises(MLRunPreconditionFailedError, match="cascade"):
        db.delete_project("river")
    db.delete_project("river", "cascade")
    assert db.list_projects() == []
    assert db.list_runs("~", project="river") == []
    assert deployed.functions == {}


def test_feature_sets_and_vectors_are_stored_and_read_back(project: Any, db: LocalRunDB) -> None:
    features = fstore.FeatureSet("plays", entities=[fstore.Entity("user_id")], description="first")
    features.save()
    features.save(tag="v1", versioned=True)
    vector = fstore.FeatureVector("risk", ["plays.*"])
    vector.save()
    assert fstore.get_feature_set("river/plays:v1").spec.description == "first"
    assert mlrun.datastore.get_store_resource("store://feature-vectors/river/risk").spec.features == ["plays.*"]
    assert [each.metadata.name for each in db.list_feature_sets("river", tag="latest", entities=["user_id"])] == ["plays"]
    db.patch_feature_set("plays", {"spec": {"description": "second"}}, "river")
    assert db.get_feature_set("plays", "river").spec.description == "second"
    fstore.delete_feature_vector("risk", "river")
    with pytest.raises(MLRunNotFoundError, match="risk"):
        db.get_feature_vector("risk", "river")


def test_every_call_of_mlruns_client_works_or_says_that_it_needs_a_cluster(db: LocalRunDB) -> None:
    public = {name for name, member in vars(HTTPRunDB).items() if callable(member) and not name.startswith("_")}
    refused = {name for name in public if "NeedsCluster" in (getattr(LocalRunDB, name).__doc__ or "")}
    for name in refused:
        with pytest.raises(NeedsCluster, match=f"^{name} needs an MLRun cluster .* MLRUN_DBPATH"):
            getattr(db, name)()
    assert {"submit_job", "list_pipelines", "get_hub_item", "create_model_endpoint", "abort_run"} <= refused
    assert not refused & {"store_run", "read_artifact", "deploy_nuclio_function", "tag_artifacts"}
    with pytest.raises(NeedsCluster, match="local=True"):
        db.submit_job({})


def test_another_file_replaces_the_first_one_even_after_use(project: Any, tmp_path: Path) -> None:
    assert mlrun.get_run_db().list_projects() == ["river"]
    activate(tmp_path / "other.db")
    assert mlrun.get_run_db().list_projects() == []
    with pytest.raises(NeedsCluster, match="inside a function"):
        project.get_function("door").deploy()
    activate(tmp_path / "run.db")
    assert mlrun.get_run_db().list_projects() == ["river"]


def test_a_local_run_leaves_no_address_in_the_environment(project: Any) -> None:
    project.run_function("job", local=True)
    assert "MLRUN_DBPATH" not in os.environ


def test_only_a_foreign_address_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLRUN_DBPATH", ADDRESS)
    assert cluster_address() is None
    assert "MLRUN_DBPATH" not in os.environ
    monkeypatch.setenv("MLRUN_DBPATH", " http://mlrun-api:8080 ")
    assert cluster_address() == "http://mlrun-api:8080"


QUIET = """
import sys
from pathlib import Path
home, context = Path(sys.argv[1]), sys.argv[2]
import mlrun
mlrun.get_run_db  # MLRun is there before the database is
from churnstream.local.rundb import activate, configure_mlrun
activate(home / "run.db")
configure_mlrun(home / "artifacts")
project = mlrun.load_project(context, parameters={"case": "x"}, save=False)
project.save_to_db()
project = mlrun.get_or_create_project("river", context=context)
run = project.run_function("job", local=True)
assert run.outputs["events"] == 6
model = project.log_model("model", body=b"x", model_file="m.txt", tag="v1")
assert mlrun.get_dataitem(run.outputs["sample"]).as_df().shape == (3, 1)
assert project.get_artifact("model", tag="v1").uid == model.uid
project.list_runs().to_df(), project.list_artifacts().to_df(), project.list_models(), project.list_functions()
server = project.get_function("graph").to_mock_server()
assert server.test("/", body={"x": 1}) == {"x": 2}
server.wait_for_completion()
"""


def test_a_notebooks_calls_print_nothing_of_their_own(tmp_path: Path, context: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(QUIET)
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning:__main__",
        str(script),
        str(tmp_path),
        str(context),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "made 3\n"

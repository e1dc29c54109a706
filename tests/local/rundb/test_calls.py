"""Every call of MLRun's client: made here once if it works, refused with a sentence if it does not."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlrun
import mlrun.feature_store as fstore
import pytest
from mlrun.common.schemas import ArtifactIdentifier, TagObjects
from mlrun.db.base import RunDBInterface
from mlrun.db.httpdb import HTTPRunDB

from churnstream.errors import NeedsCluster
from churnstream.local.rundb import LocalRunDB
from churnstream.local.rundb_refusals import INSTEAD, calls, is_refused
from churnstream.local.rundb_report import report

P = "river"  # the project
WORKING = [call for call in calls() if not is_refused(LocalRunDB, call)]
REFUSED = [call for call in calls() if is_refused(LocalRunDB, call)]


@pytest.fixture
def filled(project: Any, db: LocalRunDB) -> SimpleNamespace:
    """A project with a run, artifacts, functions and features."""
    run = project.run_function("job", local=True, params={"users": 2})
    note = project.log_artifact("note", body=b"hello", format="txt", tag="v1")
    fstore.FeatureSet("plays", entities=[fstore.Entity("user_id")]).save()
    fstore.FeatureVector("risk", ["plays.*"]).save()
    door = project.get_function("door")
    door.save()
    identifier = ArtifactIdentifier(key="note", kind="artifact", uid=note.uid)
    return SimpleNamespace(
        project=project, db=db, run=run.uid(), note=note, door=door, objects=TagObjects(kind="artifact", identifiers=[identifier])
    )


def deleting(db: LocalRunDB, call: str, *given: Any, left: Callable[[], object], **named: Any) -> bool:
    """True when something was there before the call, and is not any more."""
    before = left()
    getattr(db, call)(*given, **named)
    return bool(before) and not left()


def feature_set(name: str) -> Any:
    return fstore.FeatureSet(name, entities=[fstore.Entity("user_id")], description=name)


# Each tells whether the call did what MLRun documents.
CALLS: dict[str, Callable[[Any], bool]] = {
    "connect": lambda f: f.db.connect() is f.db,
    # projects
    "create_project": lambda f: f.db.create_project(mlrun.new_project("fresh", save=False)).name == "fresh",
    "store_project": lambda f: (
        f.db.store_project("other", {"metadata": {"name": "other"}, "spec": {"description": "x"}}).name == "other"
    ),
    "get_project": lambda f: f.db.get_project(P).name == P,
    "list_projects": lambda f: f.db.list_projects() == [P],
    "patch_project": lambda f: f.db.patch_project(P, {"spec": {"goals": "few"}}).spec.goals == "few",
    "delete_project": lambda f: deleting(f.db, "delete_project", P, "cascade", left=f.db.list_projects),
    "verify_authorization": lambda f: f.db.verify_authorization(None) is None,
    "get_project_background_task": lambda f: f.db.get_project_background_task(P, "x").status.state == "failed",
    # functions
    "store_function": lambda f: len(f.db.store_function({"kind": "job", "metadata": {}}, "new", P, versioned=True)) == 40,
    "get_function": lambda f: f.db.get_function("door", P)["metadata"]["name"] == "door",
    "list_functions": lambda f: [each["metadata"]["name"] for each in f.db.list_functions("door", P, tag="latest")] == ["door"],
    "paginated_list_functions": lambda f: len(f.db.paginated_list_functions("door", P, page_size=1)[0]) == 1,
    "delete_function": lambda f: deleting(f.db, "delete_function", "door", P, left=lambda: f.db.list_functions("door", P)),
    "deploy_nuclio_function": lambda f: f.db.deploy_nuclio_function(f.door)["data"]["metadata"]["name"] == "door",
    "get_nuclio_deploy_status": lambda f: (
        bool(f.db.deploy_nuclio_function(f.door))
        and f.db.get_nuclio_deploy_status(f.door, verbose=True) == ("it listens\n", 11.0)
        and f.door.status.state == "ready"
    ),
    # runs
    "read_run": lambda f: f.db.read_run(f.run, P)["status"]["results"]["events"] == 4,
    "store_run": lambda f: (
        f.db.store_run({"metadata": {"name": "mine"}, "status": {"state": "running"}}, "u1", P) is None
        and f.db.read_run("u1", P)["metadata"]["name"] == "mine"
    ),
    "update_run": lambda f: (
        f.db.update_run({"status.state": "aborted"}, f.run, P) is None and f.db.read_run(f.run, P)["status"]["state"] == "aborted"
    ),
    "list_runs": lambda f: [each["metadata"]["uid"] for each in f.db.list_runs("job-run", project=P)] == [f.run],
    "paginated_list_runs": lambda f: len(f.db.paginated_list_runs("job-run", project=P, page_size=1)[0]) == 1,
    "del_run": lambda f: deleting(f.db, "del_run", f.run, P, left=lambda: f.db.list_runs("job-run", project=P)),
    "del_runs": lambda f: deleting(f.db, "del_runs", "job-run", P, left=lambda: f.db.list_runs("job-run", project=P)),
    "store_log": lambda f: f.db.store_log(f.run, P, b"more\n", append=True) is None and b"more" in f.db.get_log(f.run, P)[1],
    "get_log": lambda f: f.db.get_log(f.run, P) == ("completed", b"made 2\n"),
    "get_log_size": lambda f: f.db.get_log_size(f.run, P) == 7,
    "watch_log": lambda f: f.db.watch_log(f.run, P) == ("completed", 7),
    # artifacts
    "store_artifact": lambda f: (
        f.db.store_artifact("a", {"kind": "", "metadata": {}, "spec": {}}, project=P)["metadata"]["key"] == "a"
    ),
    "read_artifact": lambda f: f.db.read_artifact("note", "v1", project=P)["metadata"]["uid"] == f.note.uid,
    "list_artifacts": lambda f: len(f.db.list_artifacts("note", P, tag="v1")) == 1,
    "paginated_list_artifacts": lambda f: len(f.db.paginated_list_artifacts("note", P, page_size=1)[0]) == 1,
    "del_artifact": lambda f: deleting(f.db, "del_artifact", "note", project=P, left=lambda: f.db.list_artifacts("note", P)),
    "del_artifacts": lambda f: deleting(f.db, "del_artifacts", "~NOT", P, left=lambda: f.db.list_artifacts("note", P)),
    "list_artifact_tags": lambda f: f.db.list_artifact_tags(P) == ["latest", "v1"],
    "tag_artifacts": lambda f: f.db.tag_artifacts(f.note, P, "best") is None and bool(f.db.list_artifacts("note", P, tag="best")),
    "delete_artifacts_tags": lambda f: deleting(
        f.db, "delete_artifacts_tags", f.note, P, "v1", left=lambda: f.db.list_artifacts("note", P, tag="v1")
    ),
    "tag_objects": lambda f: f.db.tag_objects(P, "best", f.objects) is None and bool(f.db.list_artifacts("note", P, tag="best")),
    "delete_objects_tag": lambda f: deleting(
        f.db, "delete_objects_tag", P, "v1", f.objects, left=lambda: f.db.list_artifacts("note", P, tag="v1")
    ),
    # features
    "create_feature_set": lambda f: f.db.create_feature_set(feature_set("wins").to_dict(), P)["metadata"]["name"] == "wins",
    "store_feature_set": lambda f: f.db.store_feature_set(feature_set("bets").to_dict(), "bets", P)["metadata"]["name"] == "bets",
    "get_feature_set": lambda f: f.db.get_feature_set("plays", P).metadata.name == "plays",
    "list_feature_sets": lambda f: [each.metadata.name for each in f.db.list_feature_sets(P, tag="latest")] == ["plays"],
    "patch_feature_set": lambda f: (
        f.db.patch_feature_set("plays", {"spec": {"description": "new"}}, P) is None
        and f.db.get_feature_set("plays", P).spec.description == "new"
    ),
    "delete_feature_set": lambda f: deleting(f.db, "delete_feature_set", "plays", P, left=lambda: f.db.list_feature_sets(P)),
    "create_feature_vector": lambda f: (
        f.db.create_feature_vector(fstore.FeatureVector("more", ["plays.*"]).to_dict(), P)["metadata"]["name"] == "more"
    ),
    "store_feature_vector": lambda f: (
        f.db.store_feature_vector(fstore.FeatureVector("most", ["plays.*"]).to_dict(), "most", P)["metadata"]["name"] == "most"
    ),
    "get_feature_vector": lambda f: f.db.get_feature_vector("risk", P).spec.features == ["plays.*"],
    "list_feature_vectors": lambda f: [each.metadata.name for each in f.db.list_feature_vectors(P, tag="latest")] == ["risk"],
    "patch_feature_vector": lambda f: (
        f.db.patch_feature_vector("risk", {"spec": {"description": "new"}}, P) is None
        and f.db.get_feature_vector("risk", P).spec.description == "new"
    ),
    "delete_feature_vector": lambda f: deleting(
        f.db, "delete_feature_vector", "risk", P, left=lambda: f.db.list_feature_vectors(P)
    ),
}


@pytest.mark.parametrize("call", WORKING)
def test_a_call_that_works_does_what_it_is_documented_to_do(filled: SimpleNamespace, call: str) -> None:
    assert CALLS[call](filled)


def test_nothing_is_listed_that_no_longer_works() -> None:
    assert sorted(CALLS) == WORKING


@pytest.mark.parametrize("call", REFUSED)
def test_a_call_that_does_not_work_says_so_and_what_to_do_instead(db: LocalRunDB, call: str) -> None:
    with pytest.raises(NeedsCluster, match=f"^{call} needs an MLRun cluster .* MLRUN_DBPATH") as refusal:
        getattr(db, call)("anything", project="any")
    assert INSTEAD[call] in str(refusal.value)


def test_every_refusal_that_is_worded_is_one() -> None:
    assert sorted(INSTEAD) == REFUSED


def test_every_call_of_mlruns_interface_is_one_of_the_two() -> None:
    interface = {name for name, member in inspect.getmembers(RunDBInterface, callable) if not name.startswith("_")}
    client = {name for name, member in vars(HTTPRunDB).items() if callable(member) and not name.startswith("_")}
    assert interface | client == {*WORKING, *REFUSED}


@pytest.mark.parametrize("call", WORKING)
def test_a_call_takes_what_mlruns_client_takes(call: str) -> None:
    documented = inspect.signature(getattr(HTTPRunDB, call)).parameters
    ours = inspect.signature(getattr(LocalRunDB, call)).parameters
    for place, (name, parameter) in enumerate(documented.items()):
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            assert list(ours)[place] == name
            if parameter.default is not inspect.Parameter.empty:
                assert ours[name].default is not inspect.Parameter.empty


def test_the_documented_tables_are_those_of_the_code(root: Path) -> None:
    assert (root / "docs" / "rundb.md").read_text().endswith(report()), (
        "run python -m churnstream.local.rundb_report, and put it there"
    )

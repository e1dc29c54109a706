"""Functions, stored and deployed."""

import json
from pathlib import Path
from typing import Any

import mlrun
import pytest
from mlrun.errors import (
    MLRunNotFoundError,
)
from mlrun.runtimes import RunError

from churnstream.local.rundb import LocalRunDB
from tests.local.rundb.conftest import Deployed


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

"""Every notebook of the folder, run in order on one machine, small."""

import json
import re
from pathlib import Path
from typing import Any

import mlrun
import pytest

import project_setup
from churnstream import topology
from churnstream.local import Home
from tests.notebooks.river import NOTEBOOKS, Executed, complaints, said

STAYING = [each for each in topology.FUNCTIONS if each.kind != "job"]


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_to_its_end_and_complains_of_nothing(name: str, executed: Executed) -> None:
    assert complaints(executed[name]) == []


@pytest.mark.parametrize("function", STAYING, ids=lambda each: each.name)
def test_a_notebook_deploys_what_the_project_builds(
    function: topology.Function, executed: Executed, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executed[function.notebook]
    monkeypatch.setenv("CHURNSTREAM_HOME", str(home))
    monkeypatch.setenv("CHURNSTREAM_CASE", "first_day")
    project = project_setup.setup(mlrun.projects.MlrunProject(mlrun.projects.ProjectMetadata(name="churnstream")))
    deployed = json.loads(Home(home).spec("churnstream", function.name).read_text())["function"]
    assert _essence(deployed) == _essence(json.loads(project.get_function(function.name).to_json()))


def _essence(function: dict[str, Any]) -> dict[str, Any]:
    """What a function is, less where its code and its model lie."""
    spec = function["spec"]
    graph = json.loads(json.dumps(spec.get("graph") or {}))
    graph.get("model_endpoints_routes_names", []).sort()  # MLRun lists a set
    for route in (graph.get("routes") or {}).values():
        del route["class_args"]["model_path"]
    return {
        "name": function["metadata"]["name"],
        "kind": function["kind"],
        "image": spec["image"],
        "handler": spec.get("function_handler"),
        "code": spec["build"]["functionSourceCode"],
        "triggers": {key: value for key, value in spec["config"].items() if key.startswith("spec.triggers.")},
        "case": [each["value"] for each in spec["env"] if each["name"] == "CHURNSTREAM_CASE"],
        "graph": graph,
    }


def test_the_river_leaves_no_function_but_its_own(executed: Executed, home: Path) -> None:
    executed["5-serving"]
    assert {name for _, name in Home(home).specs()} == {each.name for each in STAYING}


def test_serving_follows_the_champion_that_was_just_promoted(executed: Executed, home: Path) -> None:
    executed["5-serving"]
    served = json.loads(Home(home).spec("churnstream", "serving").read_text())["function"]["spec"]["graph"]
    assert served["routes"]["churn"]["class_args"]["model_path"] == "champion"
    assert re.search(r"the champion, [0-9a-f]{12}", said(executed["5-serving"]))


def test_new_customers_are_scored_while_the_notebook_waits(executed: Executed) -> None:
    assert re.search(r"3 new customers were scored \d+\.\d\d s after their events were posted", said(executed["5-serving"]))

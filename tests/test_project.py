"""The project's files give every function of the topology, with its graph and its triggers; and the topology makes sense."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from churnstream import topology
from churnstream.errors import InvalidSetting, UnknownFunction
from churnstream.local import SupervisorClient
from churnstream.settings import read_settings
from churnstream.topology import DEAD_LETTERS, FUNCTIONS
from churnstream.triggers import triggers

CASES = ("first_day", "casual_game")
LOAD = """
import json, sys, warnings
warnings.simplefilter("error")
warnings.filterwarnings("ignore", "Pydantic V1 style", DeprecationWarning)
import churnstream
churnstream.connect()
import mlrun
found = {}
for case in sys.argv[2:]:
    project = mlrun.load_project(sys.argv[1], name="churnstream", parameters={"case": case}, save=False)
    found[case] = {name: project.get_function(name).to_dict() for name in project.get_function_names()}
print("RESULT" + json.dumps(found, default=str))
"""


@pytest.fixture(scope="module")
def loaded(root: Path, platform: SupervisorClient) -> dict[str, dict[str, dict[str, Any]]]:
    """Of each case every function of the project, loaded in a process of its own, as a notebook would."""
    home = platform.home.root
    command = [sys.executable, "-c", LOAD, str(root), *CASES]
    environment = os.environ | {"CHURNSTREAM_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=home, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.partition("RESULT")[2]))


@pytest.fixture(scope="module")
def functions(loaded: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    return loaded["first_day"]


def test_every_function_of_the_topology_is_there_with_its_kind(functions: dict[str, dict[str, Any]]) -> None:
    kinds = {"job": "job", "nuclio": "remote", "serving": "serving"}
    assert {name: found["kind"] for name, found in functions.items()} == {each.name: kinds[each.kind] for each in FUNCTIONS}


def test_every_function_reads_its_streams_by_a_trigger_and_answers_http(functions: dict[str, dict[str, Any]]) -> None:
    for each in FUNCTIONS:
        if each.kind == "job":
            continue
        config = functions[each.name]["spec"]["config"]
        found = {
            name.removeprefix("spec.triggers."): given for name, given in config.items() if name.startswith("spec.triggers.")
        }
        assert set(found) == {"http", *each.reads}
        for stream in each.reads:
            assert found[stream]["kind"] == "embedded-stream"
            assert found[stream]["attributes"] == {"stream": stream, "consumerGroup": each.name}
            assert found[stream].get("explicitAckMode") == ("explicitOnly" if each.acknowledges else None)


def test_deployed_functions_know_the_case(functions: dict[str, dict[str, Any]]) -> None:
    for each in FUNCTIONS:
        if each.kind != "job":
            environment = {given["name"]: given.get("value") for given in functions[each.name]["spec"]["env"]}
            assert environment["CHURNSTREAM_CASE"] == "first_day"


def test_the_features_function_has_its_graph(functions: dict[str, dict[str, Any]]) -> None:
    spec = functions["stream-to-features"]["spec"]
    steps = spec["graph"]["steps"]
    assert [(name, each["class_name"].rpartition(".")[2]) for name, each in steps.items()] == [
        ("decode", "DecodeBatch"),
        ("update-features", "UpdateFeatures"),
        ("deliver", "DeliverFeatures"),
        ("fail", "Fail"),
    ]
    assert spec["function_handler"].endswith(":apply_record")
    assert spec["graph"]["on_error"] == "fail"


def test_the_serving_function_has_its_model_on_its_route(functions: dict[str, dict[str, Any]], root: Path) -> None:
    graph = functions["serving"]["spec"]["graph"]
    assert (graph["kind"], graph["class_name"]) == ("router", "ChurnRouter")
    assert graph["routes"]["churn"]["class_name"] == "ChurnModel"
    assert Path(graph["routes"]["churn"]["class_args"]["model_path"]) == root / "assets" / "model" / "first_day"


def test_another_case_is_one_parameter(loaded: dict[str, dict[str, dict[str, Any]]]) -> None:
    for case in CASES:
        environment = {given["name"]: given.get("value") for given in loaded[case]["enrich-stream"]["spec"]["env"]}
        assert environment["CHURNSTREAM_CASE"] == case


# -- the topology ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.name)
def test_a_function_has_its_file_and_its_notebook(function: topology.Function, root: Path) -> None:
    assert (root / function.file).is_file()
    assert (root / "notebooks" / f"{function.notebook}.ipynb").is_file()
    assert function.notebook.endswith(function.name) or function.notebook.endswith(f"optional-{function.name}")
    assert function.does


def test_every_function_file_is_in_the_topology(root: Path) -> None:
    assert {f"functions/{path.name}" for path in (root / "functions").glob("*.py")} == {each.file for each in FUNCTIONS}


def test_every_stream_has_one_writer_but_the_dead_letters() -> None:
    for stream in topology.streams():
        if stream == DEAD_LETTERS:
            assert set(topology.writers(stream)) == {each.name for each in FUNCTIONS if each.reads}
        else:
            assert len(topology.writers(stream)) == 1


def test_every_stream_that_is_read_is_written_by_an_earlier_function() -> None:
    written: set[str] = set()
    for each in FUNCTIONS:
        assert set(each.reads) <= written, each.name
        written |= set(each.writes)


def test_every_table_that_is_looked_up_is_kept_by_an_earlier_function() -> None:
    kept: set[str] = set()
    for each in FUNCTIONS:
        assert set(each.looks_up) <= kept, each.name
        assert not kept & set(each.keeps)
        kept |= set(each.keeps)


def test_streams_are_listed_in_the_order_in_which_events_flow() -> None:
    assert topology.streams() == (
        "generated-stream",
        "incoming-events-stream",
        "enriched-events-stream",
        "serving-stream",
        "inference-stream",
        "dead-letters",
    )


def test_an_unknown_function_or_table_is_a_sentence() -> None:
    with pytest.raises(UnknownFunction, match="there is no function 'retrain'; the pipeline has event-generator, "):
        topology.function("retrain")
    with pytest.raises(UnknownFunction, match="no function keeps a table called 'prices'"):
        topology.keeper("prices")


def test_streams_without_a_trigger_are_a_sentence() -> None:
    settings = read_settings({"CHURNSTREAM_HOME": "home", "CHURNSTREAM_STREAMS": "pigeons://loft"})
    with pytest.raises(
        InvalidSetting, match=r"CHURNSTREAM_STREAMS is 'pigeons://loft'; this version has triggers for embedded://"
    ):
        triggers("serving", settings)

"""The document says what the door does: schemathesis asks it everything that the document allows, and what it does not."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import schemathesis

from churnstream.local.limits import Limits
from churnstream.local.openapi import document
from churnstream.local.routes import METHODS
from churnstream.local.specification import Specification
from churnstream.usecases import load, names
from tests.fuzz.door import FuzzedDoor
from tests.security import doors

NAME = "incoming-event-handler"
# Keys that are made up come again with another body, which is refused although each of the two requests fits the document.
EXPECTED = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "5xx"]
"""


def described(name: str = NAME, case: str = "first_day") -> dict[str, Any]:
    spec = {"metadata": {"name": name}, "spec": {"env": [{"name": "CHURNSTREAM_CASE", "value": case}]}}
    return document(Specification("shop", name, spec), Limits(64_000))


@pytest.mark.parametrize("name", [NAME, "serving", "enrich-stream", "somebodys-own"])
def test_every_document_is_one_and_names_every_route_and_limit(name: str) -> None:
    told = described(name)
    schemathesis.openapi.from_dict(told).validate()
    assert set(METHODS) < set(told["paths"])
    assert "64000 bytes of body" in told["info"]["description"]
    for path, item in told["paths"].items():
        for operation in item.values():
            guarded = operation["security"] != []
            assert guarded == (path not in ("/-/live", "/-/ready")), path
            assert not guarded or {"401", "403"} <= set(operation["responses"])


@pytest.mark.parametrize("case", names())
def test_a_cases_own_example_and_only_such_events_fit_the_schema(case: str) -> None:
    schema = described(case=case)["components"]["schemas"]["event"]
    example = json.loads(json.dumps(dict(load(case).example), default=str))
    jsonschema.validate(example, schema)
    for wrong in ({}, example | {"event_type": "nonsense"}, example | {"user_id": ""}, {**example, "event_time": 5}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(wrong, schema)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, dict[str, Any], FuzzedDoor]]:
    """The real handler behind the real server: its address, its document and the door."""
    with FuzzedDoor(tmp_path / "home") as fuzzed, doors.served(fuzzed.application) as port:
        yield f"http://127.0.0.1:{port}", fuzzed.document, fuzzed


@pytest.mark.slow
def test_the_door_does_what_the_document_says(served: tuple[str, dict[str, Any], FuzzedDoor], tmp_path: Path) -> None:
    address, told, fuzzed = served
    (tmp_path / "openapi.json").write_text(json.dumps(told))
    (tmp_path / "schemathesis.toml").write_text(EXPECTED)
    # An event that does not fit is answered with 202 and counted among the refused; that is no 4xx, as this check wants one.
    not_ours = "negative_data_rejection"
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(tmp_path / "openapi.json"), "--url", address]
    command += ["--header", f"Authorization: Bearer {fuzzed.home.token()}", "--seed", "1", "--max-examples", "10", "--no-color"]
    command += ["--checks", "all", "--exclude-checks", not_ours, "--request-timeout", "30", "--workers", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stdout[-6_000:]
    assert "No issues found" in done.stdout
    assert fuzzed.line().given > 20  # many a request has a key that is none, and is not read
    assert fuzzed.line().unaccounted == 0
    for path in METHODS:
        assert path in told["paths"]

"""The deployed serving function does what its OpenAPI document says: schemathesis asks all that it allows, and what it does not.

A schema cannot say that a tensor has as many values as its shape, or which customers there are. So there are two runs: one on the
document as it stands, in which nothing that it forbids may be answered; and one on a document that is narrower in these points
only, in which everything has to be answered.
"""

import copy
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from churnstream.models.manifest import MANIFEST_FILE, read_manifest
from churnstream.serving.describing import describe
from churnstream.serving.protocol import BINARY, HEAD_LENGTH, OPERATIONS, route
from churnstream.serving.wishes import AGE, AS_OF, TYPES
from churnstream.usecases import first_day
from tests.bench.serving_home import Served, served
from tests.functions.river import in_root
from tests.serving.deployed import Line

MANIFEST = read_manifest(in_root("assets/model/first_day") / MANIFEST_FILE)
NAMES = MANIFEST.features
OWN = "^/(v2.*)?$"
REFUSALS_ARE_FAILURES = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx"]
"""


def test_every_route_of_the_protocol_is_described() -> None:
    paths, _ = describe(first_day.CASE, ["churn"])
    of_the_server = {path for path in paths if "{" not in path}
    assert {route(path).operation for path in of_the_server} == {"root", "", "live", "ready", "models"}
    operations = {f"/{each}".rstrip("/") for each in OPERATIONS}
    for start in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        assert {f"{start}{each}" for each in operations} <= set(paths)
    assert len(paths) == len(of_the_server) + 2 * len(operations)
    for path, item in paths.items():
        route(path.format(model="churn", version="7"))  # which raises where there is none
        for operation in item.values():
            given = {each["name"] for each in operation["parameters"] if each["in"] == "path"}
            assert given == set(re.findall(r"{(\w+)}", path))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("document"), customers=20) as found:
        yield found


@pytest.fixture(scope="module")
def told(server: Served) -> dict[str, Any]:
    """The document that the function gives."""
    asking = Line(server.address, server.token)
    found = asking.ask(b"", "/-/openapi.json", method="GET")
    asking.close()
    assert found.status == 200
    return dict(found.body)


def narrowed(document: dict[str, Any], customers: Sequence[str]) -> dict[str, Any]:
    """The document, with what only the server knows: nothing of it is wider than before."""
    found = copy.deepcopy(document)
    schemas = found["components"]["schemas"]
    schemas["customer"]["enum"] = list(customers)
    schemas["wanted"]["properties"]["name"]["enum"] = sorted(set(TYPES) - {AGE, AS_OF})  # these two are for customers only
    request = schemas["request"]["properties"]
    request["parameters"]["properties"]["as_of"]["enum"] = ["2030-01-01", "2031-12-31T23:59:59.5+02:00", None]
    rows, _ = request["inputs"]["anyOf"]
    request["inputs"]["anyOf"] = [rows, *(each for count in (1, 2, 30) for each in tensors(count, customers))]
    for path, item in found["paths"].items():
        for operation in item.values():
            for each in operation.get("parameters", ()):
                if each["name"] == "version":
                    each["schema"]["enum"] = [MANIFEST.version]
            if re.match(OWN, path) and "requestBody" in operation:
                del operation["requestBody"]["content"][BINARY]
                operation["parameters"] = [each for each in operation["parameters"] if each["name"] != HEAD_LENGTH]
    return found


def tensors(count: int, customers: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Inputs of ``count`` rows: whole vectors, of two types, flat and nested; a tensor a feature; customers, and one feature."""
    feature = {"$ref": "#/components/schemas/feature"}
    whole = {"enum": [-(2**31), -1, 0, 1, 7, 2**31 - 1]}  # 7.0 is an integer to a schema
    wide = len(NAMES)
    yield exactly(tensor("any name", "FP64", [count, wide], listed(feature, count * wide)))
    yield exactly(tensor("features", "FP64", [count, wide], listed(listed(feature, wide), count)))
    yield exactly(tensor("features", "INT32", [count, wide], listed(whole, count * wide)))
    yield exactly(*(tensor(name, "FP64", [count], listed(feature, count)) for name in NAMES))
    users = tensor("user_id", "BYTES", [count], listed({"enum": list(customers)}, count))
    yield exactly(users)
    yield exactly(users, tensor(NAMES[3], "INT32", [count, 1], listed(whole, count)))


def tensor(name: str, datatype: str, shape: list[int], data: dict[str, Any]) -> dict[str, Any]:
    properties = {"name": {"const": name}, "datatype": {"const": datatype}, "shape": {"const": shape}, "data": data}
    return {"type": "object", "required": list(properties), "properties": properties}


def listed(items: dict[str, Any], count: int) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": count, "maxItems": count}


def exactly(*items: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)}


def ask_everything(server: Served, document: dict[str, Any], folder: Path, *words: str, settings: str = "") -> int:
    """How many requests schemathesis has sent to the function's own paths; fails where it finds anything."""
    (folder / "openapi.json").write_text(json.dumps(document))
    (folder / "schemathesis.toml").write_text(settings)
    command = [str(Path(sys.executable).with_name("schemathesis")), "run", str(folder / "openapi.json")]
    command += ["--url", f"http://{server.address}", "--header", f"Authorization: Bearer {server.token}", "--no-color"]
    command += ["--include-path-regex", OWN, "--seed", "1", "--workers", "1", "--request-timeout", "30"]
    command += ["--exclude-path-regex", "/predict$", "--phases", "examples,coverage,fuzzing", *words]  # predict is infer
    environment = {name: given for name, given in os.environ.items() if name != "NETRC"}  # which would bring a token along
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout[-8_000:]
    counted = re.search(r"(\d+) generated, (\d+) passed", done.stdout)
    assert counted, done.stdout[-2_000:]
    assert counted[1] == counted[2]
    return int(counted[1])


@pytest.mark.slow
def test_nothing_is_answered_but_what_the_document_allows(server: Served, told: dict[str, Any], tmp_path: Path) -> None:
    words = ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--max-examples", "10"]
    assert ask_everything(server, told, tmp_path, *words) > 1_000


@pytest.mark.slow
def test_all_that_the_document_allows_is_answered(server: Served, told: dict[str, Any], tmp_path: Path) -> None:
    words = ["--checks", "all", "--mode", "positive", "--max-examples", "10"]
    narrow = narrowed(told, server.customers)
    assert ask_everything(server, narrow, tmp_path, *words, settings=REFUSALS_ARE_FAILURES) > 1_000

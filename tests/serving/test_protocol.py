"""Requests that nobody writes by accident are refused with a sentence, like any other that is wrong."""

import json
import struct
from datetime import timedelta
from typing import Any

import pytest

from churnstream.errors import UnknownCustomer
from churnstream.serving.protocol import HEAD_LENGTH, Reply, Service
from churnstream.serving.requests import Known
from churnstream.serving.rollout import Rollout
from churnstream.serving.served import ServedModel
from tests.serving.small_models import NAMES, TABLE, scorer

INFER = "/v2/models/churn/infer"
WIDE = len(NAMES)
ROW = [1.0] * WIDE
HALF = "\ud800"  # of a surrogate pair


class Nobody:
    """Knows no customer, and looks for each by the bytes of the name, as a table does."""

    staleness = timedelta(seconds=1)

    def __call__(self, user_id: str) -> Known:
        raise UnknownCustomer(f"no features are known for the customer {user_id.encode()!r}")


SERVICE = Service({"churn": ServedModel("churn", TABLE, Rollout(scorer()), Nobody())})  # type: ignore[arg-type]


def ask(body: Any, method: str = "POST", path: str = INFER, query: dict[str, str] | None = None, **headers: str) -> Reply:
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return SERVICE.answer(method, path, query or {}, given, raw)


def refusal(reply: Reply) -> str:
    assert reply.status == 400
    told = json.loads(reply.encoded())
    assert list(told) == ["error"]
    return str(told["error"])


def features(**more: Any) -> dict[str, Any]:
    return {"name": "features", "datatype": "FP64", "shape": [1, WIDE], "data": ROW} | more


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", "GET, HEAD, POST, PUT"), ("/v2", "GET, HEAD"), ("/v2/models/churn/ready", "GET, HEAD"), (INFER, "POST, PUT")],
)
def test_who_comes_with_another_method_is_told_which_there_are(method: str, path: str, allowed: str) -> None:
    reply = ask({"inputs": [ROW]}, method, path)
    assert (reply.status, reply.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize(
    ("given", "explained"),
    [("true", True), ("TRUE", True), ("1", True), ("", True), ("False", False), ("0", False), ("no", False)],
)
def test_explain_in_the_address_is_true_or_false(given: str, explained: bool) -> None:
    assert ("explanations" in ask({"inputs": [ROW]}, query={"explain": given}).body) == explained


@pytest.mark.parametrize("path", [INFER, "/v2/models/churn/explain"])
def test_explain_in_the_address_is_nothing_else(path: str) -> None:
    assert refusal(ask({"inputs": [ROW]}, path=path, query={"explain": "maybe"})).startswith("explain is 'maybe'")


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"parameters": []}, "parameters is an object"),
        ({"parameters": 0}, "parameters is an object"),
        ({"outputs": {}}, "parameters is an object, and outputs a list"),
        ({"outputs": ""}, "parameters is an object, and outputs a list"),
        ({"parameters": {"binary_data_output": 1}}, "the parameter binary_data_output is '1'"),
        ({"outputs": [{"name": "probability", "parameters": 5}]}, "the parameters of the output probability are no object"),
        ({"outputs": [{"name": "probability", "parameters": {"binary_data": "yes"}}]}, "the parameter binary_data is 'yes'"),
    ],
)
def test_what_a_request_wishes_is_read_as_it_is_written(more: dict[str, Any], sentence: str) -> None:
    assert refusal(ask({"inputs": [ROW], **more})).startswith(sentence)


@pytest.mark.parametrize("shape", [0, [], "", False, {}, [1], [1, True], [[1, WIDE]]])
def test_a_shape_is_a_list_of_numbers_or_absent(shape: Any) -> None:
    refusal(ask({"inputs": [features(shape=shape, name="x")]}))
    assert ask({"inputs": [features(shape=None, data=[ROW])]}).status == 200


@pytest.mark.parametrize(
    "body", [{"inputs": [{"user_id": HALF}]}, {"inputs": [{"data": ["x"], "datatype": "BYTES", "name": HALF}]}]
)
def test_half_of_a_surrogate_pair_is_no_text(body: Any) -> None:
    refusal(ask(body))


def test_half_of_a_surrogate_pair_comes_back_as_it_came() -> None:
    assert json.loads(ask({"inputs": [ROW], "id": HALF}).encoded())["id"] == HALF


@pytest.mark.parametrize("depth", [*range(900, 1_000), 100_000])
def test_lists_in_lists_are_read_or_refused_however_deep(depth: int) -> None:
    flat = ",".join(["1"] * WIDE)
    reply = ask(f'{{"inputs": [{{"shape": [1, {WIDE}], "data": {"[" * depth}{flat}{"]" * depth}}}]}}'.encode())
    assert reply.status in (200, 400)


@pytest.mark.parametrize("length", ["-1", "1.5", "", "x", "\u0663", "1" * 5_000])
def test_the_length_of_the_json_is_a_number(length: str) -> None:
    for body in (json.dumps({"inputs": [ROW]}).encode(), {"inputs": [ROW]}):  # as it came, or read by the platform
        reply = SERVICE.answer("POST", INFER, {}, {HEAD_LENGTH: length}, body)
        assert refusal(reply).startswith(f"{HEAD_LENGTH} is ")


@pytest.mark.parametrize("parameters", [[1], "x", 5, None, {}])
def test_bytes_that_no_tensor_speaks_of_are_refused(parameters: Any) -> None:
    head = json.dumps({"inputs": [{"name": "x", "datatype": "FP64", "shape": [1, WIDE], "parameters": parameters}]}).encode()
    reply = SERVICE.answer("POST", INFER, {}, {HEAD_LENGTH: str(len(head))}, head + struct.pack("<d", 1.0))
    assert refusal(reply) == "8 bytes follow the JSON and belong to no tensor"

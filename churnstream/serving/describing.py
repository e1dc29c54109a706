"""What the serving function takes and answers, as its part of an OpenAPI document; the features come from the case.

The schemas are as narrow as JSON Schema can be: whatever does not fit them is refused. That a tensor has as many values as its
shape says, and as many rows as the next one, is more than a schema can say; such a request is refused with a sentence as well.
"""

from collections.abc import Sequence
from typing import Any

from churnstream.serving.protocol import BINARY, DIGITS, EXPLAIN, HEAD_LENGTH, JSON, NO, YES
from churnstream.serving.schemas import Schema, answered, asked, ref
from churnstream.usecases.case import UseCase

Item = dict[str, Any]

VERSION: Schema = {"type": "string", "minLength": 1}


def describe(case: UseCase, models: Sequence[str]) -> tuple[dict[str, Item], dict[str, Schema]]:
    """The paths, and the schemas that they name; ``models`` are those that the router knows, none: any."""
    return _paths(models), asked(case.features.names) | answered(case.features.names)


def _paths(models: Sequence[str]) -> dict[str, Item]:
    name: Schema = {"type": "string", "minLength": 1} | ({"enum": list(models)} if models else {})
    model = {"name": "model", "in": "path", "required": True, "schema": name}
    version = {"name": "version", "in": "path", "required": True, "schema": VERSION, "description": "one of the model's versions"}
    about = _get("The server: its name, version and extensions", "server")
    paths = {
        "/": about | _infer("Asks the first model"),
        "/v2": about,
        "/v2/health/live": _get("Whether the server lives", "live"),
        "/v2/health/ready": _get("Whether the server takes requests", "ready"),
        "/v2/models": _get("Which models there are", "models"),
    }
    for path, named in (("/v2/models/{model}", [model]), ("/v2/models/{model}/versions/{version}", [model, version])):
        paths |= {
            path: _get("The model: its versions, inputs and outputs", "model", named),
            f"{path}/ready": _get("Whether the model takes requests", "model_ready", named),
            f"{path}/rollout": _get("What the champion and its candidates did in this process", "rollout", named),
            f"{path}/infer": _infer("Probabilities of customers' leaving", named),
            f"{path}/predict": _infer("Another word for infer", named),
            f"{path}/explain": _infer("What infer answers with ?explain=true", named),
        }
    return paths


def _get(summary: str, schema: str, named: Sequence[Item] = ()) -> Item:
    responses = {"200": _says(summary, schema)} | ({"404": _says("no such model, or version", "error")} if named else {})
    return {"get": {"summary": summary, "parameters": [*named], "responses": responses}}


def _infer(summary: str, named: Sequence[Item] = ()) -> Item:
    explain = {
        "name": EXPLAIN,
        "in": "query",
        "description": "whether what each feature adds to the margin is told as well; the case of its letters does not matter",
        "schema": {"type": "string", "enum": [*sorted(YES), *sorted(NO)]},
    }
    length = {
        "name": HEAD_LENGTH,
        "in": "header",
        "description": "how many bytes of the body are JSON, where tensors follow it as bytes (the binary extension)",
        "schema": {"type": "string", "pattern": f"^[0-9]{{1,{DIGITS}}}$"},
    }
    probabilities = {
        "description": "probabilities: a list where rows were asked, tensors where tensors were or outputs are named",
        "headers": {HEAD_LENGTH: {"description": "where tensors follow the JSON as bytes", "schema": {"type": "string"}}},
        "content": {JSON: {"schema": ref("answer")}, BINARY: {}},
    }
    operation = {
        "summary": summary,
        "parameters": [*named, explain, length],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": ref("request")},
                BINARY: {"schema": {"type": "string", "description": f"the same JSON, and {HEAD_LENGTH} bytes into it, tensors"}},
            },
        },
        "responses": {
            "200": probabilities,
            "400": _says("what is wrong with the request", "error"),
            "404": _says("no such model or version, or nothing is known of the customer", "error"),
        },
    }
    return {"post": operation, "put": operation}


def _says(what: str, schema: str) -> dict[str, Any]:
    return {"description": what, "content": {JSON: {"schema": ref(schema)}}}

"""The schemas of the serving function's part of an OpenAPI document: what it is asked, and what it answers."""

import sys
from collections.abc import Sequence
from typing import Any

from churnstream.serving.protocol import EXPLAIN
from churnstream.serving.requests import MOST_ROWS, USER
from churnstream.serving.tensors import TYPES as DATATYPES
from churnstream.serving.wishes import AGE, AS_OF, CONTRIBUTIONS, TYPES

Schema = dict[str, Any]

SCALAR = ["number", "string", "boolean"]
OBJECT: Schema = {"type": ["object", "null"]}


def ref(schema: str) -> Schema:
    """Where a schema of this name stands in the document."""
    return {"$ref": f"#/components/schemas/{schema}"}


# -- what is asked --------------------------------------------------------------------------------------------------------


def asked(names: Sequence[str]) -> dict[str, Schema]:
    """Those of a request, by name; ``names`` are the features."""
    most = sys.float_info.max
    feature: Schema = {"type": ["number", "null"], "minimum": -most, "maximum": most, "description": "null: not known"}
    features = {name: ref("feature") for name in names}
    rows: Schema = {"type": "array", "minItems": 1, "maxItems": MOST_ROWS}
    return {
        "feature": feature,
        "customer": {"type": "string", "minLength": 1, "description": "whose features are looked up, as they are now"},
        "row": {
            "anyOf": [
                {
                    "title": "a vector",
                    "type": "array",
                    "description": f"one number a feature: {', '.join(names)}",
                    "items": ref("feature"),
                    "minItems": len(names),
                    "maxItems": len(names),
                },
                {
                    "title": "a customer; features that are given stand above those that are looked up",
                    "type": "object",
                    "required": [USER],
                    "properties": {USER: ref("customer")} | features,
                    "additionalProperties": False,
                },
                {
                    "title": "every feature by its name",
                    "type": "object",
                    "required": list(names),
                    "properties": {USER: {"type": "null"}} | features,
                    "additionalProperties": False,
                },
            ]
        },
        "tensor": {
            "type": "object",
            "required": ["data"],
            "properties": {
                "name": {
                    "type": "string",
                    "default": "features",
                    "description": f"{USER}, a feature, or any other for whole vectors",
                },
                "datatype": {"enum": list(DATATYPES), "default": "FP64"},
                "shape": {
                    "type": ["array", "null"],
                    "minItems": 1,
                    "items": {"type": "integer", "minimum": 1},
                    "description": f"[n] or [n, 1], or [n, {len(names)}] for whole vectors; without it that of the data",
                },
                "data": {
                    "type": "array",
                    "minItems": 1,
                    "items": ref("values"),
                    "description": "flat, row after row, or nested",
                },
                "parameters": {"description": "binary_data_size where the data follow the JSON as bytes"},
            },
        },
        "values": {"anyOf": [{"type": [*SCALAR, "null"]}, {"type": "array", "items": ref("values")}]},
        "request": {
            "type": "object",
            "required": ["inputs"],
            "properties": {
                "id": {"type": ["string", "null"], "description": "comes back in the answer"},
                "inputs": {"anyOf": [rows | {"items": ref("row")}, {"type": "array", "minItems": 1, "items": ref("tensor")}]},
                "outputs": {"type": ["array", "null"], "items": ref("wanted")},
                "parameters": OBJECT
                | {
                    "properties": {
                        EXPLAIN: {"type": "boolean"},
                        "as_of": {
                            "type": ["string", "null"],
                            "description": "the instant as of which features are looked up, in ISO 8601, UTC unless it says",
                            "examples": ["2026-01-03T12:00:00Z"],
                        },
                        "binary_data_output": {"type": "boolean", "description": "all tensors of the answer as bytes"},
                    }
                },
            },
        },
        "wanted": {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {"enum": list(TYPES)},
                "parameters": OBJECT | {"properties": {"binary_data": {"type": "boolean", "description": "as bytes"}}},
            },
        },
    }


# -- what is answered -----------------------------------------------------------------------------------------------------


def answered(names: Sequence[str]) -> dict[str, Schema]:
    """Those of answers, by name; ``names`` are the features."""
    text, number, flag = {"type": "string"}, {"type": "number"}, {"type": "boolean"}
    probability: Schema = {"type": "number", "minimum": 0, "maximum": 1}
    described = _object(
        {"name": text, "datatype": {"enum": list(DATATYPES)}, "shape": {"type": "array", "items": {"type": "integer"}}}
    )
    who = {"id": text, "model_name": text, "model_version": text}
    versions = _object({"model_versions": text | {"description": "a row each, where several models answered"}})
    told = {"model_name", "model_version", "outputs"}
    rows = who | {
        "parameters": versions,
        "outputs": _list(probability),
        "churns": _list(flag),
        AS_OF: _list({"type": ["string", "null"], "format": "date-time"}),
        AGE: _list({"type": ["number", "null"]}),
        "explanations": _list(ref("explanation")),
    }
    tensors = who | {"parameters": versions, "outputs": _list(ref("output"))}
    contributions = _object(dict.fromkeys(names, number))
    return {
        "answer": {"anyOf": [_object(rows, told | {"churns"}), _object(tensors, told)]},
        "output": {
            "type": "object",
            "required": ["name", "datatype", "shape", "data"],
            "properties": {
                "name": {"enum": list(TYPES), "description": f"{CONTRIBUTIONS}: a feature each, and the base last"},
                "datatype": {"enum": sorted(set(TYPES.values()))},
                "shape": {"type": "array", "minItems": 1, "maxItems": 2, "items": {"type": "integer", "minimum": 1}},
                "data": _list({"type": SCALAR}),
            },
            "additionalProperties": False,
        },
        "explanation": _object(
            {"margin": number, "base": number, CONTRIBUTIONS: contributions, "reasons": _list(text) | {"maxItems": 3}}
        )
        | {"description": "contributions and base add up to the margin: the log-odds of leaving"},
        "error": _object({"error": text}),
        "server": _object({"name": text, "version": text, "extensions": _list(text)}),
        "live": _object({"live": {"const": True}}),
        "ready": _object({"ready": {"const": True}}),
        "models": _object({"models": _list(text)}),
        "model_ready": _object({"name": text, "ready": {"const": True}}),
        "model": _object(
            {
                "name": text,
                "versions": _list(text) | {"minItems": 1},
                "platform": text,
                "inputs": _list(described),
                "outputs": _list(described),
                "parameters": {"type": "object"},
            }
        ),
        "rollout": _object({"model": text, "arms": _list({"type": "object", "required": ["version", "role", "share", "rows"]})}),
    }


def _object(properties: dict[str, Schema], required: set[str] | None = None) -> Schema:
    """Exactly these, all of them where nothing else is said."""
    needed = sorted(properties if required is None else required)
    return {"type": "object", "required": needed, "properties": properties, "additionalProperties": False}


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}

"""What a function's HTTP door takes and answers, as an OpenAPI document.

What is behind the door describes itself: ``stages.describing`` and ``serving.describing`` each return the paths of theirs and the
schemas that these name. Here stands what the platform adds to every function: tokens, limits, and routes of its own.
"""

from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

from churnstream.codecs import JSON
from churnstream.local.limits import BODY_S, BODY_WAIT_S, HEAD_BYTES, HEAD_COUNT, HEAD_S, Limits
from churnstream.local.routes import DRAIN, LIVE, LONGEST_DRAIN_S, METRICS, OPENAPI, READY, STATUS
from churnstream.local.scopes import Scope, scope_of
from churnstream.local.specification import Specification
from churnstream.serving.describing import describe as serving
from churnstream.settings import DEFAULT_CASE
from churnstream.stages.describing import describe as intake
from churnstream.usecases import load
from churnstream.usecases.case import UseCase

Schema = dict[str, Any]
Part = tuple[dict[str, dict[str, Any]], dict[str, Schema]]

TEXT = "text/plain"
METHODS = ("get", "post", "put")
DESCRIBED: Mapping[str, Callable[[UseCase, Specification], Part]] = {
    "incoming-event-handler": lambda case, _: intake(case),
    "serving": lambda case, specification: serving(case, _models(specification)),
}


def document(specification: Specification, limits: Limits) -> dict[str, Any]:
    """The document of a deployed function. Those in DESCRIBED are described in full."""
    name = specification.function["metadata"]["name"]
    own, schemas = _own(name, specification)
    scope = scope_of(name)
    return {
        "openapi": "3.1.0",
        "info": {"title": specification.name, "version": version("churnstream"), "description": _limits(limits)},
        "paths": {path: _behind_the_door(item, scope) for path, item in own.items()} | _ours(),
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _limits(limits: Limits) -> str:
    return (
        f"A request has at most {HEAD_COUNT} headers and {HEAD_BYTES} bytes of them (else 431), which arrive within {HEAD_S:g} s"
        f" (else 408), and {limits.body} bytes of body (else 413), which pause for {BODY_WAIT_S:g} s at most and take"
        f" {BODY_S:g} s (else 408). A worker holds {limits.requests} requests and {limits.memory} bytes of bodies at once; who"
        " comes then is asked to come again: 503, with Retry-After. Tokens: `churnstream token --scope ingest|infer|operate`."
    )


def _own(name: str, specification: Specification) -> Part:
    describe = DESCRIBED.get(name)
    if describe is not None:
        return describe(load(specification.environment.get("CHURNSTREAM_CASE") or DEFAULT_CASE), specification)
    whatever = {"summary": "Calls the function", "responses": {"default": {"description": "what the function answers"}}}
    return {"/": {"post": whatever}}, {}


def _models(specification: Specification) -> list[str]:
    """What the router of a serving function calls its models."""
    graph = specification.function["spec"].get("graph") or {}
    return list(graph.get("routes") or ())


def _said(what: str) -> dict[str, Any]:
    return {"description": what, "content": {TEXT: {"schema": {"type": "string"}}}}


def _behind_the_door(item: Mapping[str, Any], scope: Scope) -> dict[str, Any]:
    """A path of the function's own: what may be answered before the function is asked comes to what it answers itself."""
    busy = {"503": _said("the worker has its hands full: send it again, in as many seconds as Retry-After says")}
    arrives = {"408": _said("the body did not arrive in time"), "413": _said("too many bytes")}
    told = dict(item)
    for method in METHODS:
        if operation := item.get(method):
            refusals = busy | (arrives if "requestBody" in operation else {})
            told[method] = _guarded(operation | {"responses": refusals | operation["responses"]}, scope)
    return told


def _guarded(operation: dict[str, Any], scope: Scope) -> dict[str, Any]:
    """The operation, behind a token of ``scope``."""
    refusals = {"401": _said("no token of the home came with it"), "403": _said("the token opens other doors")}
    responses = operation["responses"] | refusals
    return operation | {"responses": responses, "security": [{"token": []}], "x-scope": scope}


def _ours() -> dict[str, dict[str, Any]]:
    seconds: Schema = {"type": "number", "minimum": 0, "maximum": LONGEST_DRAIN_S}
    deadline = {"name": "deadline", "in": "query", "schema": seconds, "description": "seconds to wait at most; 60 without it"}
    read = _answers("the worker's positions after it", JSON) | {
        "400": _said("deadline is no such number"),
        "409": _said("not all was read in that time; it goes on"),
    }
    drain = {"summary": "Waits until the function has read all that is there", "parameters": [deadline], "responses": read}
    return {
        LIVE: {"get": {"summary": "Whether the worker lives", "security": [], "responses": {"200": _said("it does")}}},
        READY: {
            "get": {
                "summary": "Whether the worker takes what comes",
                "security": [],
                "responses": {"200": _said("it does"), "503": _said("why it does not")},
            }
        },
        STATUS: {
            "get": _guarded({"summary": "How far the streams are read", "responses": _answers("by stream", JSON)}, "operate")
        },
        METRICS: {"get": _guarded({"summary": "For Prometheus", "responses": _answers("all workers together", TEXT)}, "operate")},
        OPENAPI: {"get": _guarded({"summary": "This document", "responses": _answers("it", JSON)}, "operate")},
        DRAIN: {"post": _guarded(drain, "operate")},
    }


def _answers(what: str, content_type: str) -> dict[str, Any]:
    return {"200": {"description": what, "content": {content_type: {}}}}

"""What a function's HTTP door takes and answers, as an OpenAPI document; the bodies of events come from the case."""

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from churnstream.codecs import JSON, NDJSON
from churnstream.codecs.judge import ID_LENGTH, KEY_LENGTH, TEXT_LENGTH, bounds
from churnstream.local.limits import BODY_S, BODY_WAIT_S, HEAD_BYTES, HEAD_COUNT, HEAD_S, Limits
from churnstream.local.routes import DRAIN, LIVE, LONGEST_DRAIN_S, METRICS, OPENAPI, READY, STATUS
from churnstream.local.scopes import Scope, scope_of
from churnstream.local.specification import Specification
from churnstream.settings import DEFAULT_CASE
from churnstream.stages.intake import MOST_EVENTS
from churnstream.stages.requests import LONGEST
from churnstream.usecases import load
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, EventType, Field, Kind, UseCase, spell

Schema = dict[str, Any]

TEXT = "text/plain"
KINDS: Mapping[Kind, Schema] = {
    Kind.TEXT: {"type": "string", "maxLength": TEXT_LENGTH},
    Kind.DATE: {"type": "string", "format": "date"},
    Kind.NUMBER: {"type": "number"},
    Kind.WHOLE: {"type": "integer"},
}
COUNT: Schema = {"type": "integer", "minimum": 0}
RECEIPT: Schema = {
    "type": "object",
    "required": ["accepted", "refused", "duplicates"],
    "properties": {
        "accepted": COUNT,
        "refused": COUNT,
        "duplicates": COUNT,
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["position", "error"],
                "properties": {"position": COUNT, "error": {"type": "string"}},
            },
        },
    },
}
ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}


def document(specification: Specification, limits: Limits) -> dict[str, Any]:
    """The document of a deployed function. Only ``incoming-event-handler`` is described in full."""
    name = specification.function["metadata"]["name"]
    own, schemas = _own(name, specification)
    scope = scope_of(name)
    paths = {path: {method: _guarded(each, scope) for method, each in item.items()} for path, item in own.items()}
    return {
        "openapi": "3.1.0",
        "info": {"title": specification.name, "version": version("churnstream"), "description": _limits(limits)},
        "paths": paths | _ours(),
        "components": {"schemas": schemas, "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}},
    }


def _limits(limits: Limits) -> str:
    return (
        f"A request has at most {HEAD_COUNT} headers and {HEAD_BYTES} bytes of them (else 431), which arrive within {HEAD_S:g} s"
        f" (else 408), and {limits.body} bytes of body (else 413), which pause for {BODY_WAIT_S:g} s at most and take"
        f" {BODY_S:g} s (else 408). A worker holds {limits.requests} requests and {limits.memory} bytes of bodies at once; who"
        " comes then is asked to come again: 503, with Retry-After. Tokens: `churnstream token --scope ingest|infer|operate`."
    )


def _own(name: str, specification: Specification) -> tuple[dict[str, dict[str, Any]], dict[str, Schema]]:
    if name == "incoming-event-handler":
        case = load(specification.environment.get("CHURNSTREAM_CASE") or DEFAULT_CASE)
        return {"/": {"post": _intake(case), "put": _intake(case)}}, {
            "event": _any_event(case),
            "receipt": RECEIPT,
            "error": ERROR,
        }
    if name == "serving":
        anything = {"description": "as the Open Inference Protocol has it", "content": {JSON: {}}}
        told = {"200": anything, "400": _said("what is wrong with the request"), "404": _said("nobody knows this customer")}
        asked = {"required": True, "content": {JSON: {"schema": {"type": "object", "required": ["inputs"]}}}}
        infer = {"summary": "Probabilities of customers' leaving", "requestBody": asked, "responses": told}
        return {"/v2/models/churn/infer": {"post": infer}}, {}
    whatever = {"summary": "Calls the function", "responses": {"default": {"description": "what the function answers"}}}
    return {"/": {"post": whatever}}, {}


def _intake(case: UseCase) -> dict[str, Any]:
    event: Schema = {"$ref": "#/components/schemas/event"}
    several = {"type": "array", "minItems": 1, "maxItems": MOST_EVENTS, "items": event}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/error"}}}
    both = error | {TEXT: {}}
    key = {
        "name": "Idempotency-Key",
        "in": "header",
        "description": "A string of the client's, in quotes, new for every request: a UUID. The same request under the same key,"
        f" less than {spell(case.horizon)} later, gets the same answer, and everything in it counts as a duplicate.",
        "schema": {"type": "string", "pattern": f'^"[!#-[\\]-~]{{1,{LONGEST}}}"$'},
    }
    return {
        "summary": f"Takes events of {case.title}: one, an array, or one a line",
        "description": "Every event is taken by itself: one that is not as it should be is refused, kept with a sentence among"
        f" the dead letters; the others are accepted. An event_id that its customer had less than"
        f" {spell(case.horizon)} before is a duplicate. At most {MOST_EVENTS} events a request.",
        "parameters": [key],
        "requestBody": {
            "required": True,
            "content": {
                JSON: {"schema": {"anyOf": [event, several]}, "example": dict(case.example)},
                NDJSON: {"schema": {"type": "string", "description": "one event a line"}},
            },
        },
        "responses": {
            "202": {
                "description": "read, and durable; what became of the events, and the first sentences about the refused",
                "content": {JSON: {"schema": {"$ref": "#/components/schemas/receipt"}}},
            },
            "400": {"description": "nothing in the body could be read, or the Idempotency-Key is none", "content": error},
            "408": _said("the body did not arrive in time"),
            "413": {"description": "too many bytes, or events", "content": both},
            "422": {"description": "another body came under this Idempotency-Key before", "content": error},
            "503": {
                "description": "not everything could be written, or the worker has its hands full: send it again",
                "headers": {"Retry-After": {"description": "in so many seconds", "schema": {"type": "string"}}},
                "content": both,
            },
        },
    }


def _any_event(case: UseCase) -> Schema:
    return {"oneOf": [_event(each) for each in case.events]}


def _event(event: EventType) -> Schema:
    properties: dict[str, Schema] = {
        KEY: {"type": "string", "minLength": 1, "maxLength": KEY_LENGTH},
        EVENT_TYPE: {"const": event.name},
        EVENT_TIME: {"type": "string", "format": "date-time"},
    }
    properties[EVENT_ID] = {"type": ["string", "null"], "minLength": 1, "maxLength": ID_LENGTH}
    properties |= {each.name: _field(each) for each in event.fields}
    needed = [KEY, EVENT_TYPE, EVENT_TIME, *(each.name for each in event.fields if each.required)]
    return {"title": event.name, "type": "object", "required": needed, "properties": properties}


def _field(field: Field) -> Schema:
    told = dict(KINDS[field.kind])
    if field.name == EVENT_ID:
        told |= {"minLength": 1, "maxLength": ID_LENGTH}
    if field.kind in (Kind.NUMBER, Kind.WHOLE):
        least, most = bounds(field)
        told |= {name: limit for name, limit in (("minimum", least), ("maximum", most)) if limit is not None}
    if not field.required:
        told["type"] = [told["type"], "null"]
    return told | ({"description": field.unit} if field.unit else {})


def _said(what: str) -> dict[str, Any]:
    return {"description": what, "content": {TEXT: {"schema": {"type": "string"}}}}


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

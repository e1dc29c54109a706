"""What the door for events takes and answers, as its part of an OpenAPI document; the bodies of events come from the case."""

from typing import Any

from churnstream.codecs import JSON, NDJSON
from churnstream.codecs.judge import ID_LENGTH, KEY_LENGTH, TEXT_LENGTH, bounds
from churnstream.stages.intake import MOST_EVENTS
from churnstream.stages.requests import LONGEST
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, EventType, Field, Kind, UseCase, spell

Schema = dict[str, Any]

TEXT = "text/plain"
KINDS: dict[Kind, Schema] = {
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


def describe(case: UseCase) -> tuple[dict[str, dict[str, Any]], dict[str, Schema]]:
    """The paths, and the schemas that they name."""
    schemas = {"event": {"oneOf": [_event(each) for each in case.events]}, "receipt": RECEIPT, "error": ERROR}
    return {"/": {"post": _intake(case), "put": _intake(case)}}, schemas


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
            "413": {"description": "too many bytes, or events", "content": both},
            "422": {"description": "another body came under this Idempotency-Key before", "content": error},
            "503": {
                "description": "not everything could be written, or the worker has its hands full: send it again",
                "headers": {"Retry-After": {"description": "in so many seconds", "schema": {"type": "string"}}},
                "content": both,
            },
        },
    }


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

"""incoming-event-handler: takes events over HTTP and from the generated stream, validates each once, and keys it by customer."""

import json

from churnstream.errors import StorageFailed, UnreadablePayload
from churnstream.stages.intake import Intake
from churnstream.wiring import STREAM_TRIGGERS, open_parts


def init_context(context):
    parts = open_parts("incoming-event-handler")
    context.user_data.parts = parts
    context.user_data.intake = Intake(parts.case)


def handler(context, event):
    """202 with counts when anything could be read; 400 when nothing could; 503 when it could not be written."""
    if event.trigger.kind not in STREAM_TRIGGERS and event.method not in ("POST", "PUT"):
        return _answer(context, 405, {"error": "POST one JSON event, an array of events, or one event a line"}, {"Allow": "POST"})
    parts = context.user_data.parts
    unit = parts.begin(event)
    if unit.replayed:
        return context.Response(status_code=202, body="applied before", content_type="text/plain")
    refused = None
    try:
        try:
            receipt = context.user_data.intake.take(event.body, unit)
        except UnreadablePayload as cause:
            refused = str(cause)
        unit.commit()  # what was refused is in the dead letters before the answer goes out
    except StorageFailed as cause:
        if event.trigger.kind in STREAM_TRIGGERS:
            raise
        return _answer(context, 503, {"error": str(cause)}, {"Retry-After": "5"})
    if refused is not None:
        return _answer(context, 202 if event.trigger.kind in STREAM_TRIGGERS else 400, {"error": refused})
    counts = {"accepted": receipt.accepted, "refused": receipt.refused, "duplicates": receipt.duplicates}
    return _answer(context, 202, counts | ({"errors": receipt.errors} if receipt.errors else {}))


def _answer(context, status, body, headers=None):
    return context.Response(status_code=status, body=json.dumps(body), content_type="application/json", headers=headers or {})

"""incoming-event-handler: takes events over HTTP and from the generated stream, validates each once, and keys it by customer."""

import json

from churnstream.errors import BadRequest, KeyReused, StorageFailed, TooFarBehind, UnreadablePayload
from churnstream.stages.gather import Gathering, take_together
from churnstream.stages.intake import MOST_EVENTS, Intake, too_many
from churnstream.stages.pressure import Pressure
from churnstream.stages.requests import idempotency_key
from churnstream.topology import INCOMING
from churnstream.wiring import STREAM_TRIGGERS, open_parts

NOT_WRITTEN = "not everything could be written; send this again"  # why is in the log: it may name a folder


def init_context(context):
    parts = open_parts("incoming-event-handler")
    intake = Intake(parts.case)

    def take(requests):
        bodies, keys = [event.body for event, _ in requests], [key for _, key in requests]
        with parts.begin(requests[0][0]) as unit:  # what was refused is in the dead letters before any answer goes out
            return take_together(bodies, intake, unit, keys)

    context.user_data.parts, context.user_data.intake = parts, intake
    context.user_data.pressure = Pressure(INCOMING, lambda: parts.unread(INCOMING), parts.settings.backlog_rows)
    context.user_data.requests = Gathering(take, parts.settings.batch_wait, weigh=lambda request: request[0].size or 0)


async def handler(context, event):
    """202 with counts when anything could be read; 400 when nothing could, 413 for too many, 422 for another body under an
    Idempotency-Key, 503 when it could not be written."""
    if event.trigger.kind in STREAM_TRIGGERS:
        return _take_record(context, event)
    if event.method not in ("POST", "PUT"):
        return _answer(
            context, 405, {"error": "POST one JSON event, an array of events, or one event a line"}, {"Allow": "POST, PUT"}
        )
    if too_many(event.body):
        sentence = f"there are more than {MOST_EVENTS} events in the body, and one request takes no more; send it in parts"
        return _answer(context, 413, {"error": sentence})
    try:
        key = idempotency_key(event.headers)
        context.user_data.pressure.check()
        receipt = await context.user_data.requests.put((event, key))
    except TooFarBehind as cause:
        return _answer(context, 503, {"error": str(cause)}, {"Retry-After": "5"})
    except (BadRequest, UnreadablePayload) as cause:
        return _answer(context, 400, {"error": str(cause)})
    except KeyReused as cause:
        return _answer(context, 422, {"error": str(cause)})
    except StorageFailed as cause:
        context.logger.warn(f"a request was not taken: {cause}")
        return _answer(context, 503, {"error": NOT_WRITTEN}, {"Retry-After": "5"})
    return _answer(context, 202, _counts(receipt))


def _take_record(context, event):
    unit = context.user_data.parts.begin(event)
    if unit.replayed:
        return context.Response(status_code=202, body="applied before", content_type="text/plain")
    context.user_data.pressure.check()
    try:
        told = _counts(context.user_data.intake.take(event.body, unit))
    except UnreadablePayload as cause:
        told = {"error": str(cause)}
    unit.commit()
    return _answer(context, 202, told)


def _counts(receipt):
    counts = {"accepted": receipt.accepted, "refused": receipt.refused, "duplicates": receipt.duplicates}
    return counts | ({"errors": receipt.errors} if receipt.errors else {})


def _answer(context, status, body, headers=None):
    return context.Response(status_code=status, body=json.dumps(body), content_type="application/json", headers=headers or {})

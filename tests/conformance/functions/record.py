"""Shows the last record as it came."""

import json

FIELDS = (
    "body", "content_type", "fields", "headers", "method", "path", "size", "url", "shard_id", "type", "last_in_batch", "offset",
    "topic",
)  # fmt: skip


def init_context(context):
    context.user_data.last = {}


def handler(context, event):
    if event.path == "/last":
        return json.dumps(context.user_data.last)
    context.user_data.last = {name: repr(getattr(event, name)) for name in FIELDS}
    context.user_data.last["trigger"] = f"{event.trigger.kind} {event.trigger.name}"
    return "ok"

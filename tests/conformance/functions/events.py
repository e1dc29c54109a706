"""Shows what of an event, and of its context, a handler sees."""

import json
import os
import pathlib

FIELDS = (
    "body", "content_type", "fields", "headers", "id", "method", "path", "size", "timestamp", "url", "shard_id", "num_shards",
    "type", "type_version", "version", "last_in_batch", "offset", "topic",
)  # fmt: skip


def init_context(context):
    context.user_data.begun = {
        "worker_id": _shown(context.worker_id),
        "trigger": [context.trigger.kind, context.trigger.name, context.trigger_name],
        "platform": context.platform.kind,
        "namespace": type(context.platform.namespace).__name__,
        "response": context.Response.__name__,
        "logger": [name for name in ("debug", "info", "warn", "error", "debug_with", "bind") if hasattr(context.logger, name)],
    }
    context.logger.info_with("begun", worker=context.worker_id)


def handler(context, event):
    if event.path == "/context":
        return context.user_data.begun
    if event.path == "/ticked":
        path = pathlib.Path(os.environ["NOTES"])
        return path.read_text() if path.exists() else "null"
    if event.trigger.kind == "cron":
        pathlib.Path(os.environ["NOTES"]).write_text(json.dumps(_seen(event)))
    context.logger.debug_with("called", path=event.path)
    return _seen(event)


def _seen(event):
    seen = {name: _shown(getattr(event, name)) for name in FIELDS}
    return seen | {"trigger": [event.trigger.kind, event.trigger.name]}


def _shown(value):
    return {"type": type(value).__name__, "value": repr(value)}

"""stream-to-features: keeps each customer's features up to date, in a storey graph.

The graph (``churnstream/graph/steps.py``) is built by notebook 4 and by project_setup.py. MLRun appends its own ``init_context``
and ``handler`` to every serving function; that handler answers as soon as a record is queued. ``apply_record`` stands in front of
it and answers when the record's effects are durable, which is when its position may move.
"""

import asyncio

from churnstream.graph.work import Work, send_through
from churnstream.wiring import open_parts


async def apply_record(context, event):
    """The function's handler, named so in ``spec.function_handler``."""
    if not hasattr(context.user_data, "parts"):
        context.user_data.parts = open_parts("stream-to-features")
    parts = context.user_data.parts
    unit = parts.begin(event)
    if unit.replayed:
        return {"replayed": True}
    work = Work(
        case=parts.case,
        unit=unit,
        shard=event.shard_id,
        offset=event.offset,
        stored=parts.journal(event.shard_id).items,
        done=asyncio.get_running_loop().create_future(),
        left_out=parts.left_out(event),
        aside=event.topic not in parts.function.reads,
    )
    return await send_through(lambda: context.mlrun_handler(context, event), event, work)

"""stream-to-features: keeps each customer's features up to date, in a storey graph.

The graph (``churnstream/graph/steps.py``) is built by notebook 4 and by project_setup.py; this file waits until it has delivered.
"""

import asyncio

from mlrun.runtimes import nuclio_init_hook

from churnstream.graph.work import Work, send_through
from churnstream.wiring import open_parts


def init_context(context):
    context.user_data.parts = open_parts("stream-to-features")
    nuclio_init_hook(context, globals(), "serving_v2")


async def handler(context, event):
    parts = context.user_data.parts
    unit = parts.begin(event)
    if unit.replayed:
        return {"replayed": True}
    work = Work(
        case=parts.case,
        unit=unit,
        source=event.topic,
        shard=event.shard_id,
        offset=event.offset,
        stored=parts.journal(event.shard_id).items,
        done=asyncio.get_running_loop().create_future(),
    )
    return await send_through(lambda: context.mlrun_handler(context, event), event, work)

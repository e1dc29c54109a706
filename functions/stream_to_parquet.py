"""stream-to-parquet: keeps every incoming event in Parquet files by day.

It says itself when a record is durable (explicit acknowledgement): a record waits in memory until its files are on disk.
"""

import asyncio

import nuclio_sdk

from churnstream.codecs import decode_batch
from churnstream.stages.archive import ParquetSink
from churnstream.topology import INCOMING
from churnstream.wiring import open_parts

LOOK_EVERY_S = 0.25


async def init_context(context):
    parts = open_parts("stream-to-parquet")
    sink = ParquetSink(
        parts.settings.archive,
        INCOMING,
        parts.begin_in,
        parts.begin_at,
        parts.clock,
        parts.settings.flush_rows,
        parts.settings.flush_age,
    )
    context.user_data.parts, context.user_data.sink = parts, sink
    context.platform.set_drain_callback(lambda: _acknowledge(context, sink.flush()))
    context.platform.set_termination_callback(lambda: _acknowledge(context, sink.flush()))
    context.user_data.ageing = asyncio.get_running_loop().create_task(_flush_what_is_old(context))


async def handler(context, event):
    sink = context.user_data.sink
    if context.user_data.parts.begin(event).replayed:
        return {"replayed": True}
    await _acknowledge(context, sink.add(event.shard_id, event.offset, decode_batch(event.body)))
    return {"waiting": sink.rows}


async def _flush_what_is_old(context):
    while True:
        await asyncio.sleep(LOOK_EVERY_S)
        try:
            await _acknowledge(context, context.user_data.sink.flush_old())
        except Exception as cause:  # whatever it is, what waits is tried again
            context.logger.error(f"{type(cause).__name__}: {cause}; trying again")


async def _acknowledge(context, flushed):
    for shard, offset in flushed:
        await context.platform.explicit_ack(nuclio_sdk.QualifiedOffset(INCOMING, shard, offset))

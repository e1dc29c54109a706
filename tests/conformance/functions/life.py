"""Notes the life of a worker in the file that NOTES names, and acknowledges records as it is told."""

import asyncio
import json
import os

import nuclio_sdk


def _note(word):
    with open(os.environ["NOTES"], "a") as file:
        file.write(word + "\n")


def init_context(context):
    held = context.user_data.held = []
    context.user_data.seen = []

    async def drained():
        _note("drain begins")
        await asyncio.sleep(0)
        for offset in held:
            await context.platform.explicit_ack(offset)
        held.clear()
        _note("drain ends")

    async def terminated():
        _note("termination begins")
        await asyncio.sleep(0)
        _note("termination ends")

    context.platform.set_drain_callback(drained)
    context.platform.set_termination_callback(terminated)
    _note("init")


async def handler(context, event):
    if event.path == "/seen":
        return json.dumps(context.user_data.seen)
    if event.path == "/slow":
        _note("slow begins")
        await asyncio.sleep(0.2)
        _note("slow ends")
        return "slow"
    told = json.loads(event.body)
    context.user_data.seen.append([event.topic, event.shard_id, event.offset, told.get("n")])
    offset = nuclio_sdk.QualifiedOffset.from_event(event)
    match told.get("ack"):
        case "now":
            await context.platform.explicit_ack(offset)
        case "event":
            message = event.compile_explicit_ack_message()["attributes"]
            await context.platform.explicit_ack(nuclio_sdk.QualifiedOffset(**message))
        case "at the drain":
            context.user_data.held.append(offset)
    return "ok"

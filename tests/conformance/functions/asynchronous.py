"""Handlers that wait; ``init_context`` starts a task on the loop that they share."""

import asyncio

import nuclio_sdk


async def init_context(context):
    context.user_data.begun = await asyncio.create_task(asyncio.sleep(0, "in a running loop"))
    context.user_data.ticks, context.user_data.inside, context.user_data.most = 0, 0, 0
    context.user_data.ticking = asyncio.create_task(_tick(context.user_data))


async def _tick(user_data):
    while True:
        user_data.ticks += 1
        await asyncio.sleep(0.001)


async def handler(context, event):
    match event.path:
        case "/begun":
            return context.user_data.begun
        case "/wait":
            before = context.user_data.ticks
            await asyncio.sleep(0.05)
            return "others went on" if context.user_data.ticks > before else "nobody went on"
        case "/response":
            return await asyncio.sleep(0, nuclio_sdk.Response(status_code=201, body={"a": 1}))
        case "/raise":
            await asyncio.sleep(0)
            raise ValueError("boom")
        case "/cancelled":
            raise asyncio.CancelledError
        case "/late":
            async with asyncio.timeout(0.01):
                await asyncio.sleep(60)
        case "/together":
            context.user_data.inside += 1
            context.user_data.most = max(context.user_data.most, context.user_data.inside)
            await asyncio.sleep(0.2)
            context.user_data.inside -= 1
            return str(context.user_data.most)
    return "?"

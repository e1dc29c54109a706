"""Whether a function is ready: the truth, at every moment of its life."""

import asyncio
import logging
from datetime import timedelta
from typing import Any

from churnstream.local.events import request_event
from churnstream.local.function import RunningFunction
from tests.deployable import deployable

CODE = """
import asyncio

async def init_context(context):
    context.user_data.go = asyncio.Event()

async def handler(context, event):
    if event.method == "POST":
        await context.user_data.go.wait()
    else:
        context.user_data.go.set()
"""


def request(method: str) -> Any:
    scope = {"method": method, "path": "/", "query_string": b"", "headers": []}
    trigger = type("Trigger", (), {"kind": "http", "name": "web"})()
    return request_event(scope, b"", trigger)


async def turns(times: int = 20) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def test_a_function_is_ready_from_its_init_context_to_its_end_but_not_while_it_drains() -> None:
    async def life() -> list[str]:
        said: list[str] = []
        alpha = RunningFunction(deployable(CODE, handler="alpha:handler"), None, logging.getLogger("test"))  # type: ignore[arg-type]
        said.append(alpha.why_not_ready())
        await alpha.start()
        said.append(alpha.why_not_ready())
        at_work = asyncio.create_task(alpha.call(request("POST")))
        await turns()
        draining = asyncio.create_task(alpha.drain(timedelta(seconds=20)))
        await turns()
        said.append(alpha.why_not_ready())
        await alpha._handler.call(request("GET"))  # past the turnstile, which is closed
        await asyncio.gather(at_work, draining)
        said.append(alpha.why_not_ready())
        alpha._clock_broke.set_exception(ValueError("a clock broke"))
        said.append(alpha.why_not_ready())
        await alpha.stop()
        said.append(alpha.why_not_ready())
        assert isinstance(alpha._clock_broke.exception(), ValueError)
        return said

    starting, ready, draining, again, failed, stopping = asyncio.run(life())
    assert (ready, again) == ("", "")
    told = {"starting": starting, "draining": draining, "failed": failed, "stopping": stopping}
    assert {word: word in sentence for word, sentence in told.items()} == dict.fromkeys(told, True)

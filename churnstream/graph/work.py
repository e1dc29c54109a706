"""What travels beside a record through a storey graph: the unit that makes its effects durable, and the promise to say when."""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from churnstream.errors import ChurnstreamError
from churnstream.streams.base import Unit
from churnstream.usecases.case import UseCase


@dataclass(slots=True)
class Work:
    """One record on its way. ``stored(table)`` reads what the record's shard held when this worker began.

    ``aside`` when it does not come from the stream that the function reads, but was handed back to it. ``left_out`` are the rows
    of the record that the batch is without: their numbers in it, in order.
    """

    case: UseCase
    unit: Unit
    shard: int
    offset: int
    stored: Callable[[str], Iterable[tuple[str, bytes]]]
    done: "asyncio.Future[dict[str, Any]]"
    left_out: tuple[int, ...] = ()
    aside: bool = False


async def send_through(flow: Callable[[], Any], event: Any, work: Work) -> dict[str, Any]:
    """Send ``event`` into an MLRun flow and return when its effects are durable; raises what a step raised.

    An MLRun flow answers a stream's event as soon as it is queued. This waits for the step that delivers, so that a position is
    never passed before the work behind it is done. ``flow`` is the call of MLRun's own handler.
    """
    event.work = work
    answer = flow()
    if inspect.isawaitable(answer):
        answer = await answer
    status = getattr(answer, "status_code", 200)
    if status >= 400:
        work.done.cancel()
        raise ChurnstreamError(f"the graph refused the record: {answer.body}")
    return await work.done

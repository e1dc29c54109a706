"""One worker's shards: what happens in it when they come and go."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from churnstream.errors import LeaseLost, StorageFailed
from churnstream.local import courier
from churnstream.local.function import RunningFunction
from churnstream.local.shards import Shards
from churnstream.records import Delivered

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STREAM = {"kind": "embedded-stream", "attributes": {"stream": "orders"}}
EXPLICIT = {**STREAM, "explicitAckMode": "explicitOnly"}
SEEN = """
seen, told = [], []
def init_context(context):
    context.platform.set_drain_callback(lambda: told.append(len(seen)))
def handler(context, event):
    seen.append((event.shard_id, event.offset))
"""
During = Callable[[RunningFunction, Shards, Any], Awaitable[None]]


class OrdersStream:
    """A stream of three shards, the positions of who reads it, and its leases, which others may take."""

    shards = 3

    def __init__(self) -> None:
        self.ends_at = [0] * self.shards
        self.positions: dict[int, int] = {}
        self.mine: dict[int, int] = {}
        self.others: dict[int, int] = {}
        self.locked: set[int] = set()

    def open_stream(self, name: str) -> "OrdersStream":
        return self

    def open_positions(self, function: str) -> "OrdersStream":
        return self

    def open_leases(self, function: str) -> "OrdersStream":
        return self

    def open_refusals(self, function: str) -> None:
        return None

    def read(self, shard: int, offset: int, max_records: int = 64, max_bytes: int = 0) -> list[Delivered]:
        return [Delivered("orders", shard, at, NOON, b"", 1, "k", {}) for at in range(offset, self.ends_at[shard])]

    def end(self, shard: int) -> int:
        return self.ends_at[shard]

    def rows(self, shard: int, offset: int | None = None) -> int:
        return self.end(shard)

    def get(self, stream: str, shard: int) -> int:
        return self.positions.get(shard, 0)

    def advance(self, stream: str, shard: int, next_offset: int) -> None:
        if not self.is_held(shard):
            raise LeaseLost(f"shard {shard} is held by another")
        self.positions[shard] = max(next_offset, self.get(stream, shard))

    def newest(self, shards: int) -> int:
        return max([*self.mine.values(), *self.others.values()], default=0)

    def take(self, shard: int, epoch: int) -> None:
        if shard in self.locked:
            raise StorageFailed("it is locked")
        if epoch <= self.others.get(shard, 0):
            raise LeaseLost("others were first")
        self.others.pop(shard, None)
        self.mine[shard] = epoch

    def give_up(self, shard: int) -> None:
        self.mine.pop(shard, None)

    def is_held(self, shard: int) -> bool:
        return shard in self.mine and shard not in self.others

    def close(self) -> None: ...


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> OrdersStream:
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)
    return OrdersStream()


def run(deployed: dict[str, Any], stream: OrdersStream, during: During) -> None:
    async def live() -> None:
        function = RunningFunction(deployed, stream, logging.getLogger("test"))
        await function.start(alone=False)
        assert function.shards is not None
        async with asyncio.timeout(10):
            await during(function, function.shards, function._handler._module)
            await function.stop()
        assert stream.mine == {}

    asyncio.run(live())


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await asyncio.sleep(0.001)


def test_only_what_is_held_is_read_and_a_new_shard_begins_where_its_last_holder_stopped(
    function: Callable[..., dict[str, Any]], stream: OrdersStream
) -> None:
    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        stream.ends_at[:] = [2, 2, 2]
        assert await running.hold({0: 1, 1: 1}, clocks=False) == {0: 1, 1: 1}
        await running.drain(timedelta(seconds=10))
        assert sorted(module.seen) == [(0, 0), (0, 1), (1, 0), (1, 1)]
        stream.positions[2] = 1
        await running.hold({1: 1, 2: 2}, clocks=False)
        stream.ends_at[:] = [3, 3, 3]
        await running.drain(timedelta(seconds=10))
        assert sorted(module.seen[4:]) == [(1, 2), (2, 1), (2, 2)]
        assert stream.positions == {0: 2, 1: 3, 2: 3}

    run(function(SEEN, triggers={"in": STREAM}), stream, during)


def test_before_a_shard_is_given_up_its_record_is_finished_and_the_function_flushes(
    function: Callable[..., dict[str, Any]], stream: OrdersStream
) -> None:
    code = """
import asyncio
happened = []
go = asyncio.Event()
def init_context(context):
    async def flush():
        happened.append("flush")
        await context.platform.explicit_ack(QualifiedOffset("orders", 0, 0))
    context.platform.set_drain_callback(flush)
async def handler(context, event):
    happened.append("begin")
    await go.wait()
    happened.append("end")
from nuclio_sdk import QualifiedOffset
"""

    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        stream.ends_at[0] = 1
        await running.hold({0: 1}, clocks=False)
        await until(lambda: module.happened == ["begin"])
        giving_up = asyncio.create_task(running.hold({}, clocks=False))
        await asyncio.sleep(0)
        assert stream.mine == {0: 1}
        module.go.set()
        assert await giving_up == {}
        assert module.happened == ["begin", "end", "flush"]
        assert stream.positions == {0: 1}, "what was acknowledged on the way out counts"
        assert stream.mine == {}

    run(function(code, triggers={"in": EXPLICIT}), stream, during)


def test_taking_a_shard_disturbs_no_other(function: Callable[..., dict[str, Any]], stream: OrdersStream) -> None:
    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        for epoch in (1, 2, 3):
            await running.hold(dict.fromkeys(range(epoch), 1), clocks=False)
        assert module.told == []

    run(function(SEEN, triggers={"in": STREAM}), stream, during)


@pytest.mark.parametrize("failing", ["", "    raise ValueError('refused')\n"])
def test_a_shard_that_another_has_taken_is_given_up_when_a_record_of_it_is_refused(
    function: Callable[..., dict[str, Any]], stream: OrdersStream, failing: str
) -> None:
    lost: list[tuple[int, int]] = []

    async def note(shard: int, epoch: int) -> None:
        lost.append((shard, epoch))

    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        shards.lost = note
        await running.hold({0: 4, 1: 5}, clocks=False)
        stream.others[0] = 6
        stream.ends_at[:] = [3, 3, 0]
        await until(lambda: bool(lost))
        assert lost == [(0, 4)]
        assert shards.held == {1: 5}
        assert [each for each in module.seen if each[0] == 0] == [(0, 0)], "nothing is tried again"
        assert 0 not in stream.positions
        assert module.told, "the function was told to flush, and may drop what it keeps of the shard"
        await running.hold({0: 7, 1: 5}, clocks=False)
        assert shards.held == {0: 7, 1: 5}

    run(function(SEEN + failing, triggers={"in": STREAM}), stream, during)


def test_a_shard_that_cannot_be_taken_is_left_out_and_the_others_are_read(
    function: Callable[..., dict[str, Any]], stream: OrdersStream
) -> None:
    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        stream.locked.add(0)
        stream.others[1] = 9
        stream.ends_at[:] = [1, 1, 1]
        assert await running.hold({0: 4, 1: 4, 2: 4}, clocks=False) == {2: 4}
        await running.drain(timedelta(seconds=10))
        assert module.seen == [(2, 0)]

    run(function(SEEN, triggers={"in": STREAM}), stream, during)


def test_an_acknowledgement_for_a_shard_that_is_not_held_changes_nothing(
    function: Callable[..., dict[str, Any]], stream: OrdersStream, caplog: pytest.LogCaptureFixture
) -> None:
    code = SEEN + "    global context_\n    context_ = context\n"

    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        from nuclio_sdk import QualifiedOffset

        await running.hold({0: 1, 1: 1}, clocks=False)
        stream.ends_at[:] = [1, 1, 0]
        await running.drain(timedelta(seconds=10))
        await running.hold({1: 1}, clocks=False)
        await module.context_.platform.explicit_ack(QualifiedOffset("orders", 0, 0))
        assert stream.positions == {}
        assert "an acknowledgement for orders, shard 0 was ignored" in caplog.text
        await module.context_.platform.explicit_ack(QualifiedOffset("orders", 1, 0))
        assert stream.positions == {1: 1}

    run(function(code, triggers={"in": EXPLICIT}), stream, during)


def test_a_flush_that_fails_keeps_no_shard(
    function: Callable[..., dict[str, Any]], stream: OrdersStream, caplog: pytest.LogCaptureFixture
) -> None:
    code = """
def init_context(context):
    context.platform.set_drain_callback(lambda: 1 / tries.pop())
def handler(context, event): pass
tries = [1, 0]
"""

    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        await running.hold({0: 1}, clocks=False)
        assert await running.hold({}, clocks=False) == {}
        assert stream.mine == {}
        assert "whoever holds the shards next reads it again" in caplog.text

    run(function(code, triggers={"in": STREAM}), stream, during)


def test_draining_does_not_wait_for_a_shard_that_goes_away(function: Callable[..., dict[str, Any]], stream: OrdersStream) -> None:
    async def during(running: RunningFunction, shards: Shards, module: Any) -> None:
        stream.ends_at[0] = 1
        await running.hold({0: 1}, clocks=False)
        draining = asyncio.create_task(running.drain(timedelta(seconds=10)))
        await asyncio.sleep(0)
        await running.hold({}, clocks=False)
        assert (await draining)["drained"]

    run(function("def handler(context, event): raise ValueError('no')", triggers={"in": STREAM}), stream, during)

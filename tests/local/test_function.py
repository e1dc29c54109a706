import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from churnstream.errors import NotDrained
from churnstream.local import courier
from churnstream.local.function import RunningFunction
from churnstream.records import Delivered
from churnstream.streams.delivery import LeftOut

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STREAM = {"kind": "embedded-stream", "attributes": {"stream": "orders", "consumerGroup": "alpha"}}
EXPLICIT = {**STREAM, "explicitAckMode": "explicitOnly"}
PLAIN = """
seen = []
def handler(context, event):
    seen.append((event.shard_id, event.offset, int(event.body)))
"""


class FakeStreams:
    """Streams and positions in memory: the stream's reader, the function's positions, and leases that nobody else wants."""

    def __init__(self, shards: int = 2):
        self.shards = shards
        self.records: list[list[Delivered]] = [[] for _ in range(shards)]
        self.positions: dict[tuple[str, int], int] = {}
        self.broken = 0

    def append(self, shard: int, *payloads: bytes, content_type: str = "application/json") -> None:
        for payload in payloads:
            offset = len(self.records[shard])
            self.records[shard].append(Delivered("orders", shard, offset, NOON, payload, 1, "k", {"content-type": content_type}))

    def open_stream(self, name: str) -> "FakeStreams":
        return self

    def open_positions(self, function: str) -> "FakeStreams":
        return self

    def open_leases(self, function: str) -> "FakeStreams":
        return self

    def open_refusals(self, function: str) -> None:
        return None

    def newest(self, shards: int) -> int:
        return 0

    def take(self, shard: int, epoch: int) -> None: ...

    def give_up(self, shard: int) -> None: ...

    def is_held(self, shard: int) -> bool:
        return True

    def read(self, shard: int, offset: int, max_records: int = 64, max_bytes: int = 8_000_000) -> list[Delivered]:
        if self.broken:
            self.broken -= 1
            raise OSError("the disk is away")
        return self.records[shard][offset : offset + max_records]

    def end(self, shard: int) -> int:
        return len(self.records[shard])

    def rows(self, shard: int, offset: int | None = None) -> int:
        return self.end(shard)

    def get(self, stream: str, shard: int) -> int:
        return self.positions.get((stream, shard), 0)

    def advance(self, stream: str, shard: int, next_offset: int) -> None:
        self.positions[stream, shard] = max(next_offset, self.get(stream, shard))

    def close(self) -> None: ...


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)


def run(
    deployed: dict[str, Any], streams: FakeStreams, during: Callable[[RunningFunction, Any], Awaitable[None]] | None = None
) -> Any:
    """The function's module after it has read all there was, and was stopped."""

    async def live() -> Any:
        function = RunningFunction(deployed, streams, logging.getLogger("test"))
        await function.start()
        module = function._handler._module
        if during is None:
            await function.drain(timedelta(seconds=10))
        else:
            await during(function, module)
        await function.stop()
        return module

    return asyncio.run(live())


def test_each_shard_is_read_in_order(function: Callable[..., dict[str, Any]]) -> None:
    streams = FakeStreams()
    streams.append(0, b"1", b"2", b"3")
    streams.append(1, b"4", b"5")
    seen = run(function(PLAIN, triggers={"in": STREAM}), streams).seen
    assert [each for each in seen if each[0] == 0] == [(0, 0, 1), (0, 1, 2), (0, 2, 3)]
    assert [each for each in seen if each[0] == 1] == [(1, 0, 4), (1, 1, 5)]
    assert streams.positions == {("orders", 0): 3, ("orders", 1): 2}


def test_reading_goes_on_where_it_was_left(function: Callable[..., dict[str, Any]]) -> None:
    streams = FakeStreams(1)
    streams.append(0, b"1", b"2", b"3")
    streams.advance("orders", 0, 2)
    assert run(function(PLAIN, triggers={"in": STREAM}), streams).seen == [(0, 2, 3)]


@pytest.mark.parametrize(
    "failure", ["raise ValueError(event.body)", "return context.Response(status_code=503)", "return 400, 'no'"]
)
def test_a_failing_record_is_retried_until_it_succeeds_and_nothing_overtakes_it(
    function: Callable[..., dict[str, Any]], failure: str
) -> None:
    code = f"""
tried, done = [], []
def handler(context, event):
    number = int(event.body)  # bytes, as on a cluster
    tried.append(number)
    if number == 2 and tried.count(2) < 4:
        {failure}
    done.append(number)
"""
    streams = FakeStreams(1)
    streams.append(0, b"1", b"2", b"3")
    module = run(function(code, triggers={"in": STREAM}), streams)
    assert module.tried == [1, 2, 2, 2, 2, 3]
    assert module.done == [1, 2, 3]


def test_a_record_that_never_succeeds_is_never_passed(function: Callable[..., dict[str, Any]]) -> None:
    async def drain(running: RunningFunction, module: Any) -> None:
        with pytest.raises(NotDrained, match="2 records left"):
            await running.drain(timedelta(milliseconds=50))

    streams = FakeStreams(1)
    streams.append(0, b"1", b"2")
    run(function("def handler(context, event): raise ValueError('no')", triggers={"in": STREAM}), streams, drain)
    assert streams.positions == {}


def test_a_stream_that_cannot_be_read_for_a_while_loses_nothing(function: Callable[..., dict[str, Any]]) -> None:
    streams = FakeStreams(1)
    streams.append(0, b"1")
    streams.broken = 3
    assert run(function(PLAIN, triggers={"in": STREAM}), streams).seen == [(0, 0, 1)]


def test_a_position_that_the_function_wrote_itself_is_left_alone(function: Callable[..., dict[str, Any]]) -> None:
    streams = FakeStreams(1)
    streams.append(0, b"1")

    async def drain(running: RunningFunction, module: Any) -> None:
        module.positions = streams
        await running.drain(timedelta(seconds=10))

    code = "positions = None\ndef handler(context, event): positions.advance(event.topic, event.shard_id, 7)"
    run(function(code, triggers={"in": STREAM}), streams, drain)
    assert streams.positions == {("orders", 0): 7}


DECLINED = """
def handler(context, event):
    response = context.Response(status_code=200, body="later")
    if event.body == b"2":
        response.ensure_no_ack()
    return response
"""


@pytest.mark.parametrize(("mode", "position"), [("enable", 2), ("disable", 3), (None, 3)])
def test_an_answer_may_decline_to_acknowledge_where_the_trigger_lets_it(
    function: Callable[..., dict[str, Any]], mode: str | None, position: int
) -> None:
    streams = FakeStreams(1)
    streams.append(0, b"0", b"1")
    streams.append(0, b"2")
    run(function(DECLINED, triggers={"in": {**STREAM, "explicitAckMode": mode}}), streams)
    assert streams.positions == {("orders", 0): position}


def test_explicit_only_moves_when_the_function_acknowledges(function: Callable[..., dict[str, Any]]) -> None:
    code = """
import nuclio_sdk
held = []
def init_context(context):
    async def flush():
        for offset in held[-1:]:
            await context.platform.explicit_ack(offset)
    context.platform.set_drain_callback(flush)
def handler(context, event):
    held.append(nuclio_sdk.QualifiedOffset.from_event(event))
"""
    streams = FakeStreams(1)
    streams.append(0, b"1", b"2")

    async def look(running: RunningFunction, module: Any) -> None:
        while len(module.held) < 2:
            await asyncio.sleep(0)
        assert streams.positions == {}
        assert running.report()["streams"][0]["lag"] == 2
        drained = await running.drain(timedelta(seconds=10))
        assert drained == {"drained": True, "positions": {"orders": [2]}}

    run(function(code, triggers={"in": EXPLICIT}), streams, look)
    assert streams.positions == {("orders", 0): 2}


def test_nothing_is_called_while_the_function_flushes(function: Callable[..., dict[str, Any]]) -> None:
    code = """
import asyncio
flushing, overlaps, calls = False, 0, 0
def init_context(context):
    async def flush():
        global flushing
        flushing = True
        await asyncio.sleep(0.02)
        flushing = False
    context.platform.set_drain_callback(flush)
async def handler(context, event):
    global overlaps, calls
    calls += 1
    overlaps += flushing
    await asyncio.sleep(0)
    overlaps += flushing
"""
    streams = FakeStreams(1)
    streams.append(0, b"1", b"2")

    async def both(running: RunningFunction, module: Any) -> None:
        draining = asyncio.create_task(running.drain(timedelta(seconds=10)))
        while not module.flushing:
            await asyncio.sleep(0)
        streams.append(0, b"3", b"4")
        await draining
        await running.drain(timedelta(seconds=10))

    module = run(function(code, triggers={"in": STREAM}), streams, both)
    assert (module.calls, module.overlaps) == (4, 0)


def test_a_flush_that_takes_longer_than_the_deadline_is_not_cut_short(function: Callable[..., dict[str, Any]]) -> None:
    code = """
import asyncio
flushed = 0
def init_context(context):
    async def flush():
        global flushed
        await go.wait()
        flushed += 1
    context.platform.set_drain_callback(flush)
go = asyncio.Event()
def handler(context, event): pass
"""

    async def twice(running: RunningFunction, module: Any) -> None:
        with pytest.raises(NotDrained, match="did not flush"):
            await running.drain(timedelta(milliseconds=10))
        module.go.set()
        await running.drain(timedelta(seconds=10))
        assert module.flushed == 1

    run(function(code), FakeStreams(), twice)


def test_stopping_drains_then_terminates(function: Callable[..., dict[str, Any]]) -> None:
    code = """
told = []
def init_context(context):
    context.platform.set_drain_callback(lambda: told.append("drain"))
    async def end():
        told.append("terminate")
    context.platform.set_termination_callback(end)
def handler(context, event): pass
"""

    async def nothing(running: RunningFunction, module: Any) -> None: ...

    assert run(function(code), FakeStreams(), nothing).told == ["drain", "terminate"]


def test_a_cron_trigger_calls_again_and_again_even_after_a_failure(function: Callable[..., dict[str, Any]]) -> None:
    code = """
ticks = []
def handler(context, event):
    ticks.append(event.trigger.kind)
    raise ValueError("never mind")
"""

    async def three(running: RunningFunction, module: Any) -> None:
        async with asyncio.timeout(10):
            while len(module.ticks) < 3:
                await asyncio.sleep(0.001)

    cron = {"kind": "cron", "attributes": {"interval": "5ms"}}
    assert set(run(function(code, triggers={"sweep": cron}), FakeStreams(), three).ticks) == {"cron"}


def test_init_context_may_be_asynchronous_and_start_tasks(function: Callable[..., dict[str, Any]]) -> None:
    code = """
import asyncio
async def init_context(context):
    context.user_data.task = asyncio.create_task(asyncio.sleep(0, "done"))
    seen.append(await context.user_data.task)
seen = []
def handler(context, event): pass
"""

    async def nothing(running: RunningFunction, module: Any) -> None: ...

    assert run(function(code), FakeStreams(), nothing).seen == ["done"]


def test_a_record_carries_its_place_as_nuclio_says_it(function: Callable[..., dict[str, Any]]) -> None:
    streams = FakeStreams(2)
    streams.append(1, b"raw", content_type="application/octet-stream")
    module = run(function("def handler(context, event):\n    global e\n    e = event", triggers={"in": STREAM}), streams)
    event = module.e
    assert (event.topic, event.shard_id, event.num_shards, event.offset) == ("orders", 1, 2, 0)
    assert (event.body, event.content_type, event.trigger.kind, event.path) == (
        b"raw",
        "",
        "embedded-stream",
        "/",
    )
    assert event.timestamp == NOON.replace(tzinfo=None)


class Letters:
    """Dead letters in memory; they move the position as those of a journal do."""

    redriven = ""

    def __init__(self, streams: FakeStreams, tries: int = 3):
        self.tries, self._streams = tries, streams
        self.refused: list[tuple[Delivered, list[LeftOut]]] = []

    def refuse(self, record: Delivered, letters: Sequence[LeftOut]) -> None:
        self.refused.append((record, list(letters)))
        self._streams.advance(record.stream, record.shard, record.offset + 1)


class Refusing(FakeStreams):
    """Streams of a function that has dead letters."""

    def __init__(self) -> None:
        super().__init__(1)
        self.letters = Letters(self)

    def open_refusals(self, function: str) -> Any:
        return self.letters


def test_a_record_of_a_function_that_begins_no_unit_is_passed_whole_after_its_last_try(
    function: Callable[..., dict[str, Any]],
) -> None:
    code = """
tried, done = [], []
def handler(context, event):
    tried.append(event.body)
    if event.body == b"[2, 3]":
        raise ValueError("no twos")
    done.append(event.body)
"""
    streams = Refusing()
    streams.append(0, b"1", b"[2, 3]", b"4")
    module = run(function(code, triggers={"in": STREAM}), streams)
    assert (module.tried, module.done) == ([b"1", b"[2, 3]", b"[2, 3]", b"[2, 3]", b"4"], [b"1", b"4"])
    ((record, (letter,)),) = streams.letters.refused
    assert (record.offset, letter.row, letter.original.payload) == (1, None, b"[2, 3]")
    assert letter.reason == "the function failed on it: ValueError: no twos"
    assert streams.positions == {("orders", 0): 3}


@pytest.mark.parametrize("failure", ["raise OSError('the table is away')", "return context.Response(status_code=503)"])
def test_a_record_that_waits_for_something_outside_is_never_passed_and_the_report_says_why(
    function: Callable[..., dict[str, Any]], failure: str
) -> None:
    code = f"""
away, done = True, []
def handler(context, event):
    if away:
        {failure}
    done.append(event.body)
"""
    streams = Refusing()
    streams.append(0, b"1", b"2")

    async def recover(running: RunningFunction, module: Any) -> None:
        for _ in range(30):
            with pytest.raises(NotDrained):
                await running.drain(timedelta(milliseconds=5))
        (trouble,) = running.report()["streams"][0]["trouble"]
        assert trouble.startswith("orders, shard 0, record 0: ")
        module.away = False
        await running.drain(timedelta(seconds=20))
        assert running.report()["streams"][0]["trouble"] == []
        assert module.done == [b"1", b"2"]

    run(function(code, triggers={"in": STREAM}), streams, recover)
    assert streams.letters.refused == []


def test_what_an_acknowledging_function_holds_back_is_written_before_a_record_is_passed(
    function: Callable[..., dict[str, Any]],
) -> None:
    code = """
import nuclio_sdk
held = []
def init_context(context):
    async def flush():
        while held:
            await context.platform.explicit_ack(held.pop(0))
    context.platform.set_drain_callback(flush)
def handler(context, event):
    if event.body == b"3":
        raise ValueError("no threes")
    held.append(nuclio_sdk.QualifiedOffset.from_event(event))
"""
    streams = Refusing()
    refuse = streams.letters.refuse
    before: list[int] = []

    def noted(record: Delivered, letters: Sequence[LeftOut]) -> None:
        before.append(streams.get("orders", 0))
        refuse(record, letters)

    streams.letters.refuse = noted  # type: ignore[method-assign]
    streams.append(0, b"1", b"2", b"3", b"4")
    run(function(code, triggers={"in": EXPLICIT}), streams)
    assert before == [2]
    assert streams.positions == {("orders", 0): 4}

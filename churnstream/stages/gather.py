"""Requests that come close together share a commit: what follows gets fewer and larger batches, and nobody waits long for it."""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import timedelta
from functools import partial
from typing import Any, Generic, Self, TypeVar

from churnstream.errors import UnreadablePayload
from churnstream.records import Record, shard_of
from churnstream.stages.intake import Intake, Receipt
from churnstream.streams.base import Unit
from churnstream.topology import SHARDS

HEAVY = 1_000_000  # bytes; so much is a batch already
SHARE = 3  # parts of the time, of which the work may take one: those after it in the river want theirs
LONGEST = 5  # times the wait
LONGEST_TRUCE = 256  # handovers

Item = TypeVar("Item")
Result = TypeVar("Result")


class Gathering(Generic[Item, Result]):
    """Hands items to ``work`` together, no more often than once in ``wait``; zero: each by itself.

    ``work(items)`` returns for each item its result, or an exception for the one who put it; what it raises, all get. An item
    that comes when nothing was handed over for ``wait`` is not held back at all, and none longer than ``wait``. Only under a load
    that makes the work take more than a third of it, the wait grows: to three times the work, and to five times itself at most.
    Where items come one after another, each when the one before is done, waiting gathers nothing: it is then tried ever more
    rarely. ``weigh(item)`` is a size in bytes: a heavy item goes at once.
    """

    def __init__(
        self,
        work: Callable[[Sequence[Item]], Sequence[Result | Exception]],
        wait: timedelta,
        weigh: Callable[[Item], int],
        clock: Callable[[], float] = time.perf_counter,
    ):
        self._work, self._wait, self._weigh, self._clock = work, wait.total_seconds(), weigh, clock
        self._usual = 0.0  # seconds that the work takes
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._weight = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last = float("-inf")  # when items were last handed over, by the loop's clock
        self._held = False
        self._in_vain = 0  # how often in a row waiting has gathered nothing
        self._truce = 0  # how often to hand over without waiting before it is tried again

    async def put(self, item: Item) -> Result:
        """The item's result, once ``work`` is done with it; raises what ``work`` raised or returned for it."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, future))
        self._weight += self._weigh(item)
        if not self._wait or self._weight >= HEAVY:
            self._hand_over(loop)
        elif self._timer is None:
            self._timer = loop.call_at(self._due(loop.time()), self._hand_over, loop)
        return await future

    def _due(self, now: float) -> float:
        due = self._last + min(max(self._wait, SHARE * self._usual), LONGEST * self._wait)
        self._held = due > now and not self._truce
        self._truce = max(0, self._truce - 1)
        return due if self._held else now

    def _hand_over(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting, self._weight = self._waiting, [], 0
        if len(waiting) > 1:
            self._in_vain = self._truce = 0
        elif self._held:
            self._in_vain += 1
            self._truce = min(2**self._in_vain - 2, LONGEST_TRUCE)  # once may be chance
        self._held, self._last = False, loop.time()
        began = self._clock()
        try:
            results = self._work([item for item, _ in waiting])
        except Exception as cause:
            results = [cause] * len(waiting)
        self._usual += (self._clock() - began - self._usual) / 4
        for (_, future), result in zip(waiting, results, strict=True):
            if future.done():  # nobody waits for it any more
                continue
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)


def take_together(
    bodies: Sequence[Any], intake: Intake, unit: Unit, keys: Sequence[str] | None = None
) -> list[Receipt | Exception]:
    """What became of each body, all in one ``unit``, which the caller commits; an exception for a body that could not be taken.

    ``keys`` are the Idempotency-Key of each, "" for one without.

    Bodies in which everything is good are taken as one, so that they make one batch a shard. Otherwise each is taken by itself,
    as if it had come alone: its counts are its own, and one that breaks on the way leaves nothing behind.
    """
    if keys is None or not any(keys):
        return _as_one(bodies, intake, unit) or _one_by_one(bodies, [""] * len(bodies), intake, unit)
    return _one_by_one(bodies, keys, intake, unit)


def _as_one(bodies: Sequence[Any], intake: Intake, unit: Unit) -> list[Receipt | Exception] | None:
    joined = _join(bodies) if len(bodies) > 1 else None
    if joined is None:
        return None
    body, events = joined
    draft = Draft(unit, {})
    try:
        receipt = intake.take(body, draft)
    except UnreadablePayload:
        return None
    if receipt != Receipt(sum(events), 0, 0):
        return None
    draft.commit()
    return [Receipt(count, 0, 0) for count in events]


def _one_by_one(bodies: Sequence[Any], keys: Sequence[str], intake: Intake, unit: Unit) -> list[Receipt | Exception]:
    outcomes: list[Receipt | Exception] = []
    rows: Rows = {}
    for body, key in zip(bodies, keys, strict=True):
        draft = Draft(unit, rows)
        try:
            outcomes.append(intake.take(body, draft, key))
        except UnreadablePayload as cause:  # which is in the dead letters
            outcomes.append(cause)
        except Exception as cause:
            outcomes.append(cause)
            continue
        draft.commit()
    return outcomes


def _join(bodies: Sequence[Any]) -> tuple[bytes | list[Any], list[int]] | None:
    """The bodies as one, and how many events each holds if all are good; None for bodies that cannot be joined."""
    if all(isinstance(body, bytes) and body.lstrip()[:1] == b"{" for body in bodies):
        return b"\n".join(bodies), [sum(not line.isspace() for line in body.split(b"\n") if line) for body in bodies]
    if all(body and isinstance(body, dict | list) for body in bodies):
        events = [body if isinstance(body, list) else [body] for body in bodies]
        return [event for each in events for event in each], [len(each) for each in events]
    return None


Place = tuple[str, str | bytes, int]  # in a table, or in a memory
Rows = dict[Place, bytes]


def _place(table: str, key: str, owner: str | None) -> Place:
    return table, key, shard_of(key if owner is None else owner, SHARDS)  # two owners of one shard mean the same row


class Draft(Unit):
    """A part of ``unit`` that is kept as a whole or not at all; its commit hands it to ``unit``, and makes nothing durable.

    ``rows`` are those that earlier parts have put, or remembered: they are there for this one.
    """

    replayed = False

    def __init__(self, unit: Unit, rows: Rows):
        self._unit, self._rows = unit, rows
        self._deeds: list[Callable[[], None]] = []
        self._put: Rows = {}

    def append(self, stream: str, record: Record) -> None:
        self._deeds.append(partial(self._unit.append, stream, record))

    def put(self, table: str, key: str, value: bytes, owner: str | None = None) -> None:
        self._put[_place(table, key, owner)] = value
        self._deeds.append(partial(self._unit.put, table, key, value, owner))

    def stored(self, table: str, key: str, owner: str | None = None) -> bytes | None:
        found = self._rows.get(_place(table, key, owner))
        return self._unit.stored(table, key, owner) if found is None else found

    def stored_many(self, table: str, keys: Sequence[str], owner: str) -> dict[str, bytes]:
        found = {key: self._rows.get(_place(table, key, owner)) for key in keys}
        before = self._unit.stored_many(table, [key for key, value in found.items() if value is None], owner)
        return before | {key: value for key, value in found.items() if value is not None}

    def recall(self, memory: str, keys: Collection[bytes], owner: str, span: timedelta) -> dict[bytes, bytes]:
        shard = shard_of(owner, SHARDS)
        found = {key: self._rows[memory, key, shard] for key in keys if (memory, key, shard) in self._rows}
        return found | self._unit.recall(memory, [key for key in keys if key not in found], owner, span)

    def recall_in_every_shard(self, memory: str, key: bytes, span: timedelta) -> dict[int, bytes]:
        found = {shard: self._rows[memory, key, shard] for shard in range(SHARDS) if (memory, key, shard) in self._rows}
        return self._unit.recall_in_every_shard(memory, key, span) | found

    def remember(self, memory: str, entries: Mapping[bytes, bytes], owner: str, span: timedelta) -> None:
        shard = shard_of(owner, SHARDS)
        self._put |= {(memory, key, shard): value for key, value in entries.items()}
        self._deeds.append(partial(self._unit.remember, memory, entries, owner, span))

    def refuse(self, reason: str, payload: bytes, row: int | None = None, original: Record | None = None) -> None:
        self._deeds.append(partial(self._unit.refuse, reason, payload, row, original))

    def count(self, outcome: str, rows: int, owner: str | None = None) -> None:
        self._deeds.append(partial(self._unit.count, outcome, rows, owner))

    def produced(self, producer: str, sequence: int, key: str) -> None:
        self._deeds.append(partial(self._unit.produced, producer, sequence, key))

    def commit(self) -> None:
        for deed in self._deeds:
            deed()
        self._deeds = []
        self._rows |= self._put

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.commit()

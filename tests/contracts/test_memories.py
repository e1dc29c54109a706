"""What a unit of work remembers is there for later ones until it is too old: in its shard, and with its effects only."""

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from churnstream.errors import StorageFailed, TrialPassed
from churnstream.journal import memory as memories
from churnstream.records import Record, shard_of
from churnstream.streams.delivery import DeliveredUnit, Delivery
from churnstream.topology import INCOMING, SHARDS
from churnstream.wiring import Parts
from tests.contracts.conftest import Clock

HANDLER = "incoming-event-handler"
HOUR = timedelta(hours=1)
Function = Callable[[str], Parts]


def key(number: int) -> bytes:
    return random.Random(number).randbytes(16)


def remember(parts: Parts, entries: dict[bytes, bytes], owner: str = "ann", span: timedelta = HOUR) -> None:
    with parts.begin() as unit:
        unit.remember("met", entries, owner, span)


def test_what_was_remembered_is_recalled_with_its_value_by_whoever_opens_the_function(function: Function) -> None:
    remember(function(HANDLER), {key(1): b"one", key(2): b"two"})
    unit = function(HANDLER).begin()
    assert unit.recall("met", [key(1), key(2), key(3)], "ann", HOUR) == {key(1): b"one", key(2): b"two"}
    assert unit.recall("other", [key(1)], "ann", HOUR) == {}
    bob = next(f"u{number}" for number in range(99) if shard_of(f"u{number}", SHARDS) != shard_of("ann", SHARDS))
    assert unit.recall("met", [key(1)], bob, HOUR) == {}
    assert unit.recall_in_every_shard("met", key(2), HOUR) == {shard_of("ann", SHARDS): b"two"}


def test_what_a_unit_remembers_is_not_there_before_it_is_committed_nor_without_it(function: Function) -> None:
    parts = function(HANDLER)
    unit = parts.begin()
    unit.remember("met", {key(1): b""}, "ann", HOUR)
    assert unit.recall("met", [key(1)], "ann", HOUR) == {}
    assert parts.begin().recall("met", [key(1)], "ann", HOUR) == {}
    trial = DeliveredUnit(parts.begin(), Delivery(trial=True))
    trial.remember("met", {key(1): b""}, "ann", HOUR)
    with pytest.raises(TrialPassed):
        trial.commit()
    assert parts.begin().recall("met", [key(1)], "ann", HOUR) == {}
    delivered = DeliveredUnit(unit, Delivery())
    delivered.commit()
    assert delivered.recall("met", [key(1)], "ann", HOUR) == {key(1): b""}
    assert delivered.recall_in_every_shard("met", key(1), HOUR) == {shard_of("ann", SHARDS): b""}


def test_it_is_known_until_the_span_is_over(function: Function, clock: Clock) -> None:
    parts = function(HANDLER)
    remember(parts, {key(1): b"a"})
    clock.move(HOUR - timedelta(microseconds=1))
    assert parts.begin().recall("met", [key(1)], "ann", HOUR) == {key(1): b"a"}
    clock.move(timedelta(microseconds=1))
    assert parts.begin().recall("met", [key(1)], "ann", HOUR) == {}
    assert parts.begin().recall("met", [key(1)], "ann", 2 * HOUR) == {key(1): b"a"}
    remember(parts, {key(1): b"b"})
    assert parts.begin().recall("met", [key(1)], "ann", HOUR) == {key(1): b"b"}


def test_a_write_is_refused_when_another_has_remembered_what_was_not_there(function: Function) -> None:
    here, there = function(HANDLER), function(HANDLER)
    unit, other = here.begin(), here.begin()
    assert unit.recall("met", [key(1)], "ann", HOUR) == other.recall("met", [key(2)], "ann", HOUR) == {}
    unit.append(INCOMING, Record(b"x", 1, "ann"))
    other.append(INCOMING, Record(b"y", 1, "ann"))
    remember(there, {key(1): b""})
    with pytest.raises(StorageFailed, match="changed by another worker at the same time"):
        unit.commit()
    other.commit()
    assert [each.payload for each in here.journal(shard_of("ann", SHARDS)).read(INCOMING, 0, 0, 9, 99)] == [b"y"]


@pytest.mark.parametrize("few", [1, 7, 4_096])
def test_many_are_recalled_as_from_a_dictionary(function: Function, clock: Clock, few: int, monkeypatch: Any) -> None:
    monkeypatch.setattr(memories, "FEW", few)
    rng, parts, another = random.Random(few), function(HANDLER), function(HANDLER)
    met: dict[bytes, tuple[datetime, bytes]] = {}
    for step in range(60):
        clock.move(timedelta(minutes=rng.randrange(4)))
        entries = {key(rng.randrange(300)): rng.randbytes(3) for _ in range(rng.randrange(1, 30))}
        remember(rng.choice((parts, another)), entries)
        met |= {each: (clock(), value) for each, value in entries.items()}
        asked = [key(number) for number in range(0, 320, 3)]
        known = {each: met[each][1] for each in asked if each in met and clock() - met[each][0] < HOUR}
        reader = function(HANDLER) if step % 20 == 0 else rng.choice((parts, another))
        assert reader.begin().recall("met", asked, "ann", HOUR) == known

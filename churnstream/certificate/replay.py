"""What is sent, and what is true of it: a simulated day that is mixed up on purpose, beside each customer's own story.

Every event is held up for up to 45 minutes, so that they arrive out of order. One in twenty is held up for longer: half of those
for up to as long as the case allows, half until the same customer has done something that makes them late. Where a case tells one
event from another, one in twenty is sent twice.
"""

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from churnstream.codecs import encode_json
from churnstream.features.reference import Observed, split_late
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, NUMERIC, UseCase

DISPLACED = timedelta(minutes=45)
TWICE = DELAYED = 0.05
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """One customer's events in order of arrival, each once, and which of them the rules call late."""

    arrivals: tuple[Observed, ...]
    late: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Replay:
    """``sent`` are the events in the order in which they are sent, second copies among them.

    ``delayed`` were held up for longer than the rest; ``overtaken`` arrive after a younger event of the same customer; the one
    that was moved the furthest arrives ``furthest`` places from where its event time has it.
    """

    sent: tuple[Event, ...]
    stories: Mapping[str, Story]
    twice: int
    delayed: int
    overtaken: int
    furthest: int
    digest: str


def mixed_up(case: UseCase, seed: int, customers: int, events: int, lookup: Mapping[str, float]) -> Replay:
    """``events`` simulated events beside ``customers`` first ones, in a disorder that ``seed`` decides.

    ``lookup`` is the enrichment table. Each story is told from what was made, not from what any part of the pipeline says.
    """
    assert case.simulate is not None
    rng = random.Random(f"disorder {seed}")
    made = list(case.simulate(seed, customers, events))
    arrives = [event[EVENT_TIME] + rng.random() * DISPLACED for event in made]
    delayed = _hold_up(rng, made, arrives, case.features.lateness)
    order = sorted(range(len(made)), key=arrives.__getitem__)
    copies = sorted(rng.sample(range(len(made)), round(TWICE * len(made)))) if case.identity else []
    arrivals = [(arrives[place], place) for place in range(len(made))]
    arrivals += [(arrives[place] + rng.random() * DISPLACED, place) for place in copies]
    sent = tuple(made[place] for _, place in sorted(arrivals))
    stories = _stories(case, [made[place] for place in order], lookup)
    return Replay(
        sent=sent,
        stories=stories,
        twice=len(copies),
        delayed=delayed,
        overtaken=sum(_overtaken(story.arrivals) for story in stories.values()),
        furthest=max(abs(place - index) for index, place in enumerate(order)),
        digest=hashlib.sha256(encode_json(sent)).hexdigest(),
    )


def _hold_up(rng: random.Random, made: Sequence[Event], arrives: list[datetime], lateness: timedelta) -> int:
    """Hold up one event in twenty; returns how many. What is held up for good arrives after an event that makes it late."""
    by_customer: dict[str, list[int]] = {}
    for place, event in enumerate(made):
        by_customer.setdefault(event[KEY], []).append(place)
    overtakers = {}
    for places in by_customer.values():
        for index, place in enumerate(places):
            behind = [each for each in places[index + 1 :] if made[each][EVENT_TIME] > made[place][EVENT_TIME] + lateness]
            if behind:
                overtakers[place] = behind
    half = round(DELAYED * len(made) / 2)
    for_good = rng.sample(sorted(overtakers), min(half, len(overtakers)))
    chosen = set(for_good)
    a_while = rng.sample([place for place in range(len(made)) if place not in chosen], half)
    for place in a_while:
        arrives[place] = made[place][EVENT_TIME] + DISPLACED + rng.random() * (lateness - DISPLACED)
    for place in for_good:  # each arrives at most an hour after it happened, unless it is held up for good itself
        arrives[place] = made[rng.choice(overtakers[place])][EVENT_TIME] + lateness * (1 + rng.random())
    return len(for_good) + len(a_while)


def _stories(case: UseCase, arrivals: Sequence[Event], lookup: Mapping[str, float]) -> dict[str, Story]:
    by_customer: dict[str, list[Observed]] = {}
    for event in arrivals:
        by_customer.setdefault(event[KEY], []).append(_observed(case, event, lookup))
    stories = {}
    for who, seen in by_customer.items():
        late = {id(each) for each in split_late(case.features.lateness, seen)[1]}
        stories[who] = Story(tuple(seen), tuple(id(each) in late for each in seen))
    return stories


def _observed(case: UseCase, event: Event, lookup: Mapping[str, float]) -> Observed:
    numeric = {each.name for each in case.fields if each.kind in NUMERIC}
    values = {name: float(value) for name, value in event.items() if name in numeric}
    join = case.enrichment
    if join is not None and event[EVENT_TYPE] == join.event:
        values[join.column] = lookup.get(event[join.key], join.default)
    return Observed(event[EVENT_TYPE], event[EVENT_TIME], values)


def _overtaken(arrivals: Sequence[Observed]) -> int:
    count, newest = 0, arrivals[0].at
    for each in arrivals:
        count += each.at < newest
        newest = max(newest, each.at)
    return count


def cut(events: Sequence[Event], rng: random.Random, typical: int) -> Iterator[Sequence[Event]]:
    """``events`` in pieces of random size: mostly around ``typical``, some of one event, some of many."""
    start = 0
    while start < len(events):
        size = 1 + int(rng.expovariate(1 / typical))
        yield events[start : start + size]
        start += size

"""The cache before the feature table: bounded, never older than it says, and silence counts."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pytest

from churnstream.certificate.every_window import CASE, simulate  # every kind of window there is
from churnstream.codecs import EventDecoder, encode_json
from churnstream.errors import BadRequest, UnknownCustomer
from churnstream.features.reference import Observed, feature_vector
from churnstream.graph.engine import WindowEngine
from churnstream.serving.lookup import Customers, stands_still
from churnstream.stages.enrich import enrich as stages_enrich
from churnstream.usecases import casual_game, first_day
from churnstream.usecases.case import UseCase

SECOND = timedelta(seconds=1)
EVENTS = list(simulate(3, 40, 1_200))
NOW = max(each["event_time"] for each in EVENTS) + timedelta(minutes=7)


class Table:
    """In memory; counts how often it is read. ``versioned=False`` is one that cannot say whether anything has changed."""

    def __init__(self, rows: dict[str, bytes], versioned: bool = True):
        self.rows, self.versioned = dict(rows), versioned
        self.reads = self.changes = 0

    def get(self, key: str) -> bytes | None:
        self.reads += 1
        return self.rows.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.rows[key] = value
        self.changes += 1

    def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        return {key: self.rows[key] for key in keys if key in self.rows}

    def version(self, key: str) -> int | None:
        return self.changes if self.versioned else None


class Clock:
    def __init__(self, at: datetime):
        self.at = at

    def __call__(self) -> datetime:
        return self.at


@cache
def batch(upto: int) -> pa.RecordBatch:
    return EventDecoder(CASE).decode(encode_json(EVENTS[:upto])).batch


@cache
def states(upto: int = len(EVENTS)) -> dict[str, bytes]:
    """Everybody's bytes after so many events."""
    return WindowEngine(CASE).apply(batch(upto)).states


def expected(user: str, at: datetime, upto: int = len(EVENTS)) -> tuple[float, ...]:
    numbers = {each.name for each in CASE.fields if each.name != "event_id"}
    history = [
        Observed(each["event_type"], each["event_time"], {name: float(each[name]) for name in numbers if name in each})
        for each in EVENTS[:upto]
        if each["user_id"] == user
    ]
    found = feature_vector(CASE.features, history, at)
    assert found is not None
    return found


def equal(ours: object, theirs: object) -> bool:
    return bool(np.allclose(ours, theirs, rtol=1e-9, atol=1e-9, equal_nan=True))  # type: ignore[arg-type]


@pytest.fixture
def clock() -> Clock:
    return Clock(NOW)


def customers(table: Table, clock: Clock, **given: object) -> Customers:
    return Customers(CASE, table, clock, **given)  # type: ignore[arg-type]


def known(table: Table, clock: Clock) -> list[str]:
    return [user for user in table.rows if is_known(customers(table, clock), user)]


def test_everybody_is_known_as_the_reference_knows_them_now_and_as_silence_goes_on(clock: Clock) -> None:
    table = Table(states())
    cached, users = customers(table, clock), known(table, clock)
    assert len(users) > 30
    for wait in (timedelta(0), timedelta(minutes=20), timedelta(hours=3), timedelta(days=2)):
        clock.at = NOW + wait
        for user in users:
            found = cached(user)
            assert found.as_of == clock.at
            assert equal(found.values, expected(user, clock.at))
            assert found.age == clock.at - found.newest


def test_what_is_fresh_is_not_read_again_and_what_is_unchanged_is_read_from_memory(clock: Clock) -> None:
    table = Table(states())
    cached, user = customers(table, clock), known(Table(states()), clock)[0]
    first = cached(user)
    clock.at += 0.99 * SECOND
    assert cached(user) is first
    clock.at += SECOND
    assert cached(user).as_of == clock.at
    assert table.reads == 1


@pytest.mark.parametrize("versioned", [True, False])
def test_no_answer_is_older_than_it_may_be(clock: Clock, versioned: bool) -> None:
    before, after = states(600), states()
    user = next(each for each in after if after[each] != before.get(each) and each in known(Table(before), clock))
    table = Table(before, versioned)
    cached = customers(table, clock)
    assert equal(cached(user).values, expected(user, NOW, 600))
    table.put(user, after[user])
    clock.at = NOW + SECOND
    assert equal(cached(user).values, expected(user, clock.at))


def test_news_is_read_at_once(clock: Clock) -> None:
    before, after = states(600), states()
    user = next(each for each in after if after[each] != before.get(each) and each in known(Table(before), clock))
    table = Table(before)
    cached = customers(table, clock)
    cached(user)
    table.put(user, after[user])
    cached.heard(["somebody else"])
    assert equal(cached(user).values, expected(user, NOW, 600))
    cached.heard([user])
    assert equal(cached(user).values, expected(user, NOW))


def test_it_holds_no_more_than_it_may_and_forgets_the_idle_first(clock: Clock) -> None:
    table = Table(states())
    users = known(table, clock)
    cached = customers(table, clock, most=10)
    for user in users:
        cached(users[0])
        clock.at += 2 * SECOND
        assert equal(cached(user).values, expected(user, clock.at))
        assert len(cached) <= 10
    table.reads = 0
    cached(users[0])
    assert table.reads == 0
    cached(users[1])
    assert table.reads == 1


@pytest.mark.parametrize("case", [first_day.CASE, casual_game.CASE], ids=lambda case: case.name)
def test_where_no_window_moves_silence_changes_no_number(case: UseCase) -> None:
    assert stands_still(case.features)
    assert not stands_still(CASE.features)
    rng, begin = np.random.default_rng(1), datetime(2026, 1, 1, tzinfo=UTC)
    kinds = [case.example["event_type"], case.features.anchor, *filter(None, [case.features.requires])]
    numbers = [each.name for each in case.fields] + ([case.enrichment.column] if case.enrichment else [])
    history = [
        Observed(
            str(rng.choice(kinds)), begin + timedelta(hours=float(at)), {name: float(rng.integers(1, 9)) for name in numbers}
        )
        for at in np.sort(rng.uniform(0, 40, 60))
    ]
    newest = history[-1].at
    for wait in (timedelta(seconds=1), timedelta(days=1), timedelta(days=300)):
        ours, theirs = (feature_vector(case.features, history, at) for at in (newest, newest + wait))
        assert np.array_equal(np.array(ours, float), np.array(theirs, float), equal_nan=True)


def test_a_still_table_gets_older_and_is_read_once() -> None:
    events = list(first_day.simulate(1, 5, 100))
    applied = WindowEngine(first_day.CASE).apply(enrich(EventDecoder(first_day.CASE).decode(encode_json(events)).batch))
    clock, table = Clock(NOW + timedelta(days=30)), Table(applied.states)
    cached = Customers(first_day.CASE, table, clock)
    user = next(each for each in table.rows if is_known(cached, each))
    first = cached(user)
    clock.at += 5 * SECOND
    again = cached(user)
    assert again.as_of == first.as_of + 5 * SECOND
    assert again.age == first.age + 5 * SECOND
    assert again.values == first.values


def enrich(batch: pa.RecordBatch) -> pa.RecordBatch:
    return stages_enrich(batch, first_day.CASE, Table({}, versioned=False))[0]  # type: ignore[arg-type]


def is_known(cached: Customers, user: str) -> bool:
    try:
        return bool(cached(user))
    except UnknownCustomer:
        return False


def test_nobody_is_known_before_the_table_says_so(clock: Clock) -> None:
    table = Table({})
    cached = customers(table, clock)
    user = known(Table(states()), clock)[0]
    with pytest.raises(UnknownCustomer, match=user):
        cached(user)
    table.put(user, states()[user])
    assert equal(cached(user).values, expected(user, NOW))


def test_events_ahead_of_the_clock_are_read_at_their_own_time(clock: Clock) -> None:
    user = known(Table(states()), clock)[0]
    clock.at = datetime(2020, 1, 1, tzinfo=UTC)
    found = customers(Table(states()), clock)(user)
    assert found.as_of == found.newest
    assert equal(found.values, expected(user, found.newest))


def test_another_instant_may_be_asked_for_but_not_the_past(clock: Clock) -> None:
    cached = customers(Table(states()), clock)
    user = known(Table(states()), clock)[0]
    later = NOW + timedelta(hours=5)
    assert equal(cached.at(user, later).values, expected(user, later))
    with pytest.raises(BadRequest, match="before the customer's newest event"):
        cached.at(user, cached(user).newest - SECOND)
    assert cached(user).as_of == NOW


def test_a_clock_that_goes_back_makes_nothing_fresh(clock: Clock) -> None:
    table = Table(states(), versioned=False)
    cached, user = customers(table, clock), known(Table(states()), clock)[0]
    cached(user)
    clock.at = NOW - timedelta(minutes=1)
    cached(user)
    assert table.reads == 2

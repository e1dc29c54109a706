"""Looking, over many lives of a worker, for the rows that end it."""

import asyncio
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from math import ceil, log2

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.errors import PlatformFailed, TrialPassed
from churnstream.local import courier
from churnstream.local.caution import Caution
from churnstream.local.contract import Answer
from churnstream.local.courier import Courier
from churnstream.local.suspects import DEATHS, SEARCH_WINDOW_S, SEARCHES, Suspects, Suspicion
from churnstream.local.turnstile import Turnstile
from churnstream.records import Delivered
from churnstream.streams.delivery import Delivery, LeftOut

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
PLACE = ("orders", 0, 7)


class Death(BaseException):
    """Ends a life."""


class Worker:
    """Life after life, it gets one record of ``rows`` through. ``out`` is what came of it, ``refused`` what was left out."""

    tries, redriven = 1, ""

    def __init__(self, rows: int, deadly: set[int], raising: set[int] = frozenset(), joins: bool = True):  # type: ignore[assignment]
        self.suspects, self.lives, self.alive = Suspects(), 0, False
        self.out: list[int] = []
        self.refused: list[tuple[int | None, str]] = []
        self._deadly, self._raising, self._joins = deadly, raising, joins
        payload = b"\n".join(b'{"n": %d}' % number for number in range(rows))
        self._record = Delivered(*PLACE, NOON, payload, rows, "", {})
        self.forgetful = 0

    def live_until_it_is_through(self) -> None:
        while True:
            self.lives, self.alive = self.lives + 1, True
            try:
                asyncio.run(self._deliver())
                return
            except Death:
                self.suspects.died(0, [0], "was ended")

    async def _deliver(self) -> None:
        alone = Turnstile()
        caution = Caution(self, alone) if 0 in self.suspects.shards else None
        log, stopping = logging.getLogger("nobody"), asyncio.Event()
        log.setLevel(logging.CRITICAL)
        deliver = Courier("orders, shard 0", self._hand_over, self, False, self._behind, stopping, log, alone, caution).deliver
        await deliver(self._record)

    async def _hand_over(self, record: Delivered, delivery: Delivery) -> Answer:
        numbers = [int(line.split()[-1][:-1]) for line in record.payload.splitlines()]
        delivery.joined = self._joins
        if self._deadly.intersection(numbers):
            self.alive = False
            raise Death
        if self._raising.intersection(numbers):
            raise ZeroDivisionError
        if delivery.trial and self._joins:
            delivery.passed = True
            raise TrialPassed
        self.out += numbers
        self.refused += [(each.row, each.reason) for each in delivery.left_out]
        return Answer(200, b"")

    async def _behind(self, record: Delivered) -> bool:
        return True

    def refuse(self, record: Delivered, letters: Sequence[LeftOut]) -> None:
        self.refused += [(each.row, each.reason) for each in letters]

    # -- the witness -----------------------------------------------------------------------------------------------------------

    async def recall(self, record: Delivered) -> Suspicion:
        if self.forgetful:
            self.forgetful -= 1
            raise PlatformFailed("nobody answers")
        return self.suspects.recall(PLACE)

    async def begin(self, record: Delivered, trial: bool, outcomes: Sequence[str]) -> None:
        self.suspects.begin(0, PLACE, trial, outcomes)

    async def returned(self, record: Delivered) -> None:
        if self.alive:  # else the handler never came back
            self.suspects.returned(0)

    async def through(self, record: Delivered, last: bool) -> None:
        self.suspects.through(PLACE, last)


@settings(max_examples=40)
@given(
    st.integers(1, 60).flatmap(
        lambda rows: st.tuples(st.just(rows), st.sets(st.integers(0, rows - 1)), st.sets(st.integers(0, rows - 1)))
    )
)
def test_exactly_the_rows_that_end_it_or_raise_are_left_out(drawn: tuple[int, set[int], set[int]]) -> None:
    rows, deadly, raising = drawn
    worker = Worker(rows, deadly, raising - deadly)
    worker.live_until_it_is_through()
    bad = deadly | raising
    assert worker.out == [number for number in range(rows) if number not in bad]
    assert [row for row, _ in worker.refused] == sorted(bad)
    for row, reason in worker.refused:
        assert ("the function's process was ended" in reason) == (row in deadly)
    assert worker.lives <= 1 + DEATHS + len(deadly) * (2 * ceil(log2(rows + 1)) + 3) if deadly else worker.lives == 1
    if deadly:
        assert not worker.suspects.shards, "the doubt has passed"


def test_one_row_among_a_thousand_costs_about_log2_lives() -> None:
    worker = Worker(1_000, {617})
    worker.live_until_it_is_through()
    assert worker.refused == [(617, "the function's process was ended while it worked on it")]
    assert worker.lives <= 1 + DEATHS + ceil(log2(1_000)) + 2


def test_a_function_that_begins_no_unit_loses_the_whole_record() -> None:
    worker = Worker(8, {7}, joins=False)
    worker.live_until_it_is_through()
    assert worker.refused == [(None, "the function's process was ended while it worked on it")]


def test_who_does_not_answer_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)
    worker = Worker(4, {2})
    worker.forgetful = 3
    worker.live_until_it_is_through()
    assert worker.out == [0, 1, 3]


def test_deaths_with_nothing_in_hand_or_of_different_records_prove_nothing() -> None:
    suspects = Suspects()
    for _ in range(9):
        assert not suspects.died(0, [0, 1], "was ended")
    suspects.begin(0, PLACE, False, [])
    suspects.died(0, [0], "was ended")
    suspects.begin(0, ("orders", 1, 7), False, [])
    suspects.died(0, [0], "was ended")
    assert suspects.recall(PLACE).reason == ""
    suspects.begin(0, PLACE, False, [])
    suspects.returned(0)
    suspects.died(0, [0], "was ended")
    assert suspects.recall(PLACE).reason == "", "the function had come back"
    suspects.begin(1, PLACE, False, [])
    suspects.died(1, [0], "was ended by SIGSEGV")
    assert suspects.recall(PLACE).reason == "the function's process was ended by SIGSEGV while it worked on it"
    suspects.through(PLACE, True)
    assert suspects.recall(PLACE) == Suspicion()
    assert suspects.shards == {1}


def test_a_search_is_free_until_it_costs_too_many_lives_at_once() -> None:
    now = 0.0
    suspects = Suspects(lambda: now)

    def search() -> bool:
        suspects.begin(0, PLACE, True, [])
        return suspects.died(0, [0], "was ended")

    assert [search() for _ in range(SEARCHES + 1)] == [True] * SEARCHES + [False]
    now = SEARCH_WINDOW_S + 1
    assert search()

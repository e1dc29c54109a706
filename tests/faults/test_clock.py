"""A clock that jumps by days, back and forth, between commits: streams stay in order, nothing waits for it, accounts add up."""

import itertools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churnstream.operations.ledger import total
from churnstream.reading import ledger, peek
from churnstream.topology import INCOMING
from tests.functions.river import River, assert_conserved

DOOR, ARCHIVE = "incoming-event-handler", "stream-to-parquet"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
JUMPS = [timedelta(days=each) for each in (0, 3, -4, 0, 10, -30)]


@pytest.fixture
def river(tmp_path: Path) -> River:
    return River(tmp_path / "home", "first_day")


def jumping(jumps: Iterator[timedelta]) -> Callable[[], datetime]:
    """A clock that is somewhere else whenever somebody looks."""
    return lambda: START + next(jumps)


def body(number: int) -> bytes:
    told = '{{"user_id": "ann", "event_type": "new_bet", "event_time": "2026-01-03T12:00:{:02d}Z", "bet_amount": {}.0}}'
    return told.format(number, number).encode()


def test_a_stream_keeps_its_order_and_its_account_whatever_the_clock_says(river: River) -> None:
    with river.door(DOOR, clock=jumping(itertools.cycle(JUMPS))) as door:
        assert [door.post(body(number)).status_code for number in range(30)] == [202] * 30
    assert [row["bet_amount"] for row in river.rows(INCOMING)] == [float(number) for number in range(30)]
    assert_conserved(river, DOOR)
    for line in total(ledger(river.settings)):
        assert line.busy >= timedelta(0)
        assert line.began is None or line.ended is None or line.began <= line.ended
    assert len(peek(INCOMING, 0, river.settings)) == 30


@pytest.mark.parametrize("jump", JUMPS[1:3])
def test_rows_are_not_kept_waiting_for_a_day_that_has_been_already(river: River, jump: timedelta) -> None:
    with river.door(DOOR) as door:
        assert door.post(body(0)).status_code == 202
    now = [START]
    with river.door(ARCHIVE, clock=lambda: now[0]) as archive:
        archive.pump()
        now[0] += jump
        sink = archive.context.user_data.sink
        assert [offset for _, offset in sink.flush_old()] == [0]
    assert len([*river.settings.archive.rglob("*.parquet")]) == 1
    assert_conserved(river, ARCHIVE)

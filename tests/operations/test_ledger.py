"""in = applied + duplicate + late + invalid + erased, in numbers and in a sentence."""

from datetime import UTC, datetime, timedelta

import pytest

from churnstream.operations.ledger import OUTCOMES, Line, total

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def test_a_line_that_adds_up_says_so() -> None:
    line = Line(
        "enrich-stream", "incoming-events-stream", None, given=1_236, applied=1_200, duplicate=4, late=20, invalid=10, erased=2
    )
    assert line.unaccounted == 0
    assert line.sentence() == (
        "enrich-stream from incoming-events-stream:"
        " 1,236 in = 1,200 applied + 4 duplicate + 20 late + 10 invalid + 2 erased (exact)"
    )


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize("fault", [1, -1])
def test_a_line_that_does_not_add_up_cannot_be_overlooked(outcome: str, fault: int) -> None:
    line = Line("a", "s", None, given=10, **({"applied": 10} | {outcome: 10 - fault if outcome == "applied" else -fault}))  # type: ignore[arg-type]
    assert line.unaccounted == fault
    assert f"({fault} UNACCOUNTED FOR)" in line.sentence()


def test_the_total_adds_shards_and_keeps_functions_and_sources_apart() -> None:
    lines = [
        Line("a", "s", 0, given=5, applied=4, late=1, waiting=2, began=NOON, ended=NOON + 9 * SECOND, busy=SECOND),
        Line("a", "s", 1, given=7, applied=7, waiting=1, began=NOON - SECOND, ended=NOON, busy=2 * SECOND),
        Line("a", "http", 0, given=1, invalid=1),
        Line("b", "s", 0, given=3, duplicate=3),
    ]
    assert total(lines) == [
        Line("a", "s", None, 12, 11, 0, 1, 0, 0, 3, NOON - SECOND, NOON + 9 * SECOND, 3 * SECOND),
        Line("a", "http", None, given=1, invalid=1),
        Line("b", "s", None, given=3, duplicate=3),
    ]


def test_a_fault_in_one_shard_is_a_fault_of_the_total() -> None:
    assert total([Line("a", "s", 0, given=5, applied=4), Line("a", "s", 1, given=5, applied=5)])[0].unaccounted == 1


def test_speed_is_rows_for_each_second_at_work() -> None:
    assert Line("a", "s", None, given=500, busy=2 * SECOND).rows_per_s == 250.0
    assert Line("a", "s", None).rows_per_s == 0.0

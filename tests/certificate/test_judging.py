from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import inf, nan, nextafter

import numpy as np
import pytest

from churnstream.certificate.judging import Judge
from churnstream.certificate.tally import LISTED, Moment, Point, Tally
from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op, Ratio, Trend
from churnstream.features.reference import Observed, feature_vector
from churnstream.features.windows import Lifetime, Sliding

AT = datetime(2026, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)


def feature(name: str, op: Op) -> Feature:
    return Feature(name, "buy", None if op is Op.COUNT else "amount", op, Lifetime(), "", "")


TABLE = FeatureTable(
    (
        feature("count", Op.COUNT),
        feature("sum", Op.SUM),
        feature("mean", Op.MEAN),
        feature("var", Op.VAR),
        feature("std", Op.STD),
        Attribute("rank", "hello", "rank", "", ""),
        Trend("trend", Feature("mean1h", "buy", "amount", Op.MEAN, Sliding(HOUR), "", ""), HOUR, "", ""),
        Ratio("ratio", "sum", "count", "", ""),
    )
)
MIXED = (1.0, 2.5, 100.10)
EQUAL = (100.10,) * 7


def judged(name: str, found: float, amounts: Sequence[float] = MIXED, way: str = "stream") -> Tally:
    """The tally of one point at which the feature ``name`` of ``way`` is ``found`` and all the rest is right."""
    history = [Observed("buy", AT + place * timedelta(minutes=20), {"amount": amount}) for place, amount in enumerate(amounts)]
    at = history[-1].at
    wanted = feature_vector(TABLE, history, at)
    assert wanted is not None
    right, wrong = np.array(wanted), np.array(wanted)
    wrong[TABLE.names.index(name)] = found
    judge = Judge("tiny", TABLE)
    ways = {"stream": right, "serving": right} | {way: wrong}
    judge.add(Point("ann", at, Moment.EVENT, wanted, (ways["stream"],), (right, ways["serving"]), history, len(history)))
    judge.flush()
    return judge.tally


def value(name: str, amounts: Sequence[float] = MIXED) -> float:
    history = [Observed("buy", AT + place * timedelta(minutes=20), {"amount": amount}) for place, amount in enumerate(amounts)]
    wanted = feature_vector(TABLE, history, history[-1].at)
    assert wanted is not None
    return wanted[TABLE.names.index(name)]


def test_equal_vectors_have_no_difference_and_unknown_equals_unknown() -> None:
    tally = judged("sum", value("sum"))
    assert tally.differences == 0
    assert [(column.numbers, column.equal, column.worst) for column in tally.columns] == [(3, 3, 0.0)] * len(TABLE.names)
    assert [column.filled for column in tally.columns] == [3, 3, 3, 3, 3, 0, 0, 3]  # no rank, and no mean of an hour ago
    assert (tally.streamed, tally.served, tally.points[Moment.EVENT]) == (1, 2, 1)


@pytest.mark.parametrize("way", ["stream", "serving"])
@pytest.mark.parametrize("name", ["count", "sum"])
def test_a_count_or_a_sum_that_is_off_by_its_last_bit_differs(name: str, way: str) -> None:
    wrong = nextafter(value(name), inf)
    tally = judged(name, wrong, way=way)
    (found,) = tally.listed
    assert (found.customer, found.feature) == ("ann", name)
    assert {"stream": found.stream, "serving": found.serving} == {"stream": value(name), "serving": value(name)} | {way: wrong}
    assert found.batch == value(name)
    assert tally.differences == 1


@pytest.mark.parametrize("name", ["mean", "var", "std", "ratio"])
def test_what_rounds_may_differ_by_a_billionth_and_no_more(name: str) -> None:
    near, far = (judged(name, value(name) * (1 + error)) for error in (5e-10, 5e-9))
    column = near.columns[TABLE.names.index(name)]
    assert near.differences == 0
    assert column.worst == pytest.approx(5e-10, rel=1e-3)
    assert (column.worst_of, column.equal) == ("ann", 2)
    assert far.differences == 1


@pytest.mark.parametrize(("name", "power"), [("var", 1), ("std", 2)])
def test_a_variance_of_equal_amounts_is_measured_by_their_size(name: str, power: int) -> None:
    least = 1e-6 * 100.10**2
    near, far = (judged(name, (least * error) ** (1 / power), EQUAL) for error in (5e-10, 5e-9))
    assert near.differences == 0
    assert near.columns[TABLE.names.index(name)].rounding == 1
    assert far.differences == 1


def test_a_trend_is_measured_by_what_it_subtracts() -> None:
    # means of an hour: 100.10 an hour ago, 100.10 now; their difference is rounding
    near, far = (judged("trend", 100.10 * error, EQUAL) for error in (5e-10, 5e-9))
    assert (near.differences, far.differences) == (0, 1)


@pytest.mark.parametrize(("name", "found"), [("sum", nan), ("rank", 0.0), ("mean", inf), ("var", nan)])
def test_a_number_is_not_equal_to_an_unknown_or_an_infinite_one(name: str, found: float) -> None:
    assert judged(name, found).differences == 1


@pytest.mark.parametrize("there", [True, False])
def test_a_vector_is_not_equal_to_none(there: bool) -> None:
    judge, vector = Judge("tiny", TABLE), np.zeros(len(TABLE.names))
    wanted = tuple(vector) if there else None
    found = None if there else vector
    judge.add(Point("ann", AT, Moment.SILENCE, wanted, (found,), (vector if there else None,), [], 0))
    judge.flush()
    (listed,) = judge.tally.listed
    assert (listed.feature, listed.stream) == ("(the vector)", "no vector" if there else "a vector")
    assert listed.batch == listed.serving == ("a vector" if there else "no vector")


def test_no_vector_is_equal_to_no_vector_and_counted() -> None:
    judge = Judge("tiny", TABLE)
    judge.add(Point("ann", AT, Moment.EVENT, None, (None,), (None, None), [], 0))
    judge.flush()
    assert (judge.tally.differences, judge.tally.without) == (0, 1)


def test_all_differences_are_counted_and_the_first_twenty_listed() -> None:
    judge = Judge("tiny", TABLE, block=7)
    wanted = (1.0,) * len(TABLE.names)
    for number in range(50):
        found = np.array(wanted)
        found[0] = 2.0
        judge.add(Point(f"c{number}", AT, Moment.EVENT, wanted, (found,), (found,), [], 0))
    judge.flush()
    assert judge.tally.differences == 50
    assert [each.customer for each in judge.tally.listed] == [f"c{number}" for number in range(LISTED)]


def test_tallies_add_up_and_keep_the_worst() -> None:
    small, large = judged("mean", value("mean") * (1 + 1e-12)), judged("mean", value("mean") * (1 + 1e-8))
    worst = large.columns[2].worst
    small.add(large)
    assert small.columns[2].worst == worst
    assert (small.columns[2].numbers, small.columns[2].equal, small.differences, len(small.listed)) == (6, 4, 1, 1)
    assert small.points[Moment.EVENT] == 2

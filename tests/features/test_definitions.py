"""What a feature means has a fingerprint; what is said about it has not."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isnan

import pytest

from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op
from churnstream.features.reference import Observed, feature_vector, split_late
from churnstream.features.windows import First, Lifetime

HOUR = First(timedelta(hours=1))
BUYS = Feature("buys", "buy", None, Op.COUNT, HOUR, "events", "Buys.")
SPENT = Feature("spent", "buy", "amount", Op.SUM, HOUR, "EUR", "Spent.")
RANK = Attribute("rank", "hello", "rank", "", "Rank.", default=-1.0)
TABLE = FeatureTable(anchor="buy", features=(BUYS, SPENT, RANK))
START = datetime(2026, 3, 1, tzinfo=UTC)


def seen(event: str, minutes: float, **values: float) -> Observed:
    return Observed(event, START + timedelta(minutes=minutes), values)


@pytest.mark.parametrize(
    "other",
    [
        replace(TABLE, anchor="hello"),
        replace(TABLE, requires="hello"),
        replace(TABLE, lateness=timedelta(hours=2)),
        replace(TABLE, features=(SPENT, BUYS, RANK)),
        replace(TABLE, features=(BUYS, SPENT)),
        *(
            replace(TABLE, features=(BUYS, replace(SPENT, **change), RANK))  # type: ignore[arg-type]
            for change in (
                {"name": "s"},
                {"event": "sell"},
                {"field": "tax"},
                {"op": Op.MAX},
                {"window": First(timedelta(hours=2))},
                {"window": Lifetime()},
            )
        ),
        replace(TABLE, features=(BUYS, SPENT, replace(RANK, default=0.0))),
    ],
)
def test_another_meaning_has_another_fingerprint(other: FeatureTable) -> None:
    assert other.fingerprint != TABLE.fingerprint


def test_another_docstring_has_the_same_fingerprint() -> None:
    same = replace(TABLE, features=(replace(BUYS, doc="Purchases."), SPENT, RANK))
    assert same.fingerprint == TABLE.fingerprint


# The reference, by hand:
#
#   minutes   -10    0     30    59.99    60
#             look  buy   buy    buy     buy       window of an hour from the first buy: [0, 60)
HISTORY = [
    seen("buy", 0, amount=1.0),
    seen("buy", 30, amount=2.0),
    seen("buy", 59.99, amount=4.0),
    seen("buy", 60, amount=8.0),
    seen("look", -10),
]


def vector(table: FeatureTable, history: list[Observed], minutes: float = 1_000) -> tuple[float, ...] | None:
    return feature_vector(table, history, START + timedelta(minutes=minutes))


def test_a_window_holds_its_first_instant_and_not_its_last() -> None:
    assert vector(TABLE, HISTORY) == (3.0, 7.0, -1.0)


def test_what_comes_later_is_not_looked_at() -> None:
    assert vector(TABLE, HISTORY, 30) == (2.0, 3.0, -1.0)
    assert vector(TABLE, HISTORY, -5) is None


def test_an_earlier_anchor_that_arrives_later_moves_the_window() -> None:
    assert vector(TABLE, [*HISTORY, seen("buy", -1, amount=16.0)]) == (3.0, 19.0, -1.0)


def test_there_is_no_vector_before_the_required_event() -> None:
    table = replace(TABLE, requires="hello")
    assert vector(table, HISTORY) is None
    assert vector(table, [*HISTORY, seen("hello", 90, rank=3.0)], 89) is None
    assert vector(table, [*HISTORY, seen("hello", 90, rank=3.0)], 90) == (3.0, 7.0, 3.0)


def test_the_newest_attribute_wins_and_of_two_at_one_instant_the_later_arrival() -> None:
    told = [seen("hello", 5, rank=1.0), seen("hello", 2, rank=2.0), seen("hello", 5, rank=3.0)]
    found = vector(TABLE, [*HISTORY, *told])
    assert found is not None
    assert found[2] == 3.0


FEW = [
    (Op.COUNT, [], 0.0),
    (Op.SUM, [], 0.0),
    (Op.SUM, [0.1] * 10, 1.0),
    (Op.MEAN, [], None),
    (Op.MEAN, [1.0, 2.0], 1.5),
    (Op.VAR, [], None),
    (Op.VAR, [5.0], None),
    (Op.VAR, [5.0, 5.0], 0.0),
    (Op.VAR, [1.0, 2.0, 3.0], 1.0),
    (Op.MIN, [], None),
    (Op.MIN, [3.0, 1.0], 1.0),
    (Op.MAX, [], None),
    (Op.MAX, [3.0, 1.0], 3.0),
    (Op.LAST_AT, [], None),
    (Op.LAST_AT, [1.0, 1.0, 1.0], 120.0),
]


@pytest.mark.parametrize(("op", "amounts", "wanted"), FEW)
def test_each_op_on_few_events(op: Op, amounts: list[float], wanted: float | None) -> None:
    field = None if op in (Op.COUNT, Op.LAST_AT) else "amount"
    table = FeatureTable((Feature("x", "buy", field, op, HOUR, "", ""),), anchor="hello")
    history = [seen("hello", 0), *(seen("buy", minute, amount=amount) for minute, amount in enumerate(amounts))]
    found = vector(table, history)
    assert found is not None
    assert isnan(found[0]) if wanted is None else found[0] == wanted


def test_an_event_as_late_as_is_allowed_is_applied_and_one_microsecond_more_is_not() -> None:
    edge = Observed("buy", START - timedelta(hours=1), {})
    beyond = Observed("buy", START - timedelta(hours=1, microseconds=1), {})
    arrivals = [seen("buy", 0), edge, beyond]
    assert split_late(timedelta(hours=1), arrivals) == ([arrivals[0], edge], [beyond])


def test_a_late_event_does_not_make_others_late() -> None:
    arrivals = [seen("buy", 0), seen("buy", -500), seen("buy", -59)]
    assert split_late(timedelta(hours=1), arrivals)[1] == [arrivals[1]]

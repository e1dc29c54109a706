"""A window that cannot be is refused when it is made."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from churnstream.errors import InvalidDefinition
from churnstream.features.definitions import Feature, FeatureTable, Op, Ratio, Trend, lag
from churnstream.features.windows import First, Lifetime, Session, Sliding, Tumbling

HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
FIELDS = {"buy": {"amount": True}}
SPENT = Feature("spent", "buy", "amount", Op.SUM, Sliding(HOUR, 10 * MINUTE), "EUR", "")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: First(timedelta(0)), "a window from the anchor has a length of 0:00:00; it must be above 0"),
        (lambda: Sliding(-HOUR), "a sliding window has a length of -1 day"),
        (lambda: Sliding(HOUR, timedelta(0)), "the period of a sliding window has a length of 0:00:00"),
        (lambda: Sliding(HOUR, 7 * MINUTE), "cannot be cut into whole periods of 0:07:00"),
        (lambda: Sliding(HOUR, 10 * MINUTE, 5 * MINUTE), "cannot be cut into whole periods of 0:10:00"),
        (lambda: Sliding(HOUR, 10 * MINUTE, -10 * MINUTE), "a window cannot be read 0:10:00 in the future"),
        (lambda: Tumbling(timedelta(0)), "a tumbling window has a length of 0:00:00"),
        (lambda: Session(timedelta(0)), "the gap of a session has a length of 0:00:00"),
        (lambda: lag(Feature("all", "buy", None, Op.COUNT, Lifetime(), "", ""), HOUR), "feature all has no sliding window"),
    ],
)
def test_a_window_that_cannot_be_is_a_sentence(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(InvalidDefinition) as refused:
        make()
    assert sentence in str(refused.value)


def test_a_ratio_with_a_ratio_is_refused() -> None:
    one = Ratio("one", "spent", "spent", "", "")
    FeatureTable((SPENT, one)).check(FIELDS)
    with pytest.raises(InvalidDefinition, match="feature two is a ratio with 'one', which is no feature to divide: spent"):
        FeatureTable((SPENT, one, Ratio("two", "one", "spent", "", ""))).check(FIELDS)


def test_a_trend_reads_what_its_feature_reads() -> None:
    FeatureTable((Trend("rise", SPENT, HOUR, "EUR", ""),)).check(FIELDS)
    with pytest.raises(InvalidDefinition, match="feature spent reads 'buy', which is no event of the case: sell"):
        FeatureTable((Trend("rise", SPENT, HOUR, "EUR", ""),)).check({"sell": {"amount": True}})

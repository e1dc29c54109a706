"""The groups by which a model is judged apart are those that were known when the customer was judged."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from churnstream.codecs import schema
from churnstream.features.definitions import Feature, FeatureTable, Op
from churnstream.features.windows import First
from churnstream.models.dataset import build_training_set
from churnstream.models.slices import UNKNOWN
from churnstream.usecases.case import ANCHOR_WEEKDAY, EventType, Field, Kind, SilenceLabel, UseCase

DAY, WEEK = timedelta(days=1), timedelta(days=7)
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
CASE = UseCase(
    name="made_by_hand",
    title="Made by hand",
    events=(EventType("seen"), EventType("told", (Field("country", Kind.TEXT), Field("age", Kind.WHOLE)))),
    features=FeatureTable(
        anchor="seen", features=(Feature("visits", "seen", None, Op.COUNT, First(DAY), "visits", "Visits on the first day."),)
    ),
    label=SilenceLabel("seen", WEEK),
    serving_events=("seen",),
    decision=DAY,
    example={"user_id": "1", "event_type": "seen", "event_time": "2026-03-02T00:00:00Z"},
    slices=("visits", "country", "age", ANCHOR_WEEKDAY),
)


def sliced(events: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """customer -> slice -> group, for events in order of arrival; the archive goes on until every label is known."""
    end = max(each["event_time"] for each in events) + 2 * WEEK
    events = [*events, *({"user_id": f"end{place}", "event_type": "seen", "event_time": end} for place in range(3))]
    rows = [each | {"origin_offset": place, "origin_row": 0} for place, each in enumerate(events)]
    columns = pa.schema([*schema(CASE), pa.field("origin_offset", pa.int64()), pa.field("origin_row", pa.int64())])
    data = build_training_set(pa.Table.from_pylist(rows, schema=columns), CASE, None)
    return dict(zip(data.keys, data.slices.to_dict("records"), strict=True))


def seen(user: str, at: datetime) -> dict[str, Any]:
    return {"user_id": user, "event_type": "seen", "event_time": at}


def told(user: str, at: datetime, country: str, age: int) -> dict[str, Any]:
    return {"user_id": user, "event_type": "told", "event_time": at, "country": country, "age": age}


def test_a_field_is_what_the_customer_had_stated_by_the_decision() -> None:
    hour = timedelta(hours=1)
    found = sliced(
        [
            told("before", MONDAY - hour, "DE", 20),
            seen("before", MONDAY),
            told("before", MONDAY + hour, "ES", 70),  # the oldest counts
            seen("late", MONDAY),
            told("late", MONDAY + DAY, "FR", 30),  # at the decision is after it
            seen("between", MONDAY),
            told("between", MONDAY + DAY - hour, "PT", 40),
            seen("never", MONDAY),
        ]
    )
    assert {user: each["country"] for user, each in found.items()} == {
        "before": "DE",
        "late": UNKNOWN,
        "between": "PT",
        "never": UNKNOWN,
    }
    assert {user: each["age"] for user, each in found.items()} == {
        "before": "low",
        "late": UNKNOWN,
        "between": "high",
        "never": UNKNOWN,
    }


def test_the_weekday_is_that_of_the_anchor_in_utc() -> None:
    found = sliced([seen(str(day), MONDAY + day * DAY + timedelta(hours=23, minutes=59)) for day in range(8)])
    names = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "Monday"]
    assert [found[str(day)][ANCHOR_WEEKDAY] for day in range(8)] == names


def test_a_feature_falls_into_three_bands_and_equal_numbers_into_one() -> None:
    visits = {"a": 1, "b": 1, "c": 1, "d": 1, "e": 2, "f": 3, "g": 3, "h": 9}
    events = [seen(user, MONDAY + timedelta(minutes=turn)) for user, times in visits.items() for turn in range(times)]
    bands = {user: each["visits"] for user, each in sliced(sorted(events, key=lambda each: each["event_time"])).items()}
    assert {user for user, band in bands.items() if band == "low"} == {"a", "b", "c", "d"}
    assert bands["h"] == "high"
    assert bands["f"] == bands["g"]

"""What a window includes at each edge, by hand: the instants are written out, and both engines must agree with them."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pytest

from churnstream.codecs import schema
from churnstream.features.definitions import Feature, FeatureTable, Op
from churnstream.features.reference import Observed, feature_vector
from churnstream.features.windows import First, Lifetime, Session, Sliding, Tumbling, Window
from churnstream.graph.engine import WindowEngine
from churnstream.usecases import load

HOUR, PERIOD = timedelta(hours=1), timedelta(minutes=10)


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-03-01T{text}").replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "as_of", "inside", "outside"),
    [
        (First(HOUR), "12:00", ["09:00", "09:59:59.999999"], ["10:00"]),  # the anchor is the purchase at 09:00
        (Sliding(HOUR, PERIOD), "10:05", ["09:10", "10:05"], ["09:09:59.999999"]),
        (Sliding(HOUR, PERIOD), "10:09:59.999999", ["09:10"], ["09:09:59.999999"]),
        (Sliding(HOUR, PERIOD), "10:10", ["09:20", "10:10"], ["09:19:59.999999"]),
        (Sliding(HOUR, PERIOD, ago=HOUR), "11:05", ["09:10", "10:09:59.999999"], ["09:09:59.999999", "10:10"]),
        (Sliding(HOUR), "10:05", ["09:05:00.000001", "10:05"], ["09:05"]),
        (Sliding(HOUR, ago=HOUR), "11:05", ["09:05:00.000001", "10:05"], ["09:05", "10:05:00.000001"]),
        (Tumbling(HOUR), "10:59:59.999999", ["10:00", "10:59:59.999999"], ["09:59:59.999999"]),
        (Tumbling(HOUR), "11:00", ["11:00"], ["10:59:59.999999"]),
        (Session(PERIOD), "10:20", ["10:00", "10:10"], ["09:49:59.999999"]),
        (Session(PERIOD), "10:20:00.000001", [], ["10:00", "10:10"]),
        (Lifetime(), "23:00", ["09:00", "23:00"], []),
    ],
)
def test_a_window_includes_what_its_page_says(window: Window, as_of: str, inside: list[str], outside: list[str]) -> None:
    base = load("first_day")
    feature = Feature("bets", "new_bet", None, Op.COUNT, window, "", "")
    table = FeatureTable(features=(feature,), anchor="new_purchases", lateness=timedelta(days=1))
    case = replace(base, features=table, slices=())
    bets = [Observed("new_bet", at(each), {"bet_amount": 1.0}) for each in sorted([*inside, *outside])]
    history = [Observed("new_purchases", at("09:00"), {"amount": 1.0}), *bets]
    assert feature_vector(table, history, at(as_of)) == (len(inside),)

    known = [each for each in history if each.at <= at(as_of)]  # the engine answers from the newest event on
    columns = {name: pa.nulls(len(known), kind) for name, kind in zip(schema(case).names, schema(case).types, strict=True)}
    columns["user_id"] = pa.array(["ann"] * len(known))
    codes = [case.event_names.index(each.event) for each in known]
    columns["event_type"] = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(case.event_names))
    columns["event_time"] = pa.array([each.at for each in known], pa.timestamp("us", tz="UTC"))
    engine = WindowEngine(case)
    engine.apply(pa.RecordBatch.from_pydict(columns, schema=schema(case)))
    assert engine.vector("ann", at(as_of)) == (len(inside),)

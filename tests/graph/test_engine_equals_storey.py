"""The engine against storey's own AggregateByKey, where storey is right: one field, in order, windows cut into whole periods.

Out of order, with several fields, for the standard deviation, for the first event of a window, or at an instant without an event
storey differs from the exact windows; ``features/reference.py`` is the judge there.
"""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import isclose
from random import Random

import pyarrow as pa
import pytest
from storey import AggregateByKey, FieldAggregator, NoopDriver, Reduce, SyncEmitSource, Table, build_flow
from storey.dtypes import FixedWindows, SlidingWindows

from churnstream.codecs import schema
from churnstream.features.definitions import Feature, FeatureTable, Op
from churnstream.features.windows import Sliding, Tumbling, Window
from churnstream.graph.engine import WindowEngine
from churnstream.usecases import load

START = datetime(2026, 3, 1, tzinfo=UTC)
STOREYS = {
    Op.COUNT: "count",
    Op.SUM: "sum",
    Op.MEAN: "avg",
    Op.VAR: "stdvar",
    Op.MIN: "min",
    Op.MAX: "max",
    Op.LAST: "last",
}


def bets(seed: int, gap: timedelta) -> list[tuple[str, datetime, float]]:
    """600 bets of 5 customers in order of time, ``gap`` apart on average."""
    random, at, made = Random(seed), START, []
    for _ in range(600):
        at += timedelta(microseconds=random.randrange(2 * gap // timedelta(microseconds=1)))
        made.append((f"u{random.randrange(5)}", at, random.randrange(1, 100_000) / 100))
    return made


def storeys(rows: list[tuple[str, datetime, float]], windows: SlidingWindows | FixedWindows) -> list[dict[str, float]]:
    flow = build_flow(
        [
            SyncEmitSource(),
            AggregateByKey(
                [FieldAggregator("bet", "amount", list(STOREYS.values()), windows)],
                Table("bets", NoopDriver()),
                key_field="user_id",
                time_field="at",
            ),
            Reduce([], lambda seen, event: [*seen, event]),
        ]
    ).run()
    for who, at, amount in rows:
        flow.emit({"user_id": who, "at": at, "amount": amount})
    flow.terminate()
    return flow.await_termination()


def ours(rows: list[tuple[str, datetime, float]], windows: dict[str, Window]) -> list[dict[str, float]]:
    case = load("first_day")
    features = tuple(
        Feature(f"bet_{name}_{suffix}", "new_bet", None if op is Op.COUNT else "bet_amount", op, window, "", "")
        for suffix, window in windows.items()
        for op, name in STOREYS.items()
    )
    case = replace(case, features=FeatureTable(features=features), serving_events=("new_bet",), slices=())
    columns = {name: pa.nulls(len(rows), kind) for name, kind in zip(schema(case).names, schema(case).types, strict=True)}
    columns["user_id"] = pa.array([who for who, _, _ in rows])
    columns["event_type"] = pa.DictionaryArray.from_arrays(
        pa.array([case.event_names.index("new_bet")] * len(rows), pa.int8()), pa.array(case.event_names)
    )
    columns["event_time"] = pa.array([at for _, at, _ in rows], pa.timestamp("us", tz="UTC"))
    columns["bet_amount"] = pa.array([amount for _, _, amount in rows])
    batch = pa.RecordBatch.from_pydict(columns, schema=schema(case))
    engine = WindowEngine(case)
    vectors = [vector for start in range(0, len(rows), 97) for vector in engine.apply(batch.slice(start, 97)).vectors]
    return [dict(zip(case.features.names, vector, strict=True)) for vector in vectors]


@pytest.mark.parametrize("gap", [timedelta(seconds=20), timedelta(minutes=4), timedelta(hours=1)])
@pytest.mark.parametrize(
    ("theirs", "mine"),
    [
        (
            SlidingWindows(["1h", "24h"], "10m"),
            {f"{hours}h": Sliding(timedelta(hours=hours), timedelta(minutes=10)) for hours in (1, 24)},
        ),
        (FixedWindows(["1h", "24h"]), {f"{hours}h": Tumbling(timedelta(hours=hours)) for hours in (1, 24)}),
    ],
    ids=["sliding", "tumbling"],
)
def test_the_engine_equals_storey_where_storey_is_right(
    gap: timedelta, theirs: SlidingWindows | FixedWindows, mine: dict[str, Window]
) -> None:
    rows = bets(7, gap)
    for got, wanted in zip(ours(rows, mine), storeys(rows, theirs), strict=True):
        for name, value in got.items():
            if "stdvar" in name and got[name.replace("stdvar", "count")] < 2:
                continue  # storey says 0 there, a sample variance is not defined
            assert isclose(value, wanted[name], rel_tol=1e-6 if "stdvar" in name else 1e-12, abs_tol=1e-6), (name, value, wanted)

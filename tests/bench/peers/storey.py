"""storey, which MLRun computes features with: AggregateByKey, without a table to write to."""

from itertools import islice
from math import nan
from pathlib import Path
from typing import Any

from msgspec.json import decode
from storey import AggregateByKey, FieldAggregator, Map, NoopDriver, Reduce, SyncEmitSource, Table, build_flow
from storey.dtypes import SlidingWindows

from tests.bench.common import Meter
from tests.bench.features_expected import Sample

FIELDS, WINDOWS = ("amount", "bet_amount", "win_amount"), ("1h", "24h")
OPS = ("sum", "avg", "count", "stdvar")
COLUMNS = [f"{field}_{op}_{window}" for field in FIELDS for window in WINDOWS for op in OPS]


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    windows = SlidingWindows(list(WINDOWS), "10m")
    features = [FieldAggregator(field, field, list(OPS), windows) for field in FIELDS]

    def take(number: int, row: dict[str, Any]) -> int:
        if number in sample.wanted:
            sample.taken[number] = [row.get(column, nan) for column in COLUMNS]
        return number + 1

    flow = build_flow(
        [
            SyncEmitSource(),
            Map(decode),
            AggregateByKey(features, Table("features", NoopDriver()), key_field="user_id", time_field="event_time"),
            Reduce(0, take),
        ]
    )
    with ndjson.open("rb") as lines, meter:
        controller = flow.run()
        for line in islice(lines, events):
            controller.emit(line)
        controller.terminate()
        rows = controller.await_termination()
    assert rows == events

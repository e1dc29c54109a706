"""A recorded file may keep its instants in any way; the events that it becomes say them in one."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churnstream.codecs import encode_json
from churnstream.stages.produce import replay
from churnstream.usecases.case import Source

SOURCE = Source(event="play", key="player", time="at", columns={"score": "score"})
AT = datetime(2026, 1, 31, 12, 0, 0, 250_000, tzinfo=UTC)
MICROSECONDS = (AT - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)

COLUMNS = {
    "seconds with a fraction": pa.array([MICROSECONDS / 1e6]),
    "milliseconds": pa.array([MICROSECONDS // 1_000], pa.int64()).cast(pa.timestamp("ms")),
    "nanoseconds": pa.array([MICROSECONDS * 1_000 + 999], pa.int64()).cast(pa.timestamp("ns")),
    "nanoseconds in UTC": pa.array([MICROSECONDS * 1_000 + 999], pa.int64()).cast(pa.timestamp("ns", "UTC")),
    "another zone": pa.array([MICROSECONDS], pa.int64()).cast(pa.timestamp("us", "Europe/Madrid")),
}


@pytest.mark.parametrize("kind", COLUMNS)
def test_an_instant_in_a_file_is_the_same_instant_in_the_event(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "plays.parquet"
    pq.write_table(pa.table({"player": ["p1"], "at": COLUMNS[kind], "score": [3]}), path)
    rows, events = replay(path, SOURCE)
    (event,) = events
    assert rows == 1
    assert event["event_time"] == AT
    assert b'"2026-01-31T12:00:00.250000Z"' in encode_json([event])

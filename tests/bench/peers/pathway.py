"""Pathway, on one thread (PATHWAY_THREADS): its sliding windows over the file as a table; it puts an event into every window."""

from math import nan
from pathlib import Path
from typing import Any

import pathway as pw

from tests.bench.common import Meter
from tests.bench.features_expected import Sample

FIELDS = ("amount", "bet_amount", "win_amount")
PANE_S = 600
WINDOWS = (6, 144)  # panes


class Event(pw.Schema):
    user_id: str
    event_time: str
    amount: float | None = pw.column_definition(default_value=None)
    bet_amount: float | None = pw.column_definition(default_value=None)
    win_amount: float | None = pw.column_definition(default_value=None)


def sums(events: Any, panes: int) -> Any:
    """A row a customer and window: when it ends, and count, sum and sum of squares of each amount."""
    length, step = pw.Duration(seconds=panes * PANE_S), pw.Duration(seconds=PANE_S)
    epoch = pw.DateTimeUtc("1970-01-01T00:00:00+00:00")
    windows = events.windowby(
        events.at, window=pw.temporal.sliding(hop=step, duration=length, origin=epoch), instance=events.user_id
    )
    return windows.reduce(
        who=pw.this._pw_instance,
        end=pw.this._pw_window_end,
        **{f"{each}_{field}": pw.reducers.sum(pw.this[f"{each}_{field}"]) for field in FIELDS for each in "nsq"},
    )


def numbers(row: dict[str, Any]) -> list[float]:
    """Sum, mean, count and variance of each amount."""
    found: list[float] = []
    for field in FIELDS:
        n, s, q = (row[f"{each}_{field}"] for each in "nsq")
        found += (s if n else 0.0, s / n if n else nan, n, (n * q - s * s) / (n * (n - 1)) if n > 1 else nan)
    return found


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    head = ndjson.with_suffix(f".{events}.ndjson")
    with ndjson.open("rb") as lines, head.open("wb") as file:
        file.writelines(line for line, _ in zip(lines, range(events), strict=False))
    halves: dict[tuple[str, int], dict[int, list[float]]] = {}

    def take(panes: int) -> Any:
        def on_change(key: Any, row: dict[str, Any], time: int, is_addition: bool) -> None:
            place = (row["who"], int(row["end"].timestamp()) // PANE_S - 1)
            if is_addition and place in sample.closing:
                halves.setdefault(place, {})[panes] = numbers(row)

        return on_change

    with meter:
        table = pw.io.jsonlines.read(str(head), schema=Event, mode="static")
        table = table.select(
            pw.this.user_id,
            at=pw.this.event_time.dt.strptime("%Y-%m-%dT%H:%M:%S.%f%z"),
            **{f"n_{field}": pw.if_else(pw.this[field].is_none(), 0, 1) for field in FIELDS},
            **{f"s_{field}": pw.coalesce(pw.this[field], 0.0) for field in FIELDS},
        )
        table = table.with_columns(**{f"q_{field}": pw.this[f"s_{field}"] * pw.this[f"s_{field}"] for field in FIELDS})
        for panes in WINDOWS:
            pw.io.subscribe(sums(table, panes), on_change=take(panes))
        pw.run(monitoring_level=pw.MonitoringLevel.NONE)
    head.unlink()
    for place, both in halves.items():
        short, long = (both[panes] for panes in WINDOWS)
        sample.taken[sample.closing[place]] = [each for at in (0, 4, 8) for half in (short, long) for each in half[at : at + 4]]

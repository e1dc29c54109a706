"""Polars, one batch on one thread (POLARS_MAX_THREADS): the file, panes, then rolling sums over them. The ceiling of batches."""

from pathlib import Path

import polars as pl

from tests.bench.common import Meter
from tests.bench.features_expected import Sample

FIELDS, WINDOWS = ("amount", "bet_amount", "win_amount"), ("6i", "144i")
SCHEMA = {"user_id": pl.String, "event_time": pl.String, **dict.fromkeys(FIELDS, pl.Float64)}
PANE_US = 600_000_000
SUMS = ("count", "sum", "squares")


def read(ndjson: Path, events: int) -> pl.LazyFrame:
    at = pl.col("event_time").str.slice(0, 26).str.to_datetime("%Y-%m-%dT%H:%M:%S%.f", time_unit="us")
    frame = pl.read_ndjson(ndjson, schema=SCHEMA).head(events).lazy()
    return frame.select("user_id", *FIELDS, pane=(at.dt.timestamp("us") // PANE_US).cast(pl.Int32))


def panes(events: pl.LazyFrame) -> pl.LazyFrame:
    """A row a customer and pane: count, sum and sum of squares of each amount."""
    sums = [
        each
        for field in FIELDS
        for each in (
            pl.col(field).count().cast(pl.Float64).alias(f"{field} count"),
            pl.col(field).sum().alias(f"{field} sum"),
            (pl.col(field) * pl.col(field)).sum().alias(f"{field} squares"),
        )
    ]
    return events.group_by("user_id", "pane").agg(sums).sort("pane")


def features(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The features of both windows, for every customer and pane."""
    rolled = frame.with_columns(
        pl.col(f"{field} {each}").rolling_sum_by("pane", window_size=length).over("user_id").alias(f"{field} {each} {length}")
        for field in FIELDS
        for each in SUMS
        for length in WINDOWS
    )
    numbers: list[pl.Expr] = []
    for field in FIELDS:
        for length in WINDOWS:
            count, total, squares = (pl.col(f"{field} {each} {length}") for each in SUMS)
            numbers += [
                total,
                pl.when(count > 0).then(total / count).alias(f"{field} mean {length}"),
                count,
                pl.when(count > 1).then((count * squares - total * total) / (count * (count - 1))).alias(f"{field} var {length}"),
            ]
    return rolled.select("user_id", "pane", *numbers)


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    with meter:
        rows = features(panes(read(ndjson, events))).collect()
    chosen = rows.filter(pl.col("user_id").is_in({who for who, _ in sample.closing}))
    for who, pane, *row in chosen.rows():
        if (who, pane) in sample.closing:
            sample.taken[sample.closing[who, pane]] = row

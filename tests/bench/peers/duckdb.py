"""DuckDB, one query on one thread: the file, panes, then sums over ranges of panes. The other ceiling of batches."""

from pathlib import Path

import duckdb

from tests.bench.common import Meter
from tests.bench.features_expected import Sample

FIELDS = ("amount", "bet_amount", "win_amount")
WINDOWS = {"short": 5, "long": 143}  # name -> how many panes before the present one
PANE_US = 600_000_000
COLUMNS = "{user_id: 'VARCHAR', event_time: 'VARCHAR', amount: 'DOUBLE', bet_amount: 'DOUBLE', win_amount: 'DOUBLE'}"


def query(ndjson: Path, events: int) -> str:
    """A row a customer and pane: user_id, pane, then the 24 features."""
    sums = ", ".join(
        f"count({field}) AS {field}_n, coalesce(sum({field}), 0) AS {field}_s, coalesce(sum({field} * {field}), 0) AS {field}_q"
        for field in FIELDS
    )
    rolled = ", ".join(
        f"sum({field}_{each}) OVER {window} AS {field}_{each}_{window}"
        for field in FIELDS
        for window in WINDOWS
        for each in "nsq"
    )
    windows = ", ".join(
        f"{name} AS (PARTITION BY user_id ORDER BY pane RANGE BETWEEN {before} PRECEDING AND CURRENT ROW)"
        for name, before in WINDOWS.items()
    )
    features = ", ".join(
        f"{s}, {s} / nullif({n}, 0), {n}, ({n} * {q} - {s} * {s}) / nullif({n} * ({n} - 1), 0)"
        for field in FIELDS
        for window in WINDOWS
        for n, s, q in [tuple(f"{field}_{each}_{window}" for each in "nsq")]
    )
    return f"""
        WITH events AS (
            SELECT user_id, (epoch_us(event_time::TIMESTAMPTZ) // {PANE_US})::INT AS pane, {", ".join(FIELDS)}
            FROM read_json('{ndjson}', format = 'newline_delimited', columns = {COLUMNS}) LIMIT {events}
        ),
        panes AS (SELECT user_id, pane, {sums} FROM events GROUP BY user_id, pane),
        rolled AS (SELECT user_id, pane, {rolled} FROM panes WINDOW {windows})
        SELECT user_id, pane, {features} FROM rolled
    """


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    connection = duckdb.connect()
    connection.execute("SET threads = 1; SET timezone = 'UTC'")
    with meter:
        connection.execute(f"CREATE TEMP TABLE rows AS {query(ndjson, events)}")
    chosen = sorted({who for who, _ in sample.closing})
    for who, pane, *features in connection.execute("SELECT * FROM rows WHERE list_contains(?, user_id)", [chosen]).fetchall():
        if (who, pane) in sample.closing:
            sample.taken[sample.closing[who, pane]] = [None if each is None else float(each) for each in features]

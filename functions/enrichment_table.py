"""enrichment-table: fills the lookup table that enrich-stream joins with, from a file or generated."""

from itertools import islice
from pathlib import Path

from churnstream.errors import UnreadablePayload
from churnstream.stages.enrich import decode_number, lookup_rows
from churnstream.stages.produce import read_table
from churnstream.wiring import open_parts, settings_from_env

COMMIT_ROWS = 50_000


def build(context, case: str = "", data: str = "", seed: int = 1):
    """Write every row of ``data`` (CSV or Parquet: the key, then the number), or a generated table; logs how many."""
    parts = open_parts("enrichment-table", settings_from_env(context.project, case))
    join = parts.case.enrichment
    if join is None:
        context.log_result("rows", 0)
        return
    if data:
        table = read_table(Path(data))
        if table.num_columns < 2:
            raise UnreadablePayload(f"{data} has {table.num_columns} column; a lookup table needs the key and the number")
        keys, numbers = (table.column(place).to_pylist() for place in (0, 1))
    elif join.rows is not None:
        keys, numbers = zip(*join.rows(seed), strict=True)
    else:
        raise UnreadablePayload(f"the case {parts.case.name} generates no lookup table; name a file with data=...")
    rows = tuple(lookup_rows(keys, numbers))  # all of them are good before the first is written
    for start in range(0, len(rows), COMMIT_ROWS):
        with parts.begin() as unit:
            for key, value in rows[start : start + COMMIT_ROWS]:
                unit.put(join.table, key, value)
    context.log_result("rows", len(rows))
    context.log_result("distinct", len(parts.table(join.table)))
    sample = [f"{key} -> {decode_number(value)}" for key, value in islice(parts.table(join.table).items(), 3)]
    context.logger.info(f"the lookup table {join.table} holds {len(rows)} rows, such as {', '.join(sample)}")

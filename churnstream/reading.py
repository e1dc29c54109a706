"""What a person asks the river: the ledger, the size of a stream, and a look at what flows in it."""

import json
from collections.abc import Iterator
from datetime import timedelta

import pandas as pd
import pyarrow as pa

from churnstream import topology
from churnstream.codecs import ARROW, JSON, decode_batch
from churnstream.operations.ledger import OUTCOMES, Line, total
from churnstream.records import Delivered
from churnstream.settings import Settings
from churnstream.streams.base import StreamReader
from churnstream.wiring import open_journal, open_stream, settings_from_env

HTTP = "http"


def ledger(settings: Settings | None = None) -> list[Line]:
    """Every function's account of every source and shard it has read; ``operations.ledger.total`` adds the shards up."""
    settings = settings or settings_from_env()
    return [
        line
        for function in topology.FUNCTIONS
        if function.reads
        for shard in range(topology.SHARDS)
        for line in _lines(function, shard, settings)
    ]


def totals(settings: Settings | None = None) -> list[Line]:
    """The ledger over all shards: one line a function and source."""
    return total(ledger(settings))


def count(stream: str, settings: Settings | None = None) -> int:
    """How many rows ``stream`` holds, over all its shards and writers."""
    settings = settings or settings_from_env()
    rows = 0
    for writer in topology.writers(stream):
        reader = open_stream(stream, settings, writer)
        rows += sum(reader.rows(shard) for shard in range(reader.shards))
        reader.close()
    return rows


def peek(stream: str, rows: int = 5, settings: Settings | None = None) -> pd.DataFrame:
    """The newest ``rows`` rows of ``stream`` as a table, in the order in which they were appended; all of them when ``rows`` is 0."""
    settings = settings or settings_from_env()
    newest: list[pd.DataFrame] = []
    for writer in topology.writers(stream):
        reader = open_stream(stream, settings, writer)
        for shard in range(reader.shards):
            newest += _newest(reader, shard, rows)
        reader.close()
    if not newest:
        return pd.DataFrame()
    table = pd.concat(newest).sort_values("appended_at", kind="stable", ignore_index=True)
    return table.tail(rows).reset_index(drop=True) if rows else table


def _newest(reader: StreamReader, shard: int, rows: int) -> Iterator[pd.DataFrame]:
    end = reader.end(shard)
    offset = max(0, end - rows) if rows else 0
    while offset < end:
        for record in reader.read(shard, offset):
            frame = _frame(record)
            yield (frame.tail(rows) if rows else frame).assign(shard=shard, offset=record.offset, appended_at=record.appended_at)
            offset = record.offset + 1


def _frame(record: Delivered) -> pd.DataFrame:
    kind = record.headers.get("content-type", JSON)
    if kind == ARROW:
        frame: pd.DataFrame = pa.Table.from_batches([decode_batch(record.payload)]).to_pandas()
        return frame
    return pd.DataFrame([json.loads(line) for line in record.payload.splitlines() if line.strip()])


def _lines(function: topology.Function, shard: int, settings: Settings) -> Iterator[Line]:
    journal = open_journal(function.name, shard, settings)
    accounts, activity = journal.accounts(), journal.activity()
    sources = dict.fromkeys([*function.reads, *(source for source, _ in accounts)])
    for source in sources:
        outcomes = {name: accounts.get((source, name), 0) for name in OUTCOMES}
        if source == HTTP:
            given, waiting = accounts.get((source, "in"), 0), 0
        else:
            reader = open_stream(source, settings)
            given = reader.rows(shard, journal.position(source, shard))
            waiting = reader.rows(shard) - given
            reader.close()
        began, ended, busy = activity.get(source, (None, None, timedelta(0)))
        yield Line(function.name, source, shard, given, waiting=waiting, began=began, ended=ended, busy=busy, **outcomes)
    journal.close()

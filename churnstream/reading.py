"""What a person asks the river: the ledger, the size of a stream, and a look at what flows in it."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import pandas as pd
import pyarrow as pa

from churnstream import topology
from churnstream.codecs import ARROW, JSON, decode_batch
from churnstream.errors import BadRequest
from churnstream.operations.ledger import OUTCOMES, Line, total
from churnstream.records import Delivered
from churnstream.settings import Settings
from churnstream.streams.base import StreamReader
from churnstream.wiring import open_journal, open_stream, settings_from_env

HTTP = "http"
LETTER = re.compile(r"([a-z-]+):(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a function refused: why, and where it came from.

    ``name`` finds it again. ``shard`` and ``offset`` are the refused record's in ``source`` (None for a request), ``row`` is the
    event's place in it (None: all of it); ``payload`` begins as the event did, cut where it was long.
    """

    name: str
    function: str
    reason: str
    source: str
    shard: int | None
    offset: int | None
    row: int | None
    refused_at: datetime
    payload: str

    def sentence(self) -> str:
        """Who refused it, when, from where, and why."""
        place = "" if self.shard is None else f" shard {self.shard} offset {self.offset}"
        row = "" if self.row is None else f" row {self.row}"
        when = f"{self.refused_at:%Y-%m-%d %H:%M:%S} UTC"
        return f"{self.function} refused this at {when}, from {self.source}{place}{row}: {self.reason}"


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
    """The newest ``rows`` rows of ``stream`` as a table, in the order in which they were appended; all when ``rows`` is 0."""
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


def dead_letters(function: str | None = None, limit: int = 20, settings: Settings | None = None) -> list[DeadLetter]:
    """The newest ``limit`` dead letters, newest first: of ``function``, or of all. Raises UnknownFunction."""
    settings = settings or settings_from_env()
    writers = topology.writers(topology.DEAD_LETTERS) if function is None else (topology.function(function).name,)
    found: list[DeadLetter] = []
    for writer in writers:
        reader = open_stream(topology.DEAD_LETTERS, settings, writer)
        for shard in range(reader.shards):
            offset, end = max(0, reader.end(shard) - limit), reader.end(shard)
            while offset < end:
                for record in reader.read(shard, offset):
                    found.append(_letter(writer, record))
                    offset = record.offset + 1
        reader.close()
    return sorted(found, key=lambda each: each.refused_at, reverse=True)[:limit]


def dead_letter(name: str, settings: Settings | None = None) -> DeadLetter:
    """The dead letter of this name, as ``dead_letters`` gives it; raises UnknownFunction or BadRequest."""
    match = LETTER.fullmatch(name)
    if match is None or int(match[2]) >= topology.SHARDS:
        raise BadRequest(f"{name!r} names no dead letter; `churnstream deadletters list` shows their names")
    writer, shard, offset = topology.function(match[1]).name, int(match[2]), int(match[3])
    reader = open_stream(topology.DEAD_LETTERS, settings or settings_from_env(), writer)
    found = reader.read(shard, offset, max_records=1)
    reader.close()
    if not found or found[0].offset != offset:
        raise BadRequest(f"there is no dead letter {name}; `churnstream deadletters list` shows those that are there")
    return _letter(writer, found[0])


def _letter(writer: str, record: Delivered) -> DeadLetter:
    said = json.loads(record.payload)
    said["refused_at"] = datetime.fromisoformat(said["refused_at"])
    return DeadLetter(f"{writer}:{record.shard}:{record.offset}", writer, **said)


def _newest(reader: StreamReader, shard: int, rows: int) -> Iterator[pd.DataFrame]:
    end, behind = reader.end(shard), reader.rows(shard) - rows
    offset = max(0, bisect_right(range(end), behind, key=lambda each: reader.rows(shard, each)) - 1) if rows else 0
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

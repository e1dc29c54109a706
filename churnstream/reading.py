"""What a person asks the river: the ledger, the size of a stream, and a look at what flows in it."""

import json
import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pandas as pd
import pyarrow as pa

from churnstream import topology
from churnstream.codecs import ARROW, JSON, decode_batch
from churnstream.errors import BadRequest
from churnstream.operations.ledger import OUTCOMES, REMOVED, Line, total
from churnstream.records import Delivered
from churnstream.settings import Settings
from churnstream.streams.base import StreamReader
from churnstream.wiring import open_journal, open_stream, other_functions, redriven_letters, redriven_stream, settings_from_env

HTTP = "http"
LETTER = re.compile(r"([\w.-]+):(\d+):(\d+)")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What a function refused: why, and where it came from.

    ``name`` finds it again. ``shard`` and ``offset`` are the refused record's in ``source`` (None for a request), ``row`` is the
    event's place in it (None: all of it); ``payload`` is what was refused, as text. ``original`` is that as it was sent, where it
    is something else; ``cut`` when neither is whole. ``redrives`` names the letter that was handed back before this one, and
    ``redriven_at`` says when this one was.
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
    original: dict[str, Any] | None = None
    cut: bool = False
    redrives: str = ""
    redriven_at: datetime | None = None

    def sentence(self) -> str:
        """Who refused it, when, from where, and why."""
        place = "" if self.shard is None else f" shard {self.shard} offset {self.offset}"
        row = "" if self.row is None else f" row {self.row}"
        when = f"{self.refused_at:%Y-%m-%d %H:%M:%S} UTC"
        before = f" It was handed back before, as {self.redrives}." if self.redrives else ""
        since = f" It was handed back at {self.redriven_at:%Y-%m-%d %H:%M:%S} UTC." if self.redriven_at else ""
        return f"{self.function} refused this at {when}, from {self.source}{place}{row}: {self.reason}{before}{since}"


def ledger(settings: Settings | None = None, name: str | None = None) -> list[Line]:
    """The account of every source and shard that the function ``name``, or every function, has read.

    ``operations.ledger.total`` adds the shards up.
    """
    settings = settings or settings_from_env()
    return [
        line
        for function in topology.FUNCTIONS
        if function.reads and name in (None, function.name)
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
    everyone = (*topology.writers(topology.DEAD_LETTERS), *other_functions(settings))
    writers = everyone if function is None else (_refuser(function, settings),)
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
    newest = sorted(found, key=lambda each: each.refused_at, reverse=True)[:limit]
    redriven = redriven_letters(settings)
    return [replace(each, redriven_at=redriven.get(each.name)) for each in newest]


def dead_letter(name: str, settings: Settings | None = None) -> DeadLetter:
    """The dead letter of this name, as ``dead_letters`` gives it; raises UnknownFunction or BadRequest."""
    match = LETTER.fullmatch(name)
    if match is None or int(match[2]) >= topology.SHARDS:
        raise BadRequest(f"{name!r} names no dead letter; `churnstream deadletters list` shows their names")
    settings = settings or settings_from_env()
    writer, shard, offset = _refuser(match[1], settings), int(match[2]), int(match[3])
    reader = open_stream(topology.DEAD_LETTERS, settings, writer)
    found = reader.read(shard, offset, max_records=1)
    reader.close()
    if not found or found[0].offset != offset:
        raise BadRequest(f"there is no dead letter {name}; `churnstream deadletters list` shows those that are there")
    return replace(_letter(writer, found[0]), redriven_at=redriven_letters(settings).get(name))


def _refuser(name: str, settings: Settings) -> str:
    return name if name in other_functions(settings) else topology.function(name).name


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
    redriven = open_stream(redriven_stream(function.name), settings)
    handed_back = [redriven_stream(function.name)] if redriven.end(shard) else []
    redriven.close()
    sources = dict.fromkeys([*function.reads, *handed_back, *(source for source, _ in accounts)])
    for source in sources:
        outcomes = {name: accounts.get((source, name), 0) for name in OUTCOMES}
        if source == HTTP:
            given, waiting = accounts.get((source, "in"), 0), 0
        else:
            reader = open_stream(source, settings)
            position = journal.position(source, shard)
            read = reader.rows(shard, position)  # at 0 it is what was removed from the stream's start
            given = read - accounts.get((source, REMOVED), 0) if position else 0
            waiting = reader.rows(shard) - read
            reader.close()
        began, ended, busy = activity.get(source, (None, None, timedelta(0)))
        yield Line(function.name, source, shard, given, waiting=waiting, began=began, ended=ended, busy=busy, **outcomes)
    journal.close()

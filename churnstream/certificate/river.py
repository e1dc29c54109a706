"""The product's own parts, run by hand in one process: from JSON bytes to the feature table, with crashes and repeats on the way.

Each stage does what its function in ``functions/`` does, in units of work over real journals in a folder that is gone afterwards.
A stage goes back a few records now and then and gets them once more, as after a crash before its position was acknowledged. The
features' engine is dropped at random, before its work is durable or after, and taken up again from what is stored.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.certificate.replay import Event, cut
from churnstream.codecs import ARROW, NDJSON, decode_batch, encode_batch, encode_json
from churnstream.graph.engine import Applied, WindowEngine
from churnstream.graph.steps import deliver
from churnstream.graph.work import Work
from churnstream.operations.ledger import Line
from churnstream.reading import totals
from churnstream.records import Delivered, Record, shard_of
from churnstream.settings import Settings
from churnstream.stages.enrich import enrich, lookup_rows
from churnstream.stages.intake import Intake
from churnstream.streams.base import StreamReader, Unit
from churnstream.topology import ENRICHED, ENRICHMENT, FEATURES, GENERATED, INCOMING, SERVING, SHARDS
from churnstream.usecases.case import KEY
from churnstream.wiring import Parts, open_parts, open_stream, open_table

GENERATOR, LOOKUP, HANDLER, ENRICHER, ENGINE = (
    "event-generator",
    "enrichment-table",
    "incoming-event-handler",
    "enrich-stream",
    "stream-to-features",
)
TYPICAL_ROWS = 80  # of a record; fewer where that would be less than so many records a shard
RECORDS = 12
AGAIN = 0.05  # of the rows that a stage is given come once more, or a little over
GOES_BACK = 3  # records at most
CRASHES = 0.1  # of the records that the engine is given: one half before their work is durable, one half after


@dataclass(frozen=True, slots=True)
class Durable:
    """What one record did, once it is durable: its rows, what the engine said, and what serving reads of it off the stream.

    ``read`` maps a row of ``batch`` to the customer and the vector that stand for it in the serving stream.
    """

    batch: pa.RecordBatch
    applied: Applied
    read: dict[int, tuple[str, NDArray[np.float64]]]


@dataclass(slots=True)
class Counts:
    """Rows given, and given again and recognised, by function; how often the engine was dropped and restored."""

    given: Counter[str] = field(default_factory=Counter)
    again: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    lost: int = 0  # of the restarts, those that came before the work was durable, so that it was done twice
    units: int = 0


class River:
    """The stages of one case over ``folder``, which is empty; ``at`` is the instant that every clock shows."""

    def __init__(self, folder: Path, case: str, rng: random.Random, at: datetime):
        self.settings = Settings("certificate", case, f"embedded://{folder}", f"embedded://{folder}", folder)
        self.counts = Counts()
        self._rng, self._at = rng, at
        self._engines: dict[int, WindowEngine] = {}
        self._unacknowledged = False  # the engine died between its commit and the answer to whoever gave it the record
        self._parts: dict[str, Parts] = {}
        self._readers: dict[str, StreamReader] = {}
        self._loop = asyncio.new_event_loop()
        self.case = self._open(ENGINE).case
        self.table = open_table(FEATURES, self.settings)
        """What serving looks customers up in."""

    def close(self) -> None:
        for part in self._parts.values():
            part.close()
        for reader in self._readers.values():
            reader.close()
        self.table.close()
        self._loop.close()

    def fill_lookup(self, rows: Iterable[tuple[str, float]]) -> None:
        """The enrichment table."""
        keys, numbers = zip(*rows, strict=True)
        with self._open(LOOKUP).begin() as unit:
            for key, value in lookup_rows(keys, numbers):
                unit.put(ENRICHMENT, key, value)

    def send(self, events: Iterable[Event]) -> None:
        """Events as JSON into the first stream, in records of random size, each customer in their shard."""
        shards: dict[int, list[Event]] = {}
        for event in events:
            shards.setdefault(shard_of(event[KEY], SHARDS), []).append(event)
        with self._open(GENERATOR).begin() as unit:
            for waiting in shards.values():
                for part in cut(waiting, self._rng, min(TYPICAL_ROWS, 1 + len(waiting) // RECORDS)):
                    unit.append(GENERATED, Record(encode_json(part), len(part), part[0][KEY], {"content-type": NDJSON}))

    def take_in(self) -> None:
        """incoming-event-handler: JSON to validated batches, without what came twice."""
        intake = Intake(self.case)
        for shard in range(SHARDS):
            for record, unit in self._given(HANDLER, GENERATED, shard):
                with unit:
                    intake.take(record.payload, unit)

    def enrich(self) -> None:
        """enrich-stream: the join with the lookup table."""
        lookup = open_table(ENRICHMENT, self.settings) if self.case.enrichment else None
        for shard in range(SHARDS):
            for record, unit in self._given(ENRICHER, INCOMING, shard):
                with unit:
                    batch, _ = enrich(decode_batch(record.payload), self.case, lookup)
                    unit.append(ENRICHED, Record(encode_batch(batch), batch.num_rows, headers={"content-type": ARROW}))
                    unit.count("applied", batch.num_rows)
        if lookup is not None:
            lookup.close()

    def features(self, shard: int) -> Iterator[Durable]:
        """stream-to-features: yields each record's effects once they are durable and ``engine(shard)`` holds them."""
        self._engines.clear()
        for record, begun in self._given(ENGINE, ENRICHED, shard):
            unit = begun
            while self._rng.random() < CRASHES / 2:
                self.engine(shard).apply(decode_batch(record.payload))  # and then it dies, before anything is durable
                self.counts.lost += 1
                self._die()
                unit = self._open(ENGINE).begin_at(ENRICHED, shard, record.offset)
            stored = self._open(ENGINE).journal(shard).items
            work = Work(self.case, unit, shard, record.offset, stored, self._loop.create_future())
            batch = decode_batch(record.payload)
            applied = self.engine(shard).apply(batch)
            deliver(batch, applied, work)
            self.counts.units += 1
            yield Durable(batch, applied, self._read_back(shard, len(applied.vectors)))
            if self._rng.random() < CRASHES / 2:
                self._die()
                self._unacknowledged = True

    def engine(self, shard: int) -> WindowEngine:
        """The engine of a shard, restored from what is stored unless it is there."""
        if shard not in self._engines:
            engine = WindowEngine(self.case)
            engine.restore(self._open(ENGINE).journal(shard).items(FEATURES))
            self._engines[shard] = engine
        return self._engines[shard]

    def lines(self) -> list[Line]:
        """What the three stages say has become of every row, as ``churnstream account`` would."""
        stages = ((HANDLER, GENERATED), (ENRICHER, INCOMING), (ENGINE, ENRICHED))
        return [line for line in totals(self.settings) if (line.function, line.source) in stages]

    # -- the inside ---------------------------------------------------------------------------------------------------------

    def _open(self, function: str) -> Parts:
        if function not in self._parts:
            self._parts[function] = open_parts(function, self.settings, lambda: self._at)
        return self._parts[function]

    def _reader(self, stream: str) -> StreamReader:
        if stream not in self._readers:
            self._readers[stream] = open_stream(stream, self.settings)
        return self._readers[stream]

    def _given(self, function: str, stream: str, shard: int) -> Iterator[tuple[Delivered, Unit]]:
        """Every record of the stream's shard in order, and some once more; what the function knows already is only counted."""
        reader, counts = self._reader(stream), self.counts
        offset, end = 0, reader.end(shard)
        while offset < end:
            record = reader.read(shard, offset, max_records=1)[0]
            unit = self._open(function).begin_at(stream, shard, offset)
            offset += 1
            if unit.replayed:
                counts.again[function] += record.rows
                continue
            yield record, unit
            counts.given[function] += record.rows
            if self._unacknowledged:
                self._unacknowledged = False
                offset -= 1
            elif counts.again[function] < AGAIN * counts.given[function] and self._rng.random() < 0.5:
                offset = max(0, offset - self._rng.randint(1, GOES_BACK))

    def _die(self) -> None:
        self.counts.restarts += 1
        self._parts.pop(ENGINE).close()
        self._engines.clear()

    def _read_back(self, shard: int, vectors: int) -> dict[int, tuple[str, NDArray[np.float64]]]:
        if not vectors:
            return {}
        reader = self._reader(SERVING)
        batch = decode_batch(reader.read(shard, reader.end(shard) - 1, max_records=1)[0].payload)
        columns = [batch.column(batch.schema.get_field_index(name)).to_numpy() for name in self.case.features.names]
        users, rows = (batch.column(batch.schema.get_field_index(name)).to_pylist() for name in (KEY, "origin_row"))
        return {row: (user, vector) for row, user, vector in zip(rows, users, np.column_stack(columns), strict=True)}

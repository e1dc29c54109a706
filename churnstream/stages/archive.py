"""Parquet files of everything that came in: by day, whole or not at all, each row in exactly one of them.

A file is written aside and renamed when it is complete and on disk. Before the first rename of a flush the range of offsets it
covers is noted durably; after the last one the position moves past it. A crash in between leaves the note: the same range is read
again, cut at the same place, and files that are there already are left as they are. The note is refused to a worker that does not
hold the shard any more, and what a worker has waiting of a shard that was elsewhere meanwhile is dropped: it is read again.
"""

import json
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from churnstream.errors import LeaseLost, StorageFailed
from churnstream.failpoints import reach
from churnstream.streams.base import Unit
from churnstream.usecases.case import EVENT_TIME

FLUSHES = "flushes"
WRITERS = 8


@dataclass(slots=True)
class Pending:
    """What one shard has waiting: batches with the offset of each, in order, and when the first of them came."""

    since: datetime
    batches: list[tuple[int, pa.RecordBatch]] = field(default_factory=list)
    rows: int = 0

    @property
    def first(self) -> int:
        return self.batches[0][0]

    @property
    def last(self) -> int:
        return self.batches[-1][0]

    def add(self, offset: int, batch: pa.RecordBatch) -> None:
        self.batches.append((offset, batch))
        self.rows += batch.num_rows

    def cut(self, last: int) -> tuple["Pending", "Pending"]:
        """What goes up to and with the offset ``last``, and what comes after it."""
        until, after = Pending(self.since), Pending(self.since)
        for offset, batch in self.batches:
            (until if offset <= last else after).add(offset, batch)
        return until, after


class ParquetSink:
    """Buffers batches and flushes them by size, by age and when told.

    ``begin_at(source, shard, offset)`` opens a unit whose commit moves the shard's position past ``offset``; ``begin_in(shard)``
    one that moves none, and is kept only while this worker holds the shard.
    """

    def __init__(
        self,
        folder: Path,
        source: str,
        begin_in: Callable[[int], Unit],
        begin_at: Callable[[str, int, int], Unit],
        clock: Callable[[], datetime],
        flush_rows: int,
        flush_age: timedelta,
    ):
        self._folder, self._source, self._clock = folder, source, clock
        self._begin_in, self._begin_at = begin_in, begin_at
        self._flush_rows, self._flush_age = flush_rows, flush_age
        self._pending: dict[int, Pending] = {}
        self._noted: dict[int, int | None] = {}

    @property
    def rows(self) -> int:
        """Rows that wait for a flush."""
        return sum(each.rows for each in self._pending.values())

    def add(self, shard: int, offset: int, batch: pa.RecordBatch) -> list[tuple[int, int]]:
        """Take one record; returns the (shard, offset) up to which everything is durable now, for each shard flushed."""
        known = self._pending.get(shard)
        if known is not None and (offset == known.first or self._is_done(shard, known.first)):
            self._forget(shard)  # all of it is read again
            known = None
        batch = _with_origin(batch, offset)
        flushed = [] if known is None or known.batches[0][1].schema.equals(batch.schema) else self._flush_each([shard])
        if known is None or offset > known.last:  # else it waits already: its flush has failed
            self._pending.setdefault(shard, Pending(self._clock())).add(offset, batch)
        cut = self._cut(shard)
        if cut is not None and cut <= offset:
            return flushed + self._flush_each([shard])
        return flushed + (self.flush() if self.rows >= self._flush_rows else [])

    def flush_old(self) -> list[tuple[int, int]]:
        """Flush the shards whose oldest row has waited for the flush age; a clock that was put back keeps none waiting longer."""
        now, young = self._clock(), timedelta(0)
        waited = ((shard, now - each.since) for shard, each in list(self._pending.items()))
        return self._flush_each(shard for shard, age in waited if not young <= age < self._flush_age)

    def flush(self) -> list[tuple[int, int]]:
        """Flush every shard that may be: one whose last flush was cut short waits until it is whole again."""
        return self._flush_each(list(self._pending))

    def _flush_each(self, shards) -> list[tuple[int, int]]:  # type: ignore[no-untyped-def]
        """Each by itself: one that cannot be flushed does not keep the others waiting, and is told of at the end."""
        flushed, failure = [], None
        for shard in shards:
            try:
                while self._may_flush(shard):
                    flushed.append(self._flush(shard))
            except LeaseLost:
                self._forget(shard)  # it is another worker's by now
            except StorageFailed as cause:
                failure = cause
        if failure is not None:
            raise failure
        return flushed

    def _may_flush(self, shard: int) -> bool:
        waiting, cut = self._pending.get(shard), self._cut(shard)
        return waiting is not None and (cut is None or cut <= waiting.last) and not self._was_elsewhere(shard)

    def _cut(self, shard: int) -> int | None:
        """The offset at which an unfinished flush must be cut again; None when there is none."""
        if shard not in self._noted:
            self._noted[shard] = self._unfinished(shard)
        return self._noted[shard]

    def _unfinished(self, shard: int) -> int | None:
        note = self._begin_in(shard).stored(FLUSHES, str(shard), owner="")
        last = json.loads(note)["last"] if note else None
        return None if last is None or self._is_done(shard, last) else last

    def _is_done(self, shard: int, offset: int) -> bool:
        return self._begin_at(self._source, shard, offset).replayed

    def _was_elsewhere(self, shard: int) -> bool:
        """Whether another worker has begun or done what waits here, which is dropped then."""
        gone = self._is_done(shard, self._pending[shard].first) or self._unfinished(shard) != self._cut(shard)
        if gone:
            self._forget(shard)
        return gone

    def _forget(self, shard: int) -> None:
        self._pending.pop(shard, None)
        self._noted.pop(shard, None)

    def _flush(self, shard: int) -> tuple[int, int]:
        waiting = self._pending[shard]
        if self._noted[shard] is None:
            with self._begin_in(shard) as note:
                note.put(FLUSHES, str(shard), json.dumps({"first": waiting.first, "last": waiting.last}).encode(), owner="")
            self._noted[shard] = waiting.last
        noted, rest = waiting.cut(self._noted[shard] or 0)
        with self._begin_at(self._source, shard, noted.last) as unit:
            self._write(shard, noted)
            unit.count("applied", noted.rows)
        self._forget(shard)
        if rest.batches:  # which came after a flush that failed
            self._pending[shard] = rest
        return shard, noted.last

    def _write(self, shard: int, waiting: Pending) -> None:
        """One file a day; those that an interrupted flush has finished are left as they are."""
        table = pa.Table.from_batches([batch for _, batch in waiting.batches])
        days = pc.cast(table.column(EVENT_TIME), pa.date32()).combine_chunks()
        order = pc.sort_indices(days)  # stable: within a day rows keep their order
        table, days = table.take(order), days.take(order)
        starts = [0, *(np.flatnonzero(np.diff(days.cast(pa.int32()).to_numpy())) + 1).tolist(), len(days)]
        name = f"{self._source}-{shard:02d}-{waiting.first:012d}-{waiting.last:012d}.parquet"
        parts = {
            self._folder / f"event_date={days[start].as_py().isoformat()}" / name: table.slice(start, end - start)
            for start, end in pairwise(starts)
        }
        _write_whole({target: part for target, part in parts.items() if not target.exists()})


def _with_origin(batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
    """``batch`` with where each row stood in the stream, so that any row of the archive can be traced back."""
    rows = batch.num_rows
    batch = batch.append_column("origin_offset", pa.array(np.full(rows, offset, np.int64)))
    return batch.append_column("origin_row", pa.array(np.arange(rows, dtype=np.int32)))


def _write_whole(parts: Mapping[Path, pa.Table]) -> None:
    """Each table under its name, none of them in part; raises StorageFailed when one could not be written."""
    try:
        reach("archive.before-write")
        with ThreadPoolExecutor(WRITERS) as writers:  # most of the time goes into waiting for the disk
            asides = list(writers.map(_write_aside, parts, parts.values()))
            reach("archive.before-rename")
            for aside, target in zip(asides, parts, strict=True):
                aside.rename(target)
            reach("archive.after-rename")
            list(writers.map(_sync_folder, {target.parent for target in parts}))
    except OSError as cause:
        for target in parts:
            _aside(target).unlink(missing_ok=True)
        raise StorageFailed(f"the archive could not be written ({cause}); its rows stay in the stream") from cause


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def _write_aside(target: Path, table: pa.Table) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside(target)
    with aside.open("wb") as file:
        pq.write_table(table, file, compression="zstd")
        file.flush()
        reach("archive.after-write")
        os.fsync(file.fileno())
    return aside


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Events into the first stream, as any client would send them: JSON, one a line, many lines a record."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from churnstream.codecs import NDJSON, encode_json
from churnstream.errors import UnreadablePayload
from churnstream.records import Record, shard_of
from churnstream.streams.base import Unit
from churnstream.topology import GENERATED, SHARDS
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, Source

RECORD_ROWS = 4_096
REPLAY_ROWS = 65_536


class Producer:
    """Appends events to the first stream so that running it again adds nothing.

    ``name`` says what the events are (case, seed, sizes, or the digest of a file). Events are numbered within each shard, so that
    it does not matter how they were cut into records; one that is there already is passed over. ``sequence(shard, name)`` answers
    the last number there, -1 for none. ``wait()`` returns when those who read the stream are near enough for more.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[], Unit],
        sequence: Callable[[int, str], int],
        shards: int = SHARDS,
        wait: Callable[[], None] = lambda: None,
    ):
        self._name, self._begin, self._shards, self._wait = name, begin, shards, wait
        self._done = [sequence(shard, name) for shard in range(shards)]
        self._next = [0] * shards
        self._waiting: list[list[Mapping[str, Any]]] = [[] for _ in range(shards)]
        self._shard_of: dict[str, int] = {}
        self.sent = 0
        self.passed_over = 0

    def add(self, event: Mapping[str, Any]) -> bool:
        """Take one event; True when this filled a record, which is then durable."""
        key = event[KEY]
        shard = self._shard_of.get(key)
        if shard is None:
            shard = self._shard_of[key] = shard_of(key, self._shards)
        waiting = self._waiting[shard]
        waiting.append(event)
        if len(waiting) < RECORD_ROWS:
            return False
        self._send(shard)
        return True

    def flush(self) -> None:
        """Send what waits for a full record."""
        for shard, waiting in enumerate(self._waiting):
            if waiting:
                self._send(shard)

    def _send(self, shard: int) -> None:
        events, self._waiting[shard] = self._waiting[shard], []
        known = min(max(0, self._done[shard] + 1 - self._next[shard]), len(events))
        self._next[shard] += len(events)
        self.passed_over += known
        events = events[known:]
        if not events:
            return
        key = events[0][KEY]
        self._wait()
        with self._begin() as unit:
            unit.append(GENERATED, Record(encode_json(events), len(events), key, {"content-type": NDJSON}))
            unit.produced(self._name, self._next[shard] - 1, key)
        self.sent += len(events)


def producer_name(world: str, **told: Any) -> str:
    """One name for one sequence of events of a world: the same arguments give the same name, any other another."""
    text = json.dumps(told, sort_keys=True, default=str)
    return f"{world}/{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def file_digest(path: Path) -> str:
    """The SHA-256 of the file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_table(path: Path, key: str | None = None) -> pa.Table:
    """A Parquet or CSV file as a table; raises UnreadablePayload with the reason.

    The column ``key`` of a CSV file, the first when it is None, is read as text, so that leading zeros stay.
    """
    if not path.is_file():
        raise UnreadablePayload(f"there is no file {path}")
    csv = path.suffix.lower() == ".csv"
    try:
        if not csv:
            return pq.read_table(path)
        with pyarrow.csv.open_csv(path) as reader:
            text = {key or reader.schema.names[0]: pa.string()}
        return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=text))
    except (pa.ArrowInvalid, OSError) as cause:
        raise UnreadablePayload(f"{path} is no readable {'CSV' if csv else 'Parquet'} file: {cause}") from cause


def replay(path: Path, source: Source) -> tuple[int, Iterator[Mapping[str, Any]]]:
    """How many rows the file has, and each as an event, in order of event time; rows of one instant keep the file's order."""
    table = read_table(path, source.key)
    missing = [name for name in (source.key, source.time, *source.columns.values()) if name not in table.column_names]
    if missing:
        raise UnreadablePayload(f"{path} has no column {missing[0]!r}; it has {', '.join(table.column_names)}")
    times = table.column(source.time)
    if pa.types.is_floating(times.type):
        times = pc.cast(pc.round(pc.multiply(times, 1e6)), pa.int64())
    elif pa.types.is_integer(times.type):
        times = pc.multiply(pc.cast(times, pa.int64()), 1_000_000)
    zone = "UTC" if pa.types.is_timestamp(times.type) and times.type.tz is not None else None
    instants = pc.cast(times, pa.timestamp("us", zone), safe=False)  # nanoseconds of a file are cut: event time has none
    ordered = pa.table(
        {KEY: pc.cast(table.column(source.key), pa.string()), EVENT_TIME: instants}
        | {name: table.column(column) for column, name in source.columns.items()}
    )
    order = pc.sort_indices(
        ordered.append_column("place", pa.array(range(len(ordered)))), [(EVENT_TIME, "ascending"), ("place", "ascending")]
    )
    return len(ordered), _events(ordered.take(order), source.event)


def _events(table: pa.Table, event: str) -> Iterator[Mapping[str, Any]]:
    for batch in table.to_batches(REPLAY_ROWS):
        for row in batch.to_pylist():
            at: datetime = row[EVENT_TIME]
            yield row | {EVENT_TYPE: event, EVENT_TIME: at.replace(tzinfo=UTC) if at.tzinfo is None else at}


def head(events: Iterable[Mapping[str, Any]], count: int | None) -> Iterator[Mapping[str, Any]]:
    """The first ``count`` events; all of them when None."""
    for place, event in enumerate(events):
        if count is not None and place >= count:
            return
        yield event

"""Streams on one machine: each shard of a stream lies in the journal of the function that writes it."""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Self

from churnstream.failpoints import reach
from churnstream.journal import MOVED_AT_ONCE, Changes, Journals, pack
from churnstream.records import Delivered, Record, shard_of
from churnstream.streams.letters import DEAD_LETTERS, write_letter


class EmbeddedStream:
    """Reads one stream from the journals of its writer."""

    def __init__(self, journals: Journals, name: str):
        self.shards = journals.shards
        self._journals, self._name = journals, name

    def read(self, shard: int, offset: int, max_records: int = 64, max_bytes: int = 8_000_000) -> Sequence[Delivered]:
        return self._journals[shard].read(self._name, shard, offset, max_records, max_bytes)

    def begin(self, shard: int) -> int:
        return self._journals[shard].begin(self._name)

    def end(self, shard: int) -> int:
        return self._journals[shard].end(self._name)

    def rows(self, shard: int, offset: int | None = None) -> int:
        return self._journals[shard].rows(self._name, offset)

    def trace(self, shard: int) -> Path:
        return self._journals[shard].path

    def close(self) -> None:
        self._journals.close()


class EmbeddedPositions:
    """How far a function has read, as its own journals say."""

    def __init__(self, journals: Journals, clock: Callable[[], datetime]):
        self._journals, self._clock = journals, clock

    def get(self, stream: str, shard: int) -> int:
        return self._journals[shard].position(stream, shard)

    def advance(self, stream: str, shard: int, next_offset: int) -> None:
        self._journals[shard].write(Changes(positions={(stream, shard): next_offset}, held=True), self._clock())

    def close(self) -> None:
        self._journals.close()


class EmbeddedUnit:
    """A unit of work over a function's journals: one transaction for a record of a stream, one a shard touched for a request.

    ``shard`` and ``offset`` are those of the record being applied; both None for a request or a producer. ``redrives`` is the
    dead letter that the record came from.
    """

    def __init__(
        self,
        journals: Journals,
        source: str,
        shard: int | None,
        offset: int | None,
        clock: Callable[[], datetime],
        redrives: str = "",
    ):
        self._journals, self._source, self._shard, self._offset, self._clock = journals, source, shard, offset, clock
        self._redrives = redrives
        self._changes: dict[int, Changes] = {}
        self._seen: dict[int, dict[tuple[str, str], bytes | None]] = {}
        self._met: dict[int, dict[str, dict[bytes, bytes]]] = {}
        self._unmet: dict[int, dict[str, tuple[int, set[bytes]]]] = {}
        self._began = perf_counter()
        self.replayed = shard is not None and offset is not None and offset < journals[shard].position(source, shard)

    def append(self, stream: str, record: Record) -> None:
        self._in(record.key).appends.append((stream, record))

    def put(self, table: str, key: str, value: bytes, owner: str | None = None) -> None:
        self._in(key if owner is None else owner).puts.setdefault(table, {})[key] = value

    def stored(self, table: str, key: str, owner: str | None = None) -> bytes | None:
        shard = self._shard_for(key if owner is None else owner)
        value = self._journals[shard].get(table, key)
        self._seen.setdefault(shard, {})[table, key] = value
        return value

    def stored_many(self, table: str, keys: Sequence[str], owner: str) -> dict[str, bytes]:
        shard = self._shard_for(owner)
        found = self._journals[shard].get_many(table, keys)
        self._seen.setdefault(shard, {}).update({(table, key): found.get(key) for key in keys})
        return found

    def recall(self, memory: str, keys: Collection[bytes], owner: str, span: timedelta) -> dict[bytes, bytes]:
        return self._recalled(memory, keys, self._shard_for(owner), span)

    def recall_in_every_shard(self, memory: str, key: bytes, span: timedelta) -> dict[int, bytes]:
        found = ((shard, self._recalled(memory, (key,), shard, span)) for shard in range(self._journals.shards))
        return {shard: there[key] for shard, there in found if there}

    def remember(self, memory: str, entries: Mapping[bytes, bytes], owner: str, span: timedelta) -> None:
        self._met.setdefault(self._shard_for(owner), {}).setdefault(memory, {}).update(entries)
        self._in(owner).forget[memory] = self._clock() - span

    def refuse(self, reason: str, payload: bytes, row: int | None = None, original: Record | None = None) -> None:
        place = (self._shard, self._offset, row)
        letter = write_letter(reason, self._source, place, self._clock(), payload, original, self._redrives)
        self._in("").appends.append((DEAD_LETTERS, letter))

    def count(self, outcome: str, rows: int, owner: str | None = None) -> None:
        self._in(owner or "").count(self._source, outcome, rows)

    def produced(self, producer: str, sequence: int, key: str) -> None:
        """Note that ``producer`` has appended up to ``sequence`` in the shard of ``key``, so that it need not again."""
        self._in(key).producers[producer] = sequence

    def commit(self) -> None:
        if self._shard is not None and self._offset is not None:
            self._at(self._shard).positions[self._source, self._shard] = self._offset + 1
        if not self._changes:
            return
        began = perf_counter()
        # Units of several shards overlap; what counts is the time in which at least one was at work.
        busy = began - max(self._began, self._journals.free_since) + self._journals.owed
        self._at(min(self._changes)).busy[self._source] = timedelta(seconds=busy)
        # The record's own shard comes last: its position may only move when all the rest is durable.
        for place, shard in enumerate(sorted(self._changes, key=lambda each: each == self._shard)):
            if place:
                reach("unit.between-shards")
            self._write(shard, self._changes[shard])
        self._journals.free_since = perf_counter()
        self._journals.owed = self._journals.free_since - began
        self._changes = {}

    def _write(self, shard: int, changes: Changes) -> None:
        changes.held, changes.seen = shard == self._shard, self._seen.get(shard, {})
        changes.unmet.update(self._unmet.get(shard, {}))
        for memory, entries in self._met.get(shard, {}).items():
            old = self._from_before(memory, shard)
            changes.appends.append((memory, pack(dict.fromkeys(old, b"") | entries)))
            if old:
                changes.deletes[memory] = [key.hex() for key in old]
        if self._shard is not None and self._offset is not None:
            changes.effects_of = (self._source, self._shard, self._offset)
            if shard != self._shard:
                # Rows of another shard's customers: a note beside them keeps a second try from writing them twice.
                changes.producers[f"{self._source}/{self._shard}"] = self._offset
        self._journals[shard].write(changes, self._clock())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None and not self.replayed:
            self.commit()

    def _recalled(self, memory: str, keys: Collection[bytes], shard: int, span: timedelta) -> dict[bytes, bytes]:
        now, held = self._clock(), self._journals.memory(shard, memory)
        held.read_up(self._journals[shard], memory, shard, now, now - span)
        found = held.of(keys, now - span)
        unmet = self._unmet.setdefault(shard, {}).setdefault(memory, (held.end, set()))
        unmet[1].update(key for key in keys if key not in found)
        return found

    def _from_before(self, memory: str, shard: int) -> list[bytes]:
        """A few of the keys that still stand in a table of this name, to be moved."""
        old = self._journals.memory(shard, memory).old
        return [old.pop() for _ in range(min(len(old), MOVED_AT_ONCE))]

    def _shard_for(self, key: str) -> int:
        return shard_of(key, self._journals.shards) if key or self._shard is None else self._shard

    def _in(self, key: str) -> Changes:
        return self._at(self._shard_for(key))

    def _at(self, shard: int) -> Changes:
        return self._changes.setdefault(shard, Changes())

"""What every stream keeps its word on.

A stream has shards, numbered from 0. A shard is an ordered log of records; the first has offset 0, each next one more. A record
carries one event or a batch of rows as bytes; adapters never look inside. Order holds within a shard, and so per key.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Protocol, Self, runtime_checkable

from churnstream.records import Delivered, Record


class StreamReader(Protocol):
    """Reads any shard from any offset; never changes a stream. A stream that nobody has written yet is empty."""

    shards: int

    def read(self, shard: int, offset: int, max_records: int = 64, max_bytes: int = 8_000_000) -> Sequence[Delivered]:
        """The records from ``offset`` on, in order; at least one when there is one, whatever its size."""
        ...

    def begin(self, shard: int) -> int:
        """The offset of the oldest record that has not been removed; ``end`` when there is none."""
        ...

    def end(self, shard: int) -> int:
        """The offset that the next record will get."""
        ...

    def rows(self, shard: int, offset: int | None = None) -> int:
        """How many rows stand before ``offset``; before the end when it is None."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Traced(Protocol):
    """What a StreamReader may have beside: a file that shows when a shard grew."""

    def trace(self, shard: int) -> Path:
        """The file whose modification time moves after each append to ``shard``; it need not be there yet."""
        ...


class Positions(Protocol):
    """How far one function has read each shard of the streams it reads."""

    def get(self, stream: str, shard: int) -> int:
        """The offset of the next record to apply; 0 when none was."""
        ...

    def advance(self, stream: str, shard: int, next_offset: int) -> None:
        """Move forward, durably; a position behind the present one changes nothing."""
        ...

    def close(self) -> None: ...


class Unit(Protocol):
    """One unit of work: the effects of one record (or one request), durable together with the position behind it, or not at all.

    Used as a context manager: leaving it normally commits, leaving it by an exception keeps nothing. ``commit`` raises
    StorageFailed when the effects did not become durable; then none of them may be acknowledged.
    """

    replayed: bool
    """True when this function has applied the record already: the caller leaves at once, and nothing is done twice."""

    def append(self, stream: str, record: Record) -> None:
        """Append to an output stream, in the shard of the record's key (of the record being applied when it has no key)."""
        ...

    def put(self, table: str, key: str, value: bytes, owner: str | None = None) -> None:
        """Set ``key`` of ``table``; the row lies in the shard of ``owner``, of the key itself when None."""
        ...

    def stored(self, table: str, key: str, owner: str | None = None) -> bytes | None:
        """What is durable under ``key`` from before this unit."""
        ...

    def stored_many(self, table: str, keys: Sequence[str], owner: str) -> dict[str, bytes]:
        """Those of ``keys`` that are durable from before this unit, with their values; all lie in the shard of ``owner``."""
        ...

    def recall(self, memory: str, keys: Collection[bytes], owner: str, span: timedelta) -> dict[bytes, bytes]:
        """Those of ``keys`` that were remembered less than ``span`` ago, before this unit, with their values; in the shard of
        ``owner``. A key has 16 bytes. What the unit is then written for is refused, as a write that failed, when another process
        has remembered one of the others meanwhile."""
        ...

    def recall_in_every_shard(self, memory: str, key: bytes, span: timedelta) -> dict[int, bytes]:
        """The value of ``key`` in each shard in which it was remembered, as ``recall`` has it."""
        ...

    def remember(self, memory: str, entries: Mapping[bytes, bytes], owner: str, span: timedelta) -> None:
        """Remember keys with their values, which are all of one length in a memory, for ``span`` at least and not much longer;
        in the shard of ``owner``, from now on."""
        ...

    def refuse(self, reason: str, payload: bytes, row: int | None = None, original: Record | None = None) -> None:
        """Send what cannot be applied to the dead letters, with a sentence, its source and its position.

        ``payload`` is shown to people; ``original`` is what to hand back when it is redriven, ``payload`` itself when None.
        """
        ...

    def count(self, outcome: str, rows: int, owner: str | None = None) -> None:
        """Account for rows of the source: ``in``, ``applied``, ``duplicate``, ``late`` or ``invalid``."""
        ...

    def produced(self, producer: str, sequence: int, key: str) -> None:
        """Note that ``producer`` has appended up to ``sequence`` in the shard of ``key``, so that it need not again."""
        ...

    def commit(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: object, error: object, trace: object) -> None: ...

"""From settings to open parts: the only module that names an adapter.

A function's ``init_context`` calls ``open_parts`` once; its ``handler`` works with what it got and never learns where that lies.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churnstream import topology
from churnstream.errors import InvalidSetting
from churnstream.journal import Journal, Journals, journal_path
from churnstream.settings import Settings, read_settings
from churnstream.streams.base import Positions, StreamReader, Unit
from churnstream.streams.embedded import EmbeddedPositions, EmbeddedStream, EmbeddedUnit
from churnstream.tables.base import TableReader
from churnstream.tables.embedded import EmbeddedTable
from churnstream.usecases import load
from churnstream.usecases.case import UseCase

STREAM_TRIGGERS = frozenset({"embedded-stream", "kafka-cluster", "kafka", "v3ioStream", "v3io-stream"})


def now() -> datetime:
    """The wall clock, aware, UTC."""
    return datetime.now(UTC)


def settings_from_env(project: str = "", case: str = "") -> Settings:
    """Settings as the environment has them; a ``project`` or ``case`` that is given stands above it."""
    given = {"CHURNSTREAM_PROJECT": project, "CHURNSTREAM_CASE": case}
    return read_settings({**os.environ, **{name: value for name, value in given.items() if value}})


@dataclass(frozen=True)
class Parts:
    """Everything a function works with: its case, its settings, and its opened streams and tables."""

    function: topology.Function
    settings: Settings
    case: UseCase
    clock: Callable[[], datetime]
    journals: Journals

    @property
    def shards(self) -> int:
        return self.journals.shards

    def begin(self, event: Any | None = None) -> Unit:
        """A unit of work for a Nuclio event; without one, for a producer.

        Over HTTP the source is called ``http``; from a stream it is the stream's name, and the record's place is known.
        """
        if event is not None and event.trigger.kind in STREAM_TRIGGERS:
            return EmbeddedUnit(self.journals, event.topic, event.shard_id, event.offset, self.clock)
        return EmbeddedUnit(self.journals, "http" if event is not None else self.function.name, None, None, self.clock)

    def begin_at(self, source: str, shard: int, offset: int) -> Unit:
        """A unit that stands for every record of ``source`` in ``shard`` up to and with ``offset``."""
        return EmbeddedUnit(self.journals, source, shard, offset, self.clock)

    def begin_in(self, shard: int) -> Unit:
        """A unit for rows that lie in ``shard`` (``owner=""``), kept only while this worker holds it; it moves no position."""
        return EmbeddedUnit(self.journals, self.function.name, shard, None, self.clock)

    def table(self, name: str) -> TableReader:
        return open_table(name, self.settings)

    def journal(self, shard: int) -> Journal:
        """This function's own durable state for ``shard``."""
        return self.journals[shard]

    def close(self) -> None:
        self.journals.close()


def open_parts(name: str, settings: Settings | None = None, clock: Callable[[], datetime] = now) -> Parts:
    """The parts of the function ``name``; settings come from the environment when none are given."""
    settings = settings or settings_from_env()
    journals = Journals(_folder(settings.streams), name, topology.SHARDS, writable=True)
    return Parts(topology.function(name), settings, load(settings.case), clock, journals)


def open_stream(name: str, settings: Settings, function: str | None = None) -> StreamReader:
    """A reader of the stream; ``function`` chooses the writer of a stream that has several (dead letters)."""
    writer = function or topology.writers(name)[0]
    return EmbeddedStream(Journals(_folder(settings.streams), writer, topology.SHARDS), name)


def open_positions(function: str, settings: Settings, clock: Callable[[], datetime] = now) -> Positions:
    """How far ``function`` has read, and the right to move it on."""
    return EmbeddedPositions(Journals(_folder(settings.streams), function, topology.SHARDS, writable=True), clock)


def open_table(name: str, settings: Settings) -> TableReader:
    """A reader of the table."""
    return EmbeddedTable(Journals(_folder(settings.tables), topology.keeper(name), topology.SHARDS), name)


def open_journal(function: str, shard: int, settings: Settings) -> Journal:
    """A function's journal, for reading."""
    return Journal(journal_path(_folder(settings.streams), function, shard))


def _folder(address: str) -> Path:
    scheme, _, rest = address.partition("://")
    if scheme != "embedded" or not rest:
        raise InvalidSetting(f"{address!r} is no address of a stream or table that this version opens; use embedded://<folder>")
    return Path(rest)

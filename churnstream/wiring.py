"""From settings to open parts: the only module that names an adapter.

A function's ``init_context`` calls ``open_parts`` once; its ``handler`` works with what it got and never learns where that lies.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churnstream import topology
from churnstream.errors import InvalidSetting, MissingSetting
from churnstream.journal import Journal, Journals, damages, journal_path
from churnstream.records import Delivered
from churnstream.settings import Settings, read_settings
from churnstream.streams.base import Positions, StreamReader, Unit
from churnstream.streams.delivery import DeliveredUnit, Delivery
from churnstream.streams.embedded import EmbeddedPositions, EmbeddedStream, EmbeddedUnit
from churnstream.streams.letters import LETTER
from churnstream.tables.base import TableReader
from churnstream.tables.embedded import EmbeddedTable
from churnstream.usecases import load
from churnstream.usecases.case import UseCase

if TYPE_CHECKING:
    from churnstream.models.keys import Keys
    from churnstream.models.registry import Registry
    from churnstream.models.withdrawals import Withdrawals

REDRIVE = "redrive"  # who writes what dead letters hold back into streams: a stream a function
REDRIVEN = "redriven-"
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
    _readers: dict[str, Journals] = field(default_factory=dict)

    @property
    def shards(self) -> int:
        return self.journals.shards

    def begin(self, event: Any | None = None) -> Unit:
        """A unit of work for a Nuclio event; without one, for a producer.

        Over HTTP the source is called ``http``; from a stream it is the stream's name, and the record's place is known.
        """
        if event is not None and event.trigger.kind in STREAM_TRIGGERS:
            letter = (event.headers or {}).get(LETTER, "")
            unit = EmbeddedUnit(self.journals, event.topic, event.shard_id, event.offset, self.clock, letter)
            delivery = getattr(event, "delivery", None)  # None where nobody keeps to the rules of the local platform
            return unit if delivery is None else DeliveredUnit(unit, delivery)
        return EmbeddedUnit(self.journals, "http" if event is not None else self.function.name, None, None, self.clock)

    def left_out(self, event: Any) -> tuple[int, ...]:
        """The rows of a record that its payload is without, because they could not be applied: their numbers in it, in order."""
        delivery: Delivery | None = getattr(event, "delivery", None)
        return () if delivery is None else delivery.rows_left_out

    def begin_at(self, source: str, shard: int, offset: int) -> Unit:
        """A unit that stands for every record of ``source`` in ``shard`` up to and with ``offset``."""
        return EmbeddedUnit(self.journals, source, shard, offset, self.clock)

    def begin_in(self, shard: int) -> Unit:
        """A unit for rows that lie in ``shard`` (``owner=""``), kept only while this worker holds it; it moves no position."""
        return EmbeddedUnit(self.journals, self.function.name, shard, None, self.clock)

    def unread(self, stream: str) -> dict[str, int]:
        """How many rows of ``stream``, which this function writes, each function that reads it has left to read.

        One that was never deployed holds nobody up, unless none was.
        """
        found: dict[str, int] = {}
        deployed: set[str] = set()
        for reader in (each.name for each in topology.FUNCTIONS if stream in each.reads):
            journals = self._readers.setdefault(reader, Journals(_folder(self.settings.streams), reader, self.shards))
            found[reader] = 0
            for shard in range(self.shards):
                written, at = self.journals[shard], journals[shard].position(stream, shard)
                found[reader] += written.rows(stream) - written.rows(stream, at)
                if journals[shard].path.exists():
                    deployed.add(reader)
        return {reader: rows for reader, rows in found.items() if reader in deployed} or found

    def table(self, name: str) -> TableReader:
        return open_table(name, self.settings)

    def journal(self, shard: int) -> Journal:
        """This function's own durable state for ``shard``."""
        return self.journals[shard]

    def close(self) -> None:
        self.journals.close()
        for each in self._readers.values():
            each.close()


def open_parts(name: str, settings: Settings | None = None, clock: Callable[[], datetime] = now) -> Parts:
    """The parts of the function ``name``; settings come from the environment when none are given."""
    settings = settings or settings_from_env()
    journals = Journals(_folder(settings.streams), name, topology.SHARDS, writable=True)
    return Parts(topology.function(name), settings, load(settings.case), clock, journals)


def open_stream(name: str, settings: Settings, function: str | None = None) -> StreamReader:
    """A reader of the stream; ``function`` chooses the writer of a stream that has several (dead letters)."""
    writer = function or (REDRIVE if name.startswith(REDRIVEN) else topology.writers(name)[0])
    return EmbeddedStream(Journals(_folder(settings.streams), writer, topology.SHARDS), name)


def open_positions(function: str, settings: Settings, clock: Callable[[], datetime] = now) -> Positions:
    """How far ``function`` has read, and the right to move it on."""
    return EmbeddedPositions(Journals(_folder(settings.streams), function, topology.SHARDS, writable=True), clock)


def redriven_stream(function: str) -> str:
    """The stream of what is handed back to ``function``."""
    return f"{REDRIVEN}{function}"


def redriven_letters(settings: Settings) -> dict[str, datetime]:
    """The names of the dead letters that were handed back, and when."""
    found: dict[str, datetime] = {}
    for shard in range(topology.SHARDS):
        with closing(open_journal(REDRIVE, shard, settings)) as journal:
            found |= {letter: datetime.fromisoformat(at.decode()) for letter, at in journal.items(REDRIVE)}
    return found


@contextmanager
def open_redrive(letter: str, shard: int, settings: Settings, clock: Callable[[], datetime] = now) -> Iterator[Unit | None]:
    """A unit of work in ``shard`` that notes that ``letter`` was handed back; None when it was before.

    Leaving the block normally commits it.
    """
    journals = Journals(_folder(settings.streams), REDRIVE, topology.SHARDS, writable=True)
    try:
        with EmbeddedUnit(journals, REDRIVE, shard, None, clock) as unit:
            if unit.stored(REDRIVE, letter, owner="") is not None:
                yield None
            else:
                unit.put(REDRIVE, letter, clock().isoformat().encode(), owner="")
                yield unit
    finally:
        journals.close()


@contextmanager
def open_unit(function: str, settings: Settings, record: Delivered, clock: Callable[[], datetime] = now) -> Iterator[Unit]:
    """A unit of work of ``function``, whichever it is, for one record; leaving the block normally commits it."""
    journals = Journals(_folder(settings.streams), function, topology.SHARDS, writable=True)
    try:
        letter = record.headers.get(LETTER, "")
        with EmbeddedUnit(journals, record.stream, record.shard, record.offset, clock, letter) as unit:
            yield unit
    finally:
        journals.close()


def open_table(name: str, settings: Settings) -> TableReader:
    """A reader of the table."""
    return EmbeddedTable(Journals(_folder(settings.tables), topology.keeper(name), topology.SHARDS), name)


def open_joins(settings: Settings) -> TableReader:
    """What enrich-stream has joined to each event (``stages.enrich.joins``), to be read as a whole: ``items``."""
    return EmbeddedTable(Journals(_folder(settings.streams), "enrich-stream", topology.SHARDS), topology.JOINED)


def model_keys(settings: Settings, signing: bool = False) -> "Keys":
    """Whose models are trusted; with ``signing`` also a private key, which a home gets when it has none."""
    from churnstream.models.keys import read_keys, signing_keys  # costs what only training and serving have to pay

    given = {name: os.environ.get(f"CHURNSTREAM_{name.upper()}", "") for name in ("signing_key", "trusted_keys")}
    read = signing_keys if signing else read_keys
    return read(settings.home, given["signing_key"], given["trusted_keys"])


def open_registry(settings: Settings) -> "Registry":
    """The registry of the models of a project and case."""
    from churnstream.models.registry import Registry

    if settings.models is None:
        raise MissingSetting("CHURNSTREAM_MODELS", needed_by="the registry of models")
    return Registry(settings.models)


def open_withdrawals(settings: Settings) -> "Withdrawals":
    """Which candidates of a project and case were sent away."""
    from churnstream.models.withdrawals import Withdrawals

    if settings.models is None:
        raise MissingSetting("CHURNSTREAM_MODELS", needed_by="a rollback that holds in every worker")
    return Withdrawals(settings.models)


def other_functions(settings: Settings) -> tuple[str, ...]:
    """The functions that keep something here and are not of the pipeline: users' own."""
    known = {REDRIVE, *(each.name for each in topology.FUNCTIONS)}
    folders = {path.parent.name for path in _folder(settings.streams).glob("*/*.db")}
    return tuple(sorted(folders - known))


def open_journal(function: str, shard: int, settings: Settings) -> Journal:
    """A function's journal, for reading."""
    return Journal(journal_path(_folder(settings.streams), function, shard))


def check_journals(settings: Settings) -> Iterator[tuple[Path, list[str]]]:
    """Every journal of the case, with a sentence for each damaged place in it: none when all of it is as it was written."""
    folders = dict.fromkeys(_folder(address) for address in (settings.streams, settings.tables))
    for path in (path for folder in folders for path in sorted(folder.glob("*/*.db"))):
        yield path, list(damages(path))


def _folder(address: str) -> Path:
    scheme, _, rest = address.partition("://")
    if scheme != "embedded" or not rest:
        raise InvalidSetting(f"{address!r} is no address of a stream or table that this version opens; use embedded://<folder>")
    return Path(rest)

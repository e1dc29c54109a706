"""Removes from streams what is old or too much, and has been read by every function that reads it.

A function removes from the streams that it writes, and from those that it reads of a job, which is gone by now. A reader holds
back what it has not read, from the moment on that it was first deployed. One that never was holds nothing back: deployed later,
it begins where the stream begins by then, which is logged and noted in its account. Dead letters and predictions, which no
function reads, go by age and size alone. The newest record always stays. SQLite fills the room that becomes free, so that a file
stops growing; it does not shrink.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import datetime

from churnstream import topology
from churnstream.errors import ChurnstreamError, UnknownFunction
from churnstream.journal import Changes, Journal
from churnstream.operations.ledger import REMOVED
from churnstream.settings import Settings
from churnstream.wiring import now, open_journal, open_stream

SWEEP_S = 60.0
log = logging.getLogger("retention")


class Retention:
    """What ``function`` is to remove under ``settings``. Calls may block for a while; any thread may make them."""

    def __init__(self, function: str, settings: Settings, clock: Callable[[], datetime] = now):
        self._settings, self._clock = settings, clock
        self._places = tuple(_places(function)) if settings.retention_age or settings.retention_bytes else ()

    def __bool__(self) -> bool:
        """Whether there is anything to do, ever."""
        return bool(self._places)

    def sweep(self, shards: Iterable[int]) -> int:
        """Remove what may go from these shards, a few records at a time; returns how many. What fails is logged, and tried again
        at the next sweep."""
        removed = 0
        for shard in shards:
            for writer, stream in self._places:
                try:
                    removed += self._trim(writer, stream, shard)
                except ChurnstreamError as cause:
                    log.warning("%s, shard %d: nothing more was removed (%s)", stream, shard, cause)
        return removed

    def _trim(self, writer: str, stream: str, shard: int) -> int:
        path = open_journal(writer, shard, self._settings).path
        if not path.exists():
            return 0
        age, removed, some = self._settings.retention_age, 0, 1
        with closing(Journal(path, writable=True)) as journal:
            stays = journal.expired(stream, self._clock() - age if age else None, self._settings.retention_bytes)
            while some:
                some = journal.trim(stream, min(stays, self._unread(stream, shard, stays)))
                removed += some
        return removed

    def _unread(self, stream: str, shard: int, otherwise: int) -> int:
        """The first offset that some reader has not read; ``otherwise`` when nobody holds anything back."""
        for reader in topology.FUNCTIONS:
            if stream in reader.reads and _was_deployed(reader.name, self._settings):
                with closing(open_journal(reader.name, shard, self._settings)) as journal:
                    otherwise = min(otherwise, journal.position(stream, shard))
        return otherwise


async def keep_sweeping(retention: Retention, held: Callable[[], Iterable[int]], every_s: float = SWEEP_S) -> None:
    """Sweep the shards that are ``held``, again and again, until cancelled."""
    while retention:
        await asyncio.sleep(every_s)
        await asyncio.to_thread(retention.sweep, list(held()))


def begin_where_streams_begin(journal: Journal, function: str, shard: int, settings: Settings) -> None:
    """Move a function that has read nothing of ``shard`` yet past what was removed before it came."""
    try:
        _begin(journal, function, shard, settings)
    except ChurnstreamError as cause:  # whoever reads the stream next says it again, and goes on trying
        log.warning("%s, shard %d: it was not seen where its streams begin (%s)", function, shard, cause)


def _begin(journal: Journal, function: str, shard: int, settings: Settings) -> None:
    known = _known(function)
    for stream in known.reads if known else ():
        with closing(open_stream(stream, settings)) as reader:
            begin = 0 if journal.position(stream, shard) else reader.begin(shard)
            if begin:
                rows = reader.rows(shard, begin)
                log.warning(
                    "%s begins %s, shard %d, at offset %d: %d rows were removed before", function, stream, shard, begin, rows
                )
                changes = Changes(positions={(stream, shard): begin}, counts={(stream, REMOVED): rows}, held=True)
                journal.write(changes, now())


def _places(function: str) -> Iterable[tuple[str, str]]:
    """(writer, stream) of what the function removes from."""
    known = _known(function)
    if known is None:
        return
    for stream in known.writes:
        yield function, stream
    for stream in known.reads:
        yield from ((writer, stream) for writer in topology.writers(stream) if topology.function(writer).kind == "job")


def _was_deployed(function: str, settings: Settings) -> bool:
    return any(open_journal(function, shard, settings).path.exists() for shard in range(topology.SHARDS))


def _known(name: str) -> topology.Function | None:
    """The function, when it is one of the pipeline's."""
    try:
        return topology.function(name)
    except UnknownFunction:
        return None

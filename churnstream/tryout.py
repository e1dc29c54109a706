"""Trying a function in a notebook before it is deployed.

Scratch streams, and what a platform adds to nuclio-jupyter's Context and Event.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nuclio
import nuclio_sdk
from nuclio.request import TriggerInfo

from churnstream.codecs import ARROW, EventDecoder, encode_batch, encode_json
from churnstream.errors import UnreadablePayload
from churnstream.records import Delivered
from churnstream.settings import Settings
from churnstream.usecases.case import UseCase
from churnstream.wiring import open_stream, settings_from_env

STREAM_TRIGGER = "embedded-stream"


class TryoutPlatform(nuclio_sdk.Platform):
    """A function's platform while it is tried: it notes acknowledgements and sends the drain signal when told."""

    def __init__(self) -> None:
        super().__init__("tryout", on_control_callback=self._note)
        self.acknowledged: list[tuple[int, int]] = []
        """(shard, offset) of every record that the function said is durable."""

    async def drain(self) -> None:
        """What a platform does before it moves a shard away: let the function write what it holds back."""
        if self._drain_callback is not None:
            await self._drain_callback()

    async def _note(self, message: Mapping[str, Any]) -> None:
        place = message["attributes"]
        self.acknowledged.append((place["partition"], place["offset"]))


@contextmanager
def scratch(context: Any = None, own_tables: bool = True) -> Iterator[Path]:
    """Until the block ends, streams, tables and archive lie in a temporary folder, which is gone afterwards; yields the folder.

    Temporary files of whoever works inside lie there too. ``own_tables=False`` leaves the tables where they are, for one that
    only looks up. A ``context`` of nuclio-jupyter gets what a platform's has beside, ``Response`` and ``platform``, and the parts
    that ``init_context`` opened on it are closed at the end.
    """
    if context is not None:
        context.Response, context.platform = nuclio_sdk.Response, TryoutPlatform()
    with tempfile.TemporaryDirectory(prefix="churnstream-") as folder:
        streams = f"embedded://{folder}"
        tables = streams if own_tables else settings_from_env().tables
        archive = str(Path(folder) / "parquet")
        try:
            with _environment(folder, CHURNSTREAM_STREAMS=streams, CHURNSTREAM_TABLES=tables, CHURNSTREAM_ARCHIVE=archive):
                yield Path(folder)
        finally:
            if hasattr(getattr(context, "user_data", None), "parts"):
                context.user_data.parts.close()


@contextmanager
def _environment(temporary: str, **changed: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changed}
    temporary_before, tempfile.tempdir = tempfile.tempdir, temporary
    os.environ.update(changed)
    try:
        yield
    finally:
        tempfile.tempdir = temporary_before
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def detached(function: Any) -> Any:
    """A copy of an MLRun function that has its code and forgets its file: MLRun loads files below the working directory only."""
    copy = function.copy()
    copy.spec.build.origin_filename = ""
    return copy


def delivered(events: Iterable[Mapping[str, Any]], case: UseCase, stream: str, shard: int = 0, offset: int = 0) -> nuclio.Event:
    """``events`` as one record of ``stream``, the way a platform hands it to a function.

    Raises UnreadablePayload with the first sentence when an event does not fit ``case``.
    """
    decoded = EventDecoder(case).decode(encode_json(events))
    if decoded.refused:
        raise UnreadablePayload(decoded.refused[0].reason)
    return _event(encode_batch(decoded.batch), {"content-type": ARROW}, stream, shard, offset)


def first(stream: str, settings: Settings | None = None) -> nuclio.Event:
    """The oldest record of ``stream`` in its first shard that has any, as a platform hands it to a function.

    Raises UnreadablePayload when the stream is empty.
    """
    reader = open_stream(stream, settings or settings_from_env())
    try:
        for shard in range(reader.shards):
            for record in reader.read(shard, 0, max_records=1):
                return _delivered(record)
    finally:
        reader.close()
    raise UnreadablePayload(f"the stream {stream} is empty; run the notebooks before this one first")


def _delivered(record: Delivered) -> nuclio.Event:
    return _event(record.payload, record.headers, record.stream, record.shard, record.offset)


def _event(payload: bytes, headers: Mapping[str, str], stream: str, shard: int, offset: int) -> nuclio.Event:
    event = nuclio.Event(
        body=payload,
        content_type=headers.get("content-type"),
        headers=dict(headers),
        trigger=TriggerInfo(kind=STREAM_TRIGGER),
        method="POST",
    )
    # a stream's place is newer than nuclio-jupyter's class
    event.topic, event.shard_id, event.offset = stream, shard, offset
    return event

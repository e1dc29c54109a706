"""Handing dead letters back: what was refused goes once more to the function that refused it, each letter once."""

import base64
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any

from churnstream import topology
from churnstream.codecs import ARROW, EventDecoder
from churnstream.codecs.rows import read_rows
from churnstream.errors import BadRequest, UnreadablePayload
from churnstream.reading import HTTP, DeadLetter
from churnstream.records import Record, shard_of
from churnstream.settings import Settings
from churnstream.streams.letters import LETTER
from churnstream.usecases import load
from churnstream.wiring import now, open_redrive, open_stream, redriven_stream, settings_from_env

(DOOR,) = topology.writers(topology.INCOMING)


def redrive(letter: DeadLetter, settings: Settings | None = None, clock: Callable[[], datetime] = now) -> Record:
    """Hand ``letter`` back and note that it was, both at once; returns the record that the function gets.

    Raises BadRequest when it was handed back before or cannot be, and StorageFailed.
    """
    settings = settings or settings_from_env()
    record = to_record(letter, settings)
    shard = shard_of(record.key, topology.SHARDS) if record.key else int(letter.name.split(":")[1])
    with open_redrive(letter.name, shard, settings, clock) as unit:
        if unit is None:
            raise BadRequest(f"{letter.name} was handed back before; whatever was refused again has a letter of its own")
        unit.append(redriven_stream(letter.function), replace(record, key=""))  # the unit's shard is that of the key
    return record


def to_record(letter: DeadLetter, settings: Settings) -> Record:
    """What is handed back; raises BadRequest when that cannot be had."""
    if letter.redriven_at is not None:
        when = f"{letter.redriven_at:%Y-%m-%d %H:%M:%S} UTC"
        raise BadRequest(f"{letter.name} was handed back at {when}; whatever was refused again has a letter of its own")
    if letter.cut:
        raise BadRequest(f"{letter.name} holds the beginning of a longer payload only; whoever has the whole can send it again")
    if any(each.name == letter.function and each.acknowledges for each in topology.FUNCTIONS):
        raise BadRequest(f"{letter.function} refuses only what is no batch of events, which nothing can be made of")
    payload, content_type, rows = _original(letter, settings)
    key = ""
    if letter.function == DOOR:
        rows, key = _as_the_door_counts(payload, settings)
    return Record(payload, rows, key, {"content-type": content_type, LETTER: letter.name})


def _original(letter: DeadLetter, settings: Settings) -> tuple[bytes, str, int]:
    if letter.original is not None:
        kept: dict[str, Any] = letter.original
        return base64.b64decode(kept["payload"]), kept["content_type"], kept["rows"]
    is_text = letter.source == HTTP or letter.row is None or letter.function == DOOR
    from_batch = None if is_text else _from_stream(letter, settings)
    return from_batch or (letter.payload.encode(), "", 1)


def _from_stream(letter: DeadLetter, settings: Settings) -> tuple[bytes, str, int] | None:
    """A row of a batch as it stands in the stream that it came from; None when that holds no batches."""
    assert letter.shard is not None
    assert letter.offset is not None
    reader = open_stream(letter.source, settings)
    found = reader.read(letter.shard, letter.offset, max_records=1)
    reader.close()
    if not found or found[0].offset != letter.offset:
        raise BadRequest(f"{letter.name} came from a record that {letter.source} does not hold any more")
    content_type = found[0].headers.get("content-type", "")
    rows = read_rows(found[0].payload, content_type)
    if content_type != ARROW or rows is None or letter.row is None:
        return None
    return rows.take([letter.row]), ARROW, 1


def _as_the_door_counts(payload: bytes, settings: Settings) -> tuple[int, str]:
    """How many events there are in it, and whose they are when they can be read now."""
    try:
        decoded = EventDecoder(load(settings.case)).decode(payload)
    except UnreadablePayload:
        return 1, ""
    return decoded.rows, decoded.batch.column(0)[0].as_py() if decoded.batch.num_rows else ""

"""A batch of a case's events as bytes: Arrow IPC that carries the version of its layout; another version is refused."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import pyarrow as pa

from churnstream.errors import UnknownVersion, UnreadablePayload
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, Kind, UseCase

JSON = "application/json"
NDJSON = "application/x-ndjson"
ARROW = "application/vnd.apache.arrow.stream"

VERSION = "1"
VERSION_KEY = b"churnstream.version"
CASE_KEY = b"churnstream.case"

MICROSECONDS = pa.timestamp("us", tz="UTC")
CODES = pa.dictionary(pa.int8(), pa.string())
ARROW_TYPES = {Kind.TEXT: pa.string(), Kind.NUMBER: pa.float64(), Kind.WHOLE: pa.int64(), Kind.DATE: pa.date32()}

# A batch has many small columns: to hand each to another thread takes longer than to press it.
WRITING = pa.ipc.IpcWriteOptions(compression="lz4", use_threads=False)
READING = pa.ipc.IpcReadOptions(use_threads=False)


def schema(case: UseCase) -> pa.Schema:
    """The columns of a batch of a case's events: user_id, event_type, event_time, then every field of every event."""
    columns = [pa.field(KEY, pa.string(), False), pa.field(EVENT_TYPE, CODES, False), pa.field(EVENT_TIME, MICROSECONDS, False)]
    columns += [pa.field(each.name, ARROW_TYPES[each.kind]) for each in case.fields]
    return pa.schema(columns, metadata={VERSION_KEY: VERSION.encode(), CASE_KEY: case.name.encode()})


def identified(case: UseCase) -> pa.Schema:
    """The columns of ``schema`` and event_id: what the door reads where ids come. They go no further, unless the case has that
    field."""
    columns = schema(case)
    return columns if EVENT_ID in columns.names else columns.append(pa.field(EVENT_ID, pa.string()))


def encode_batch(batch: pa.RecordBatch) -> bytes:
    """Arrow IPC bytes of one batch, with the version of this layout in its schema."""
    metadata = dict(batch.schema.metadata or {}) | {VERSION_KEY: VERSION.encode()}
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema.with_metadata(metadata), options=WRITING) as writer:
        writer.write_batch(batch.replace_schema_metadata(metadata))
    return bytes(sink.getvalue().to_pybytes())


def decode_batch(payload: bytes) -> pa.RecordBatch:
    """The batch in ``payload``; raises UnreadablePayload, or UnknownVersion for bytes of another layout.

    What it returns is sound, whoever wrote the payload: no text reaches beyond its bytes, no code beyond its dictionary.
    """
    try:
        with pa.ipc.open_stream(payload, options=READING) as reader:
            metadata = reader.schema.metadata or {}
            table = reader.read_all()
        batches = table.combine_chunks().to_batches()
        batch = batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as cause:
        raise UnreadablePayload(f"the payload is no Arrow stream: {cause}") from cause
    version = metadata.get(VERSION_KEY, b"none").decode(errors="replace")
    if version != VERSION:
        raise UnknownVersion(f"the batch has layout version {version}, this version reads {VERSION}; update the reader first")
    return batch


def encode_json(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as JSON, one a line; instants as RFC 3339 in UTC."""
    return msgspec.json.Encoder().encode_lines(rows)

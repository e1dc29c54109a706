"""The rows of a payload one by one: some of them as a payload of their own, or one of them as text."""

import json
from collections.abc import Sequence
from typing import Protocol

import msgspec
import pyarrow as pa

from churnstream.codecs.batches import ARROW, JSON, NDJSON, decode_batch, encode_batch, encode_json
from churnstream.codecs.judge import UNREADABLE
from churnstream.errors import UnknownVersion, UnreadablePayload


class Rows(Protocol):
    """A payload that was told apart into rows."""

    def __len__(self) -> int: ...

    def take(self, places: Sequence[int]) -> bytes:
        """A payload of the same kind with these rows only, in this order."""
        ...

    def text(self, place: int) -> bytes:
        """One row as JSON."""
        ...


def read_rows(payload: bytes, content_type: str) -> Rows | None:
    """The rows of ``payload``; None when they cannot be told apart."""
    if content_type == ARROW:
        try:
            return ArrowRows(decode_batch(payload))
        except (UnreadablePayload, UnknownVersion):
            return None
    return _json_rows(payload) if content_type in (JSON, NDJSON, "") else None


class ArrowRows:
    """Rows of a batch."""

    def __init__(self, batch: pa.RecordBatch):
        self._batch = batch

    def __len__(self) -> int:
        return int(self._batch.num_rows)

    def take(self, places: Sequence[int]) -> bytes:
        return encode_batch(self._batch.take(pa.array(places, pa.int64())))

    def text(self, place: int) -> bytes:
        row = self._batch.slice(place, 1).to_pylist()[0]
        return encode_json([{name: value for name, value in row.items() if value is not None}]).rstrip(b"\n")


class JsonRows:
    """Rows of an array, or of lines; a single event may go over several lines."""

    def __init__(self, items: Sequence[bytes], array: bool):
        self._items, self._array = items, array

    def __len__(self) -> int:
        return len(self._items)

    def take(self, places: Sequence[int]) -> bytes:
        chosen = [self._items[place] for place in places]
        return b"[" + b",".join(chosen) + b"]" if self._array else b"\n".join(chosen)

    def text(self, place: int) -> bytes:
        return self._items[place]


def _json_rows(payload: bytes) -> JsonRows | None:
    if payload.lstrip()[:1] == b"[":
        try:
            items: list[msgspec.Raw] = msgspec.json.decode(payload, type=list[msgspec.Raw])
        except UNREADABLE:
            return None
        return JsonRows([bytes(each) for each in items], array=True)
    try:
        json.loads(payload)
    except (ValueError, RecursionError):
        return JsonRows([line for line in payload.splitlines() if line.strip()], array=False)
    return JsonRows([payload], array=False)

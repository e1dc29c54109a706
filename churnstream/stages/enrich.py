"""The join with the lookup table, on whole batches."""

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.errors import UnreadablePayload
from churnstream.tables.base import TableReader
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

MARK = "enriched"  # true: the table held the key; false: the default was used; null: no join on this event


def enrich(batch: pa.RecordBatch, case: UseCase, lookup: TableReader | None) -> tuple[pa.RecordBatch, int]:
    """``batch`` with the case's looked-up column and its mark, and how many events got the default.

    The label, when it stands in an event, goes no further than this: a model must not see what is known only later.
    """
    if case.label_field is not None:
        batch = batch.drop_columns([case.label_field])
    join = case.enrichment
    if join is None or lookup is None:
        return batch, 0
    places = _places(batch.column(batch.schema.get_field_index(EVENT_TYPE)), join.event)
    if not len(places):  # most batches: registrations are few
        batch = batch.append_column(join.column, pa.nulls(batch.num_rows, pa.float64()))
        return batch.append_column(MARK, pa.nulls(batch.num_rows, pa.bool_())), 0
    keys = batch.column(batch.schema.get_field_index(join.key)).take(pa.array(places)).to_pylist()
    found = {key: decode_number(value) for key, value in lookup.get_many({key for key in keys if key is not None}).items()}
    values, marks = np.zeros(batch.num_rows), np.zeros(batch.num_rows, np.bool_)
    others = np.ones(batch.num_rows, np.bool_)
    values[places] = [found.get(key, join.default) for key in keys]
    marks[places] = [key in found for key in keys]
    others[places] = False
    batch = batch.append_column(join.column, pa.array(values, mask=others))
    return batch.append_column(MARK, pa.array(marks, mask=others)), len(places) - int(marks.sum())


def joins(batch: pa.RecordBatch, case: UseCase) -> dict[str, bytes]:
    """What ``enrich`` has joined to the events of ``batch``, as rows of the table ``joined``: default or found, it is what the
    customer's features are made of. Training reads it, because the lookup table may say something else by then."""
    if case.enrichment is None or MARK not in batch.schema.names:
        return {}
    marks = batch.column(batch.schema.get_field_index(MARK))
    if marks.null_count == len(marks):
        return {}
    places = pa.array(np.flatnonzero(marks.is_valid().to_numpy(zero_copy_only=False)))
    told = (batch.column(batch.schema.get_field_index(name)) for name in (EVENT_TIME, KEY, case.enrichment.column))
    at, keys, numbers = (column.take(places) for column in told)
    instants = at.cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_pylist()
    rows = zip(instants, keys.to_pylist(), numbers.to_pylist(), strict=True)
    return {f"{instant}:{key}": encode_number(number) for instant, key, number in rows}


def split_join(key: str) -> tuple[int, str]:
    """The event time (µs since 1970, UTC) and the customer of a row of ``joins``."""
    instant, _, customer = key.partition(":")
    return int(instant), customer


def _places(types: pa.DictionaryArray, event: str) -> NDArray[np.int64]:
    """Where the event stands, (n,), in order."""
    names = types.dictionary.to_pylist()
    if event not in names:
        return np.zeros(0, np.int64)
    return np.flatnonzero(types.indices.to_numpy() == names.index(event))


def lookup_rows(keys: Iterable[Any], numbers: Iterable[Any]) -> Iterator[tuple[str, bytes]]:
    """Rows of a lookup table as they are stored; raises UnreadablePayload for a row without a key or a finite number."""
    for place, (key, number) in enumerate(zip(keys, numbers, strict=True)):
        if key in (None, "") or not isinstance(number, int | float) or not isfinite(number):
            raise UnreadablePayload(f"row {place} of the lookup table is {key!r}, {number!r}; it needs a key and a finite number")
        yield str(key), encode_number(number)


def encode_number(number: float) -> bytes:
    """The shortest text that reads back as the same double."""
    return repr(float(number)).encode()


def decode_number(value: bytes) -> float:
    """The number behind ``encode_number``'s bytes."""
    return float(value)

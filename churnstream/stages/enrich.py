"""The join with the lookup table, on whole batches."""

from collections.abc import Iterable, Iterator
from math import isfinite
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from churnstream.errors import UnreadablePayload
from churnstream.tables.base import TableReader
from churnstream.usecases.case import EVENT_TYPE, UseCase

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
    joined = pc.equal(batch.column(batch.schema.get_field_index(EVENT_TYPE)).cast(pa.string()), join.event)
    places = pc.indices_nonzero(joined).to_pylist()
    keys = batch.column(batch.schema.get_field_index(join.key))
    wanted = [keys[place].as_py() for place in places]
    found = {key: decode_number(value) for key, value in lookup.get_many({key for key in wanted if key is not None}).items()}
    values: list[float | None] = [None] * batch.num_rows
    marks: list[bool | None] = [None] * batch.num_rows
    for place, key in zip(places, wanted, strict=True):
        marks[place] = key in found
        values[place] = found.get(key, join.default)
    unknown = sum(mark is False for mark in marks)
    batch = batch.append_column(join.column, pa.array(values, pa.float64()))
    return batch.append_column(MARK, pa.array(marks, pa.bool_())), unknown


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

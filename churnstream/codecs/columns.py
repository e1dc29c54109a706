"""What becomes of texts and numbers once they are read: columns, and where in them stands what no event may have."""

from collections.abc import Mapping
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.codecs.batches import MICROSECONDS

Places = NDArray[np.int64]
Mask = NDArray[np.bool_]

DAYS = pa.date32()
INSTANTS = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
LIMITS = {
    MICROSECONDS: [pa.scalar(each, MICROSECONDS).value for each in INSTANTS],
    DAYS: [pa.scalar(each, DAYS).value for each in (date.min, date.max)],
}  # what Python can hold; Arrow reads the year 0 as well
WIDTHS = {MICROSECONDS: pa.int64(), DAYS: pa.int32()}


def cast(texts: pa.Array, to: pa.DataType) -> tuple[pa.Array, Mask]:
    """``texts`` as instants or dates (a key of LIMITS), and where a text is none; the value there means nothing."""
    pieces = _pieces(texts, to)
    values = pieces[0] if len(pieces) == 1 else pa.concat_arrays(pieces)
    first, last = LIMITS[to]
    numbers = values.view(WIDTHS[to])
    since = (numbers.fill_null(first - 1) if numbers.null_count else numbers).to_numpy()
    wrong: Mask = (since < first) | (since > last)
    return values, wrong & mask(texts.is_valid()) if texts.null_count else wrong


def _pieces(texts: pa.Array, to: pa.DataType) -> list[pa.Array]:
    """``texts`` as ``to``, null where one cannot be; Arrow casts all or nothing, so what it refuses is halved."""
    try:
        return [texts.cast(to)]
    except pa.ArrowInvalid:
        if len(texts) == 1:
            return [pa.nulls(1, to)]
        half = len(texts) // 2
        return _pieces(texts[:half], to) + _pieces(texts[half:], to)


def mask(booleans: pa.Array) -> Mask:
    """A boolean array without nulls, for numpy."""
    found: Mask = booleans.to_numpy(zero_copy_only=False)
    return found


def negative_zero(numbers: NDArray[Any]) -> Mask:
    """Where a number is -0.0, which is no amount."""
    return (numbers == 0) & np.signbit(numbers)


def spread(values: pa.Array, places: Places, size: int) -> pa.Array:
    """A column of ``size`` with ``values`` at ``places``, which may be in any order, and null elsewhere."""
    origin = np.full(size, -1)
    origin[places] = np.arange(len(places))
    return values.take(pa.array(origin, mask=origin < 0))


def batch(schema: pa.Schema, columns: Mapping[str, pa.Array], size: int) -> pa.RecordBatch:
    """A batch of ``size`` rows; a column that is not among ``columns`` is null throughout."""
    arrays = [columns[each.name] if each.name in columns else pa.nulls(size, each.type) for each in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)

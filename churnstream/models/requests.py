"""What a caller may ask of the model, turned into a matrix."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import nan
from sys import float_info
from typing import Any

import numpy as np
from numpy.typing import NDArray

from churnstream.errors import BadRequest

MOST_ROWS = 10_000
LARGEST = float_info.max
FORMS = (
    'send {"inputs": [[...one number a feature...]]}, {"inputs": [{"user_id": "..."}]}, {"inputs": [{"<feature>": number, ...}]},'
    ' or a tensor {"inputs": [{"name": "features", "shape": [n, features], "datatype": "FP64", "data": [...]}]}'
)

Lookup = Callable[[str], tuple[NDArray[np.float64], datetime]]


@dataclass(frozen=True, slots=True)
class Asked:
    """``matrix`` (n, features); ``users`` and ``as_of`` (n,) hold the customer and the instant of looked-up rows, else None."""

    matrix: NDArray[np.float64]
    users: tuple[str | None, ...]
    as_of: tuple[datetime | None, ...]


def read_request(body: Any, names: Sequence[str], lookup: Lookup) -> Asked:
    """The rows of a request; ``lookup(user_id)`` gives a customer's vector and its instant, or raises UnknownCustomer.

    Raises BadRequest with a sentence. A null is a missing value; a row that has ``user_id`` and features looks the customer up
    and puts the given features over what it found.
    """
    if not isinstance(body, Mapping) or not isinstance(body.get("inputs"), list):
        raise BadRequest(f"the body has no list called inputs; {FORMS}")
    inputs = body["inputs"]
    if not inputs:
        raise BadRequest(f"inputs is empty; {FORMS}")
    if isinstance(inputs[0], Mapping) and "data" in inputs[0]:
        inputs = _tensor(inputs, len(names))
    if len(inputs) > MOST_ROWS:
        raise BadRequest(f"{len(inputs)} rows were asked for at once; at most {MOST_ROWS} are answered")
    rows = [_row(each, place, names, lookup) for place, each in enumerate(inputs)]
    return Asked(np.array([row for row, _, _ in rows]), tuple(user for _, user, _ in rows), tuple(at for _, _, at in rows))


def _row(given: Any, place: int, names: Sequence[str], lookup: Lookup) -> tuple[NDArray[np.float64], str | None, datetime | None]:
    if isinstance(given, list):
        if len(given) != len(names):
            raise BadRequest(f"row {place} has {len(given)} numbers, the model takes {len(names)}: {', '.join(names)}")
        return np.array([_number(value, f"row {place}, {name}") for value, name in zip(given, names, strict=True)]), None, None
    if not isinstance(given, Mapping):
        raise BadRequest(f"row {place} is a {type(given).__name__}; {FORMS}")
    unknown = [name for name in given if name != "user_id" and name not in names]
    if unknown:
        raise BadRequest(f"row {place} names {unknown[0]!r}, which is no feature of the model: {', '.join(names)}")
    user = given.get("user_id")
    if user is None:
        missing = [name for name in names if name not in given]
        if missing:
            raise BadRequest(f"row {place} lacks {missing[0]}; give every feature (null where it is unknown), or a user_id")
        row, at = np.full(len(names), nan), None
    else:
        if not isinstance(user, str) or not user:
            raise BadRequest(f"row {place} has a user_id that is no text")
        found, at = lookup(user)
        row = found.copy()
    for column, name in enumerate(names):
        if name in given:
            row[column] = _number(given[name], f"row {place}, {name}")
    return row, user, at


def _number(value: Any, where: str) -> float:
    if value is None:
        return nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"{where} is a {type(value).__name__}; a feature is a number, or null where it is unknown")
    if not abs(value) <= LARGEST:
        raise BadRequest(f"{where} is {str(value)[:20]}; a feature is a finite number, or null where it is unknown")
    return float(value)


def _tensor(inputs: Sequence[Any], columns: int) -> list[list[Any]]:
    tensor = inputs[0]
    shape, data = tensor.get("shape"), tensor["data"]
    if len(inputs) != 1 or not isinstance(data, list):
        raise BadRequest("one tensor is taken, with its data as a list")
    if any(isinstance(each, list) for each in data):
        data = [value for row in data for value in (row if isinstance(row, list) else [row])]
    if shape is None and len(data) % columns == 0:
        shape = [len(data) // columns, columns]
    if not isinstance(shape, list) or len(shape) != 2 or shape[1] != columns or shape[0] * shape[1] != len(data):
        raise BadRequest(f"the tensor has shape {shape} and {len(data)} numbers; the model takes [n, {columns}]")
    return [data[start : start + columns] for start in range(0, len(data), columns)]

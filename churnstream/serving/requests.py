"""What a caller may ask of the model, turned into rows of numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import isfinite, nan
from typing import Any

from churnstream.errors import BadRequest
from churnstream.serving import tensors

MOST_ROWS = 10_000
USER = "user_id"
NUMBERS = frozenset({int, float})
FORMS = (
    'send {"inputs": [[...one number a feature...]]}, {"inputs": [{"user_id": "..."}]}, {"inputs": [{"<feature>": number, ...}]},'
    ' or tensors {"inputs": [{"name": "features", "shape": [n, features], "datatype": "FP64", "data": [...]}]}'
)
Row = Sequence[float]


@dataclass(frozen=True, slots=True)
class Known:
    """What a look-up found: the features at ``as_of``, from the customer's events up to ``newest``."""

    values: Row
    as_of: datetime
    newest: datetime

    @property
    def age(self) -> timedelta:
        """How long the customer had been silent."""
        return self.as_of - self.newest


@dataclass(slots=True)  # not frozen, which would cost every request a microsecond
class Asked:
    """``rows`` to score, each with the customer it is about, if one was named, and what was looked up for it, if anything was.

    ``tensors`` says in which of the two forms the question came.
    """

    rows: Sequence[Row]
    users: Sequence[str | None]
    found: Sequence[Known | None]
    tensors: bool = False

    @property
    def looked_up(self) -> bool:
        """Whether any row's customer was looked up."""
        return any(self.found)


Lookup = Callable[[str], Known]


def read_request(body: Any, names: Sequence[str], lookup: Lookup) -> Asked:
    """The rows of a request; ``lookup(user_id)`` gives what is known of a customer, or raises UnknownCustomer.

    Raises BadRequest with a sentence. A null is a missing value; a row that has ``user_id`` and features looks the customer up
    and puts the given features over what it found.
    """
    if not isinstance(body, dict) or not isinstance(body.get("inputs"), list):
        raise BadRequest(f"the body has no list called inputs; {FORMS}")
    inputs = body["inputs"]
    if not inputs:
        raise BadRequest(f"inputs is empty; {FORMS}")
    if isinstance(inputs[0], dict) and "data" in inputs[0]:
        return _from_tensors(inputs, names, lookup)
    if len(inputs) > MOST_ROWS:
        raise too_many(len(inputs))
    read = [_row(each, place, names, lookup) for place, each in enumerate(inputs)]
    return Asked([row for row, _, _ in read], [user for _, user, _ in read], [found for _, _, found in read])


def plain(values: Sequence[Any]) -> bool:
    """Whether all of them are numbers, and finite, told at once; False is no verdict: a sum may overflow."""
    try:
        return NUMBERS.issuperset(map(type, values)) and isfinite(sum(values))
    except OverflowError:
        return False


def too_many(rows: int) -> BadRequest:
    """What is said to who asks for too much."""
    return BadRequest(f"{rows} rows were asked for at once; at most {MOST_ROWS} are answered")


def _row(given: Any, place: int, names: Sequence[str], lookup: Lookup) -> tuple[Row, str | None, Known | None]:
    if isinstance(given, list):
        if len(given) != len(names):
            raise BadRequest(f"row {place} has {len(given)} numbers, the model takes {len(names)}: {', '.join(names)}")
        if plain(given):
            return given, None, None
        return [_number(value, place, name) for value, name in zip(given, names, strict=True)], None, None
    if not isinstance(given, dict):
        raise BadRequest(f"row {place} is a {type(given).__name__}; {FORMS}")
    user = given.get(USER)
    if user is not None and len(given) == 1:
        return _looked_up(user, place, lookup)
    unknown = [name for name in given if name != USER and name not in names]
    if unknown:
        raise BadRequest(f"row {place} names {unknown[0]!r}, which is no feature of the model: {', '.join(names)}")
    missing = [name for name in names if name not in given]
    if user is None and missing:
        raise BadRequest(f"row {place} lacks {missing[0]}; give every feature (null where it is unknown), or a user_id")
    under: Row = [nan] * len(names)
    found = None
    if user is not None and missing:
        under, user, found = _looked_up(user, place, lookup)
    elif user is not None:
        _check_user(user, place)
    return [_number(given[name], place, name) if name in given else under[at] for at, name in enumerate(names)], user, found


def _looked_up(user: Any, place: int, lookup: Lookup) -> tuple[Row, str, Known]:
    _check_user(user, place)
    found = lookup(user)
    return found.values, user, found


def _check_user(user: Any, place: int) -> None:
    if not isinstance(user, str) or not user:
        raise BadRequest(f"row {place} has a user_id that is no text")


def _number(value: Any, place: int, name: str) -> float:
    if value is None:
        return nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadRequest(f"row {place}, {name} is a {type(value).__name__}; a feature is a number, or null where it is unknown")
    try:
        number = float(value)
    except OverflowError:
        number = nan
    if not isfinite(number):
        raise BadRequest(f"row {place}, {name} is {str(value)[:20]}; a feature is a finite number, or null where it is unknown")
    return number


def _from_tensors(inputs: Sequence[Any], names: Sequence[str], lookup: Lookup) -> Asked:
    """Tensors: one of whole vectors, or one a feature, or customers; beside customers, what is not given is looked up."""
    given = tensors.read(inputs)
    rows = given[0].rows
    if rows > MOST_ROWS:
        raise too_many(rows)
    matrix: Sequence[Row] | None = None
    columns: dict[str, Row] = {}
    users: Sequence[Any] = [None] * rows
    for each in given:
        if each.rows != rows:
            raise BadRequest(
                f"the tensor {each.name} has {each.rows} rows and {given[0].name} has {rows}; they describe the same rows"
            )
        if each.name == USER:
            users = each.texts()
        elif each.name in names and each.columns == 1:
            columns[each.name] = each.numbers()
        elif matrix is None and each.columns == len(names):
            matrix = each.vectors()
        else:
            raise BadRequest(
                f"the tensor {each.name} has shape {list(each.shape)}; the model takes features [n, {len(names)}], user_id [n],"
                f" or one tensor [n] for a feature, called as it is: {', '.join(names)}"
            )
    return _together(matrix, columns, users, names, lookup)


def _together(
    matrix: Sequence[Row] | None, columns: Mapping[str, Row], users: Sequence[Any], names: Sequence[str], lookup: Lookup
) -> Asked:
    found: Sequence[Known | None] = [None] * len(users)
    missing = [name for name in names if name not in columns]
    for place, user in enumerate(users):
        if user is not None:
            _check_user(user, place)
    if matrix is None and missing:
        if users[0] is None:
            raise BadRequest(f"there is no tensor {missing[0]}; give every feature, or features, or user_id")
        found = [lookup(user) for user in users]
        matrix = [each.values for each in found if each is not None]
    if columns or matrix is None:
        under = matrix or [[nan] * len(names)] * len(users)
        given = [columns.get(name) for name in names]
        matrix = [
            [below if column is None else column[place] for below, column in zip(row, given, strict=True)]
            for place, row in enumerate(under)
        ]
    return Asked(matrix, users, found, tensors=True)

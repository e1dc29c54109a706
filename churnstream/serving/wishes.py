"""What a request asks for beside its rows: which outputs, as of when, and whether to explain."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from churnstream.errors import BadRequest
from churnstream.serving.tensors import DOUBLE, FLAG, TEXT

PROBABILITY, CHURNS, MARGIN, AGE, AS_OF = "probability", "churns", "margin", "feature_age_s", "as_of"
CONTRIBUTIONS, REASONS, VERSION = "contributions", "reasons", "model_version"
TYPES = {
    PROBABILITY: DOUBLE,
    CHURNS: FLAG,
    AGE: DOUBLE,
    AS_OF: TEXT,
    MARGIN: DOUBLE,
    CONTRIBUTIONS: DOUBLE,
    REASONS: TEXT,
    VERSION: TEXT,
}
EXPLAINED = frozenset({MARGIN, CONTRIBUTIONS, REASONS})


@dataclass(frozen=True, slots=True)
class Wishes:
    """``outputs`` empty: what is usual."""

    explain: bool = False
    as_of: datetime | None = None
    outputs: tuple[str, ...] = ()

    @classmethod
    def read(cls, body: Mapping[str, Any], explain: bool) -> "Wishes":
        """From ``parameters`` and ``outputs``, other parameters being nobody's business here; raises BadRequest."""
        given, outputs = body.get("parameters"), body.get("outputs")
        if given is None and outputs is None:
            return PLAIN_EXPLAINED if explain else PLAIN
        if not isinstance(given, Mapping | None) or not isinstance(outputs, list | None):
            raise BadRequest("parameters is an object, and outputs a list of objects, each with a name")
        parameters = given or {}
        asked = _flag(parameters, "explain", explain)
        _flag(parameters, "binary_data_output", False)
        names = tuple(_output(each) for each in outputs or ())
        return cls(asked or explain or not EXPLAINED.isdisjoint(names), _instant(parameters.get("as_of")), names)


PLAIN, PLAIN_EXPLAINED = Wishes(), Wishes(explain=True)


def _flag(parameters: Mapping[str, Any], name: str, otherwise: bool) -> bool:
    given = parameters.get(name, otherwise)
    if not isinstance(given, bool):
        raise BadRequest(f"the parameter {name} is {str(given)[:40]!r}; it is true or false")
    return given


def _output(given: Any) -> str:
    name = given.get("name") if isinstance(given, Mapping) else None
    if not isinstance(name, str) or name not in TYPES:
        raise BadRequest(f"there is no output {str(name)[:40]!r}; there are {', '.join(TYPES)}")
    parameters = given.get("parameters")
    if not isinstance(parameters, Mapping | None):
        raise BadRequest(f"the parameters of the output {name} are no object")
    _flag(parameters or {}, "binary_data", False)
    return name


def _instant(given: Any) -> datetime | None:
    if given is None:
        return None
    try:
        at = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise BadRequest(f"the parameter as_of is {str(given)[:40]!r}; it is an instant such as 2026-01-03T12:00:00Z") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)

"""The definition table of a use case's features: the one place that says what each number means.

Two engines read it (``features/reference.py`` and ``graph/engine.py``) and one test holds them equal.

Time semantics, for both engines:

* Only event time counts, in whole microseconds, UTC.
* The *anchor* of a customer is the earliest event of the type ``FeatureTable.anchor``. A window of span ``S`` holds the
  events at ``anchor <= t < anchor + S``; what came before the anchor, or at or after the end, does not count.
* A customer has a feature vector from the instant the anchor *and* the event ``FeatureTable.requires`` (when set) are known. * An
  event more than ``FeatureTable.lateness`` behind the newest event of the same customer is late: it changes nothing and goes to
  the dead letters. An event inside the lateness is applied as if it had arrived in order, also when it moves the anchor.
* Customers never touch: one whose clock is wrong makes nobody else late.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from enum import StrEnum
from math import nan

from churnstream.errors import InvalidDefinition


class Op(StrEnum):
    """What is computed over the values in a window; each needs the number of events given beside it to be a number."""

    COUNT = "count"  # 0 events: 0
    SUM = "sum"  # 0 events: 0
    MEAN = "mean"  # 1 event
    VAR = "var"  # 2 events; the sample variance
    MIN = "min"  # 1 event
    MAX = "max"  # 1 event
    LAST_AT = "last_at"  # 1 event; seconds from the anchor to the newest event


NEEDS_FIELD = frozenset({Op.SUM, Op.MEAN, Op.VAR, Op.MIN, Op.MAX})
ZERO_WHEN_EMPTY = frozenset({Op.COUNT, Op.SUM})


@dataclass(frozen=True, slots=True)
class Feature:
    """One number over one field of one kind of event, in the window of ``span`` from the anchor.

    ``default`` is the value below the number of events that ``op`` needs: 0 for counts and sums, NaN for the rest.
    """

    name: str
    event: str
    field: str | None
    op: Op
    span: timedelta
    unit: str
    doc: str

    @property
    def default(self) -> float:
        return 0.0 if self.op in ZERO_WHEN_EMPTY else nan


@dataclass(frozen=True, slots=True)
class Attribute:
    """A number that an event states about the customer; the newest event by event time wins, ``default`` before any."""

    name: str
    event: str
    field: str
    unit: str
    doc: str
    default: float = nan


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """All features of a case, in the order of the vector.

    ``fingerprint`` changes when the meaning of any number does, and not when a docstring does.
    """

    anchor: str
    features: tuple[Feature | Attribute, ...]
    requires: str | None = None
    lateness: timedelta = timedelta(hours=1)
    names: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(each.name for each in self.features)
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "fingerprint", self._fingerprint())

    def _fingerprint(self) -> str:
        meaning = [
            {key: str(value) for key, value in asdict(each).items() if key != "doc"} | {"kind": type(each).__name__}
            for each in self.features
        ]
        text = json.dumps([self.anchor, self.requires, str(self.lateness), meaning], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self, fields: Mapping[str, Mapping[str, bool]]) -> None:
        """Raise InvalidDefinition unless every name is used once and every source exists.

        ``fields`` maps event type -> field name -> whether the field is a number.
        """
        if not self.features:
            raise InvalidDefinition("a case needs at least one feature")
        twice = {name for name in self.names if self.names.count(name) > 1}
        if twice:
            raise InvalidDefinition(f"feature {min(twice)} is defined twice; give each its own name")
        if self.lateness < timedelta(0):
            raise InvalidDefinition(f"the allowed lateness is {self.lateness}; it cannot be negative")
        for role, event in (("anchor", self.anchor), ("required event", self.requires)):
            if event is not None and event not in fields:
                raise InvalidDefinition(f"the {role} is {event!r}, which is no event of the case: {', '.join(fields)}")
        for each in self.features:
            _check_source(each, fields)


def _check_source(each: Feature | Attribute, fields: Mapping[str, Mapping[str, bool]]) -> None:
    if each.event not in fields:
        raise InvalidDefinition(f"feature {each.name} reads {each.event!r}, which is no event of the case: {', '.join(fields)}")
    if isinstance(each, Feature):
        if each.span <= timedelta(0):
            raise InvalidDefinition(f"feature {each.name} has a window of {each.span}; a window has a length")
        if each.field is None:
            if each.op in NEEDS_FIELD:
                raise InvalidDefinition(f"feature {each.name} takes the {each.op} of no field; name the field it reads")
            return
        if each.op not in NEEDS_FIELD:
            raise InvalidDefinition(f"feature {each.name} is a {each.op}, which reads no field; leave {each.field!r} out")
    if not fields[each.event].get(each.field or "", False):
        raise InvalidDefinition(f"feature {each.name} reads {each.event}.{each.field}, which is no number field of that event")

"""The definition table of a use case's features: the one place that says what each number means.

Two engines read it (``features/reference.py`` and ``graph/engine.py``) and one test holds them equal. The windows, and the rules
of time that hold for all of them, are described in ``features/windows.py``.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import timedelta
from enum import StrEnum
from math import nan

from churnstream.errors import InvalidDefinition
from churnstream.features.windows import First, Session, Sliding, Window


class Op(StrEnum):
    """What is computed over the events in a window; each needs the number of events given beside it to be a number."""

    COUNT = "count"  # 0 events: 0
    SUM = "sum"  # 0 events: 0
    MEAN = "mean"  # 1 event
    VAR = "var"  # 2 events; the sample variance
    STD = "std"  # 2 events; its square root
    MIN = "min"  # 1 event
    MAX = "max"  # 1 event
    FIRST = "first"  # 1 event; of events at one instant, the one that came first
    LAST = "last"  # 1 event; of events at one instant, the one that came last
    SINCE_LAST = "since_last"  # 1 event; seconds from the newest event to the instant of reading
    LAST_AT = "last_at"  # 1 event; seconds from the anchor to the newest event; windows from the anchor only
    DISTINCT = "distinct"  # 0 events: 0; how many different values; not for sessions, nor some time ago


READS_NO_FIELD = frozenset({Op.COUNT, Op.SINCE_LAST, Op.LAST_AT})
ZERO_WHEN_EMPTY = frozenset({Op.COUNT, Op.SUM, Op.DISTINCT})


@dataclass(frozen=True, slots=True)
class Feature:
    """One number over one field of one kind of event, in a window.

    ``default`` is the value below the number of events that ``op`` needs: 0 for counts and sums, NaN for the rest.
    """

    name: str
    event: str
    field: str | None
    op: Op
    window: Window
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
class Trend:
    """``of`` (a feature over a sliding window) less the same feature read ``ago`` earlier; NaN when either is."""

    name: str
    of: Feature
    ago: timedelta
    unit: str
    doc: str

    @property
    def earlier(self) -> Feature:
        """The feature that is taken away."""
        return lag(self.of, self.ago, f"{self.name} earlier")


@dataclass(frozen=True, slots=True)
class Ratio:
    """One feature of the table over another, both by name; NaN when either is, or when the lower one is 0."""

    name: str
    over: str
    under: str
    unit: str
    doc: str


Definition = Feature | Attribute | Trend | Ratio


def lag(feature: Feature, ago: timedelta, name: str = "") -> Feature:
    """``feature`` as it was ``ago`` before the instant of reading; raises InvalidDefinition unless its window slides."""
    if not isinstance(feature.window, Sliding):
        raise InvalidDefinition(f"feature {feature.name} has no sliding window, so it has no value of some time ago")
    window = replace(feature.window, ago=feature.window.ago + ago)
    return replace(feature, name=name or f"{feature.name}_lag", window=window)


@dataclass(frozen=True, slots=True)
class FeatureTable:
    """All features of a case, in the order of the vector.

    ``fingerprint`` changes when the meaning of any number does, and not when a docstring does.
    """

    features: tuple[Definition, ...]
    anchor: str | None = None
    requires: str | None = None
    lateness: timedelta = timedelta(hours=1)
    names: tuple[str, ...] = field(init=False)
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(each.name for each in self.features))
        object.__setattr__(self, "fingerprint", self._fingerprint())

    def _fingerprint(self) -> str:
        text = json.dumps(
            [self.anchor, self.requires, str(self.lateness), [_meaning(each) for each in self.features]], sort_keys=True
        )
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def check(self, fields: Mapping[str, Mapping[str, bool]]) -> None:
        """Raise InvalidDefinition unless every name is used once and every source exists.

        ``fields`` maps event type -> field name -> whether the field is a number that is always there.
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
            if isinstance(each, Ratio):
                self._check_ratio(each)
            elif isinstance(each, Trend):
                self._check_source(each.of, fields)
                self._check_source(each.earlier, fields)
            else:
                self._check_source(each, fields)

    def _check_ratio(self, each: Ratio) -> None:
        plain = [one.name for one in self.features if not isinstance(one, Ratio)]
        for name in (each.over, each.under):
            if name not in plain:
                raise InvalidDefinition(
                    f"feature {each.name} is a ratio with {name!r}, which is no feature to divide: {', '.join(plain)}"
                )

    def _check_source(self, each: Feature | Attribute, fields: Mapping[str, Mapping[str, bool]]) -> None:
        if each.event not in fields:
            raise InvalidDefinition(
                f"feature {each.name} reads {each.event!r}, which is no event of the case: {', '.join(fields)}"
            )
        if isinstance(each, Feature):
            if isinstance(each.window, First) and self.anchor is None:
                raise InvalidDefinition(f"feature {each.name} counts from an anchor, and the table names none")
            if each.op is Op.LAST_AT and not isinstance(each.window, First):
                raise InvalidDefinition(f"feature {each.name} is a {each.op}, which needs a window from the anchor")
            if each.op is Op.DISTINCT and not _keeps_values(each.window):
                raise InvalidDefinition(
                    f"feature {each.name} counts distinct values in a window that forgets which it has seen; use one from the"
                    " anchor, a sliding one that ends now, a tumbling one, or the lifetime"
                )
            if each.field is None:
                if each.op not in READS_NO_FIELD:
                    raise InvalidDefinition(f"feature {each.name} takes the {each.op} of no field; name the field it reads")
                return
            if each.op in READS_NO_FIELD:
                raise InvalidDefinition(f"feature {each.name} is a {each.op}, which reads no field; leave {each.field!r} out")
        if not fields[each.event].get(each.field or "", False):
            raise InvalidDefinition(
                f"feature {each.name} reads {each.event}.{each.field}, which is no number field of that event"
            )


def _keeps_values(window: Window) -> bool:
    return not isinstance(window, Session) and not (isinstance(window, Sliding) and window.ago)


def _meaning(each: Definition) -> dict[str, str]:
    meaning = {name: str(value) for name, value in asdict(each).items() if name != "doc"} | {"kind": type(each).__name__}
    if isinstance(each, Feature):
        meaning["window"] = f"{type(each.window).__name__} {asdict(each.window)}"
    if isinstance(each, Trend):
        meaning["of"] = str(sorted(_meaning(each.of).items()))
    return meaning

"""The slow, exact answer: plain Python over the whole history, one customer at a time.

Nothing here is shared with ``graph/engine.py``; that is what makes their agreement a proof.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import fsum, isnan, nan, sqrt

from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op, Ratio, Trend
from churnstream.features.windows import First, Lifetime, Session, Tumbling

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Observed:
    """One event as the features see it: its type, its instant (aware) and its number fields."""

    event: str
    at: datetime
    values: Mapping[str, float]


def feature_vector(table: FeatureTable, history: Iterable[Observed], as_of: datetime) -> tuple[float, ...] | None:
    """The features of one customer at ``as_of``, in the order of ``table.names``; None while they are not defined.

    ``history`` holds the customer's events in order of arrival; those after ``as_of`` are not looked at.
    """
    known = [each for each in history if each.at <= as_of]
    if not known or (table.requires is not None and not any(each.event == table.requires for each in known)):
        return None
    anchor = None
    if table.anchor is not None:
        anchor = min((each.at for each in known if each.event == table.anchor), default=None)
        if anchor is None:
            return None
    values: dict[str, float] = {}
    for each in table.features:
        if isinstance(each, Attribute):
            values[each.name] = _attribute(each, known)
        elif isinstance(each, Feature):
            values[each.name] = _windowed(each, known, anchor, as_of)
        elif isinstance(each, Trend):
            values[each.name] = _windowed(each.of, known, anchor, as_of) - _windowed(each.earlier, known, anchor, as_of)
    for each in table.features:
        if isinstance(each, Ratio):
            over, under = values[each.over], values[each.under]
            values[each.name] = nan if isnan(over) or isnan(under) or under == 0 else over / under
    return tuple(values[name] for name in table.names)


def split_late(lateness: timedelta, arrivals: Sequence[Observed]) -> tuple[list[Observed], list[Observed]]:
    """Split one customer's events, in order of arrival, into those applied and those more than ``lateness`` behind."""
    applied: list[Observed] = []
    late: list[Observed] = []
    newest: datetime | None = None
    for each in arrivals:
        if newest is not None and each.at < newest - lateness:
            late.append(each)
            continue
        applied.append(each)
        newest = each.at if newest is None else max(newest, each.at)
    return applied, late


def _attribute(attribute: Attribute, known: Sequence[Observed]) -> float:
    stated = [each for each in known if each.event == attribute.event and attribute.field in each.values]
    if not stated:
        return attribute.default
    newest = max(each.at for each in stated)
    return [each for each in stated if each.at == newest][-1].values[attribute.field]


def _inside(feature: Feature, known: Sequence[Observed], anchor: datetime | None, as_of: datetime) -> list[Observed]:
    """The events of the feature's window, by event time; events of one instant in order of arrival."""
    events = sorted((each for each in known if each.event == feature.event), key=lambda each: each.at)
    window = feature.window
    if isinstance(window, First):
        return [each for each in events if anchor is not None and anchor <= each.at < anchor + window.span]
    if isinstance(window, Lifetime):
        return events
    if isinstance(window, Session):
        return _session(events, window.gap, as_of)
    if isinstance(window, Tumbling):
        return [each for each in events if (each.at - EPOCH) // window.span == (as_of - EPOCH) // window.span]
    last = (as_of - EPOCH) // window.pane - window.ago // window.pane
    first = last - window.span // window.pane + 1
    return [each for each in events if first <= (each.at - EPOCH) // window.pane <= last]


def _session(events: list[Observed], gap: timedelta, as_of: datetime) -> list[Observed]:
    if not events or as_of - events[-1].at > gap:
        return []
    start = len(events) - 1
    while start > 0 and events[start].at - events[start - 1].at <= gap:
        start -= 1
    return events[start:]


def _windowed(feature: Feature, known: Sequence[Observed], anchor: datetime | None, as_of: datetime) -> float:
    inside = _inside(feature, known, anchor, as_of)
    if feature.op is Op.COUNT:
        return float(len(inside))
    if feature.op is Op.LAST_AT:
        return (inside[-1].at - anchor) / SECOND if inside and anchor is not None else nan
    if feature.op is Op.SINCE_LAST:
        return (as_of - inside[-1].at) / SECOND if inside else nan
    values = [each.values[feature.field or ""] for each in inside]
    if feature.op is Op.DISTINCT:
        return float(len(set(values)))
    if feature.op is Op.SUM:
        return fsum(values)
    if feature.op is Op.VAR:
        return _sample_variance(values)
    if feature.op is Op.STD:
        return sqrt(_sample_variance(values))
    if not values:
        return nan
    if feature.op is Op.MEAN:
        return fsum(values) / len(values)
    if feature.op is Op.FIRST:
        return values[0]
    if feature.op is Op.LAST:
        return values[-1]
    return min(values) if feature.op is Op.MIN else max(values)


def _sample_variance(values: Sequence[float]) -> float:
    if len(values) < 2:
        return nan
    mean = fsum(values) / len(values)
    return fsum((value - mean) ** 2 for value in values) / (len(values) - 1)

"""The slow, exact answer: plain Python over the whole history, one customer at a time.

Nothing here is shared with ``graph/engine.py``; that is what makes their agreement a proof.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import fsum, nan

from churnstream.features.definitions import Attribute, Feature, FeatureTable, Op


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
    if table.requires is not None and not any(each.event == table.requires for each in known):
        return None
    starts = [each.at for each in known if each.event == table.anchor]
    if not starts:
        return None
    anchor = min(starts)
    return tuple(
        _attribute(each, known) if isinstance(each, Attribute) else _windowed(each, known, anchor) for each in table.features
    )


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


def _windowed(feature: Feature, known: Sequence[Observed], anchor: datetime) -> float:
    inside = [each for each in known if each.event == feature.event and anchor <= each.at < anchor + feature.span]
    if feature.op is Op.COUNT:
        return float(len(inside))
    if feature.op is Op.LAST_AT:
        return max(each.at - anchor for each in inside) / timedelta(seconds=1) if inside else nan
    values = [each.values[feature.field or ""] for each in inside]
    if feature.op is Op.SUM:
        return fsum(values)
    if feature.op is Op.VAR:
        return _sample_variance(values)
    if not values:
        return nan
    if feature.op is Op.MEAN:
        return fsum(values) / len(values)
    return min(values) if feature.op is Op.MIN else max(values)


def _sample_variance(values: Sequence[float]) -> float:
    if len(values) < 2:
        return nan
    mean = fsum(values) / len(values)
    return fsum((value - mean) ** 2 for value in values) / (len(values) - 1)

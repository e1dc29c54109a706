"""What MLRun's listings accept, as pure functions: wildcards, labels, times, partitions and pages."""

import base64
import json
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import mlrun
from mlrun.common.schemas.common import LabelsModel
from mlrun.errors import MLRunInvalidArgumentError

Item = TypeVar("Item")
Labels = str | dict[str, str | None] | list[str] | None


def name_matches(name: str, asked: str | None, like: bool = False) -> bool:
    """True when no name is asked, the same name is, or (`~part`, or `like`) a part of it in any case."""
    if not asked:
        return True
    if asked.startswith("~") or like:
        return asked.removeprefix("~").casefold() in name.casefold()
    return name == asked


def labels_match(labels: Mapping[str, Any] | None, asked: Labels) -> bool:
    """True when every asked `key=value` is there, and every bare `key` exists."""
    labels = labels or {}
    for condition in LabelsModel(labels=asked).labels:
        key, has_value, value = condition.partition("=")
        if key not in labels or (has_value and str(labels[key]) != value):
            return False
    return True


def utc(instant: datetime | str | None) -> datetime | None:
    """An aware instant in UTC; a naive one counts as UTC. Raises ValueError on text that is no instant."""
    if not instant:
        return None
    if isinstance(instant, str):
        instant = datetime.fromisoformat(instant)
    return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)


def within(instant: datetime | str | None, start: datetime | str | None, end: datetime | str | None) -> bool:
    """True when the instant lies in [start, end]; with a bound asked, an unknown instant does not."""
    first, last, at = utc(start), utc(end), utc(instant)
    if first is None and last is None:
        return True
    return at is not None and (first is None or first <= at) and (last is None or at <= last)


def partition(
    items: Iterable[Item],
    key: Callable[[Item], Any],
    order: Callable[[Item], Any],
    rows: int = 1,
    descending: bool = True,
    most: int = 0,
) -> list[Item]:
    """The first `rows` items of each group after ordering; `most` above 0 keeps that many groups."""
    groups: dict[Any, list[Item]] = {}
    for item in sorted(items, key=order, reverse=descending):
        groups.setdefault(key(item), []).append(item)
    kept = list(groups.values())[: most or None]
    return [item for group in kept for item in group[:rows]]


def one_page(
    listing: Callable[..., list[Any]],
    asked: dict[str, Any],
    page: int | None,
    page_size: int | None,
    page_token: str | None,
) -> tuple[list[Any], str | None]:
    """One page of a listing and the token of the next one, None after the last.

    The token carries what was asked, so that a caller need not repeat its filters.
    """
    if page_token:
        try:
            asked, page, page_size = json.loads(base64.urlsafe_b64decode(page_token))
        except ValueError as cause:
            raise MLRunInvalidArgumentError("the page token is not one that this run database gave out") from cause
    number = page or 1
    size = page_size or int(mlrun.mlconf.httpdb.pagination.default_page_size)
    items = listing(**asked)
    end = number * size
    token = None
    if end < len(items):
        token = base64.urlsafe_b64encode(json.dumps([asked, number + 1, size], default=str).encode()).decode()
    return items[end - size : end], token

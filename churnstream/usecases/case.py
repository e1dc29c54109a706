"""The vocabulary in which a use case is written: events, enrichment, features, label, and where its events come from."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Any

from churnstream.errors import InvalidDefinition
from churnstream.features.definitions import FeatureTable

KEY = "user_id"
EVENT_TYPE = "event_type"
EVENT_TIME = "event_time"
EVENT_ID = "event_id"
ANCHOR_WEEKDAY = "anchor_weekday"  # a slice that every case has: the day of the week of the anchor, in UTC
RESERVED = frozenset({KEY, EVENT_TYPE, EVENT_TIME, "origin_offset", "origin_row", "enriched"})


class Kind(StrEnum):
    """The type of a field: in JSON a string, a number, a whole number or a date (YYYY-MM-DD)."""

    TEXT = "text"
    NUMBER = "number"
    WHOLE = "whole"
    DATE = "date"


HORIZON = timedelta(days=7)
NUMERIC = frozenset({Kind.NUMBER, Kind.WHOLE})


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an event. ``at_least`` and ``at_most`` are inclusive and bound numbers only."""

    name: str
    kind: Kind
    required: bool = True
    at_least: float | None = None
    at_most: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class EventType:
    """A kind of event. Every event has user_id, event_type and event_time beside these fields, and may have an event_id.

    An event_id is the producer's: what comes under the same id again is the same event again. The door keeps it to itself; a case
    that wants ids in its archive has a text field of that name.
    """

    name: str
    fields: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Enrichment:
    """A join of one event type with a lookup table: ``event.key`` -> a number, written to the event as ``column``.

    A key that the table does not hold, or an event without one, gets ``default`` and the mark ``enriched = false``.
    """

    event: str
    key: str
    column: str
    default: float
    unit: str
    table: str = "enrichment"
    rows: Callable[[int], Iterator[tuple[str, float]]] | None = None  # seed -> a generated table


@dataclass(frozen=True, slots=True)
class StatedLabel:
    """The label is a field of an event, a fact that becomes known ``known_after`` the anchor. 1 churned, 0 stayed."""

    event: str
    field: str
    known_after: timedelta

    def sentence(self) -> str:
        return f"{self.field} as {self.event} states it, known {spell(self.known_after)} after the anchor"


@dataclass(frozen=True, slots=True)
class SilenceLabel:
    """Churned (1) when no ``event`` falls in ``[decision, decision + span)``; known when that time has passed."""

    event: str
    span: timedelta

    def sentence(self) -> str:
        return f"no {self.event} in the {spell(self.span)} from the decision"


@dataclass(frozen=True, slots=True)
class Source:
    """How a recorded file becomes events, one a row, all of the type ``event``.

    ``key`` and ``time`` name the file's columns for the customer and the instant (seconds since 1970 or a timestamp, UTC);
    ``columns`` maps each field of the event to the file's column.
    """

    event: str
    key: str
    time: str
    columns: Mapping[str, str] = field(default_factory=dict)


Simulation = Callable[[int, int, int], Iterator[Mapping[str, Any]]]


@dataclass(frozen=True, slots=True)
class UseCase:
    """One business.

    ``decision`` is the time from the anchor to the instant at which a customer is judged. ``identity`` names the fields that make
    two events the same event: the second is counted as a duplicate and dropped; None keeps everything that was sent. An event
    with an event_id is known by that instead: two ids of a customer are two events, whatever else they say.

    ``horizon`` is how long the door knows an event again, by event_id or identity, and a request by its Idempotency-Key. It
    counts from the first arrival, by the door's clock: what comes again less than a horizon later is a duplicate, and from then
    on a new event. A duplicate does not prolong it. (Event time would not do: events that are years old are known again too
    when they are sent twice, and what a producer sends cannot keep the door from forgetting.)

    ``simulate(seed, customers, events)`` yields events in order of event time, ``events`` beside the customers' registrations.
    ``example`` is one event as a client would post it.

    ``slices`` are the groups by which a model is judged apart, each known at the decision: a field as an event has stated it by
    then, a feature (numbers fall into three bands), or ANCHOR_WEEKDAY. A feature that tells much of the label makes groups whose
    customers are alike, so the model ranks less well inside them than among all; that it does is worth knowing.
    """

    name: str
    title: str
    events: tuple[EventType, ...]
    features: FeatureTable
    label: StatedLabel | SilenceLabel
    serving_events: tuple[str, ...]
    decision: timedelta
    example: Mapping[str, Any]
    enrichment: Enrichment | None = None
    identity: tuple[str, ...] | None = None
    horizon: timedelta = HORIZON
    source: Source | None = None
    simulate: Simulation | None = None
    slices: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def event_names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.events)

    @property
    def fields(self) -> tuple[Field, ...]:
        """Every field of every event once, in the order of definition: the columns of a batch."""
        seen: dict[str, Field] = {}
        for event in self.events:
            for each in event.fields:
                seen.setdefault(each.name, each)
        return tuple(seen.values())

    @property
    def label_field(self) -> str | None:
        """The field that holds the label and so may not travel beyond the archive; None when the label is not stated."""
        return self.label.field if isinstance(self.label, StatedLabel) else None


def spell(span: timedelta) -> str:
    """A span in words.

    >>> [spell(timedelta(hours=1)), spell(timedelta(hours=24)), spell(timedelta(minutes=90)), spell(timedelta(days=7))]
    ['1 hour', '24 hours', '90 minutes', '7 days']
    """
    if span % timedelta(days=1) == timedelta(0) and span > timedelta(days=1):
        return _counted(span / timedelta(days=1), "day")
    if span % timedelta(hours=1) == timedelta(0):
        return _counted(span / timedelta(hours=1), "hour")
    return _counted(span / timedelta(minutes=1), "minute")


def _counted(number: float, unit: str) -> str:
    return f"{number:g} {unit}" if number == 1 else f"{number:g} {unit}s"


def _check(case: UseCase) -> None:
    def refuse(sentence: str) -> InvalidDefinition:
        return InvalidDefinition(f"use case {case.name}: {sentence}")

    if not case.events or len(set(case.event_names)) != len(case.events):
        raise refuse("it needs events, each with its own name")
    kinds: dict[str, Kind] = {}
    for event in case.events:
        for each in event.fields:
            if each.name in RESERVED:
                raise refuse(f"{event.name}.{each.name} is a name that every event or batch uses already; rename the field")
            if kinds.setdefault(each.name, each.kind) is not each.kind:
                raise refuse(
                    f"the field {each.name} is {each.kind} in {event.name} and {kinds[each.name]} elsewhere; one name, one kind"
                )
    if kinds.get(EVENT_ID, Kind.TEXT) is not Kind.TEXT:
        raise refuse(f"the field {EVENT_ID} is the producer's id of an event, a text; rename the field")
    if case.horizon <= timedelta(0):
        raise refuse(f"its horizon is {case.horizon}, and the door must know an event again for some time")
    numbers: dict[str, dict[str, bool]] = {
        event.name: {each.name: each.required and each.kind in NUMERIC for each in event.fields} for event in case.events
    }
    if case.enrichment is not None:
        _check_enrichment(case, case.enrichment, kinds, refuse)
        numbers[case.enrichment.event][case.enrichment.column] = True
    for name in case.features.names:
        if name in RESERVED:
            raise refuse(f"the feature {name} has a name that every event or batch uses already; rename the feature")
    if case.label_field is not None and case.label.event in numbers:
        numbers[case.label.event][case.label_field] = False  # a label is never a feature
    try:
        case.features.check(numbers)
    except InvalidDefinition as cause:
        raise refuse(str(cause)) from cause
    for name in (*case.serving_events, case.label.event):
        if name not in case.event_names:
            raise refuse(f"{name!r} is no event of the case: {', '.join(case.event_names)}")
    if case.label_field is not None and kinds.get(case.label_field) is not Kind.WHOLE:
        raise refuse(f"the label field {case.label_field} must be a whole number field of {case.label.event}")
    for name in case.slices:
        if name not in {*kinds, *case.features.names, ANCHOR_WEEKDAY} or name == case.label_field:
            raise refuse(f"its slices name {name!r}; a slice is a field of an event, a feature or {ANCHOR_WEEKDAY}")
    for name in case.identity or ():
        if name not in kinds and name not in (KEY, EVENT_TYPE, EVENT_TIME):
            raise refuse(f"its identity names {name!r}, which no event has")


def _check_enrichment(
    case: UseCase, join: Enrichment, kinds: Mapping[str, Kind], refuse: Callable[[str], InvalidDefinition]
) -> None:
    keys = {each.name for event in case.events if event.name == join.event for each in event.fields}
    if join.event not in case.event_names or join.key not in keys or kinds.get(join.key) is not Kind.TEXT:
        raise refuse(f"the enrichment joins on {join.event}.{join.key}, which is no text field of an event of the case")
    if join.column in kinds or join.column in RESERVED | {EVENT_ID}:
        raise refuse(f"the enrichment writes {join.column}, which an event has already")

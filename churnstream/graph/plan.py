"""A feature table compiled for the kernel: names become numbers, spans become microseconds, shared work becomes shared state.

Windows of one kind over one field of one event type share what they can:

* an *accumulator* sums up one field over one window from the anchor, or over a lifetime;
* a *track* keeps the panes of one field in order of time, one for each stretch of a period (for exact windows: each instant; for
  sessions: each run of events);
* a *view* is one window over a track: how many panes it holds and how many lie between it and the present one.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from churnstream.features.definitions import Attribute, Definition, Feature, Op, Ratio, Trend
from churnstream.features.windows import MICROSECOND, First, Lifetime, Session, Tumbling
from churnstream.graph.aggregate import CORE, WIDTH
from churnstream.usecases.case import UseCase

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

OPS = tuple(Op)
NEEDS_CORE = frozenset({Op.COUNT, Op.SUM, Op.MEAN, Op.VAR, Op.STD})
NONE = -1
NO_END = np.iinfo(np.int64).max  # the span of a lifetime
IS_ATTRIBUTE, IS_ACCUMULATED, IS_VIEWED, IS_TREND, IS_RATIO = range(5)


# columns of the arrays
EVENT, COLUMN = 0, 1  # of accumulators, tracks and attributes; COLUMN is NONE where only events are counted
SPAN = 2  # of an accumulator
PERIOD, GAP, FIRST_VIEW, VIEWS = 2, 3, 4, 5  # of a track; GAP is 0 unless it keeps sessions
TRACK_OF, PANES, AGO = 0, 1, 2  # of a view; AGO in panes
KIND, OP, SOURCE, SECOND = 0, 1, 2, 3  # of a feature; SECOND only where it is read from two places


class Arrays(NamedTuple):
    """The plan as the kernel reads it: one row an accumulator, track, view, attribute and feature; ``serves`` one flag an
    event type; ``width`` how many columns an aggregate takes."""

    anchor: int
    requires: int
    lateness: int
    width: int
    acc: Whole
    track: Whole
    views: Whole
    att: Whole
    feature: Whole
    serves: NDArray[np.bool_]


@dataclass(frozen=True)
class Plan:
    """``columns`` are the number columns of a batch that anything reads; ``att_default`` the attributes before any event."""

    names: tuple[str, ...]
    fingerprint: bytes
    columns: tuple[str, ...]
    att_default: Real
    arrays: Arrays

    @property
    def views_a_track(self) -> int:
        """The most views that one track has, at least 1."""
        return int(max(self.arrays.track[:, VIEWS], default=1))


def compile_plan(case: UseCase) -> Plan:
    """The plan of a case's feature table; the case has been checked when it was made."""
    return _Compiler(case).plan()


class _Compiler:
    def __init__(self, case: UseCase):
        self._case = case
        self._codes = {name: code for code, name in enumerate(case.event_names)}
        self._read = [each for each in self._expanded() if isinstance(each, Feature)]
        self._attributes = [each for each in case.features.features if isinstance(each, Attribute)]
        fields = [each.field for each in self._read] + [each.field for each in self._attributes]
        self._columns = list(dict.fromkeys(field for field in fields if field is not None))
        self._accumulators: list[tuple[int, int, int]] = []
        self._tracks: list[tuple[int, int, int, int]] = []
        self._views: list[tuple[int, int, int]] = []
        # What reads a field comes first, so that counts find something of their event and window to share.
        for each in sorted(self._read, key=lambda each: each.field is None):
            self._place(each)
        self._views.sort()  # the views of a track stand together

    def _expanded(self) -> Iterator[Definition]:
        for each in self._case.features.features:
            if isinstance(each, Trend):
                yield each.of
                yield each.earlier
            else:
                yield each

    def plan(self) -> Plan:
        table = self._case.features
        owners = [track for track, _, _ in self._views]
        tracks = [(*track, owners.index(place), owners.count(place)) for place, track in enumerate(self._tracks)]
        attributes = [(self._codes[each.event], self._columns.index(each.field)) for each in self._attributes]
        arrays = Arrays(
            anchor=NONE if table.anchor is None else self._codes[table.anchor],
            requires=NONE if table.requires is None else self._codes[table.requires],
            lateness=table.lateness // MICROSECOND,
            width=CORE if all(each.op in NEEDS_CORE and not isinstance(each.window, Session) for each in self._read) else WIDTH,
            acc=_rows(self._accumulators, 3),
            track=_rows(tracks, 6),
            views=_rows(self._views, 3),
            att=_rows(attributes, 2),
            feature=_rows([self._row(each) for each in table.features], 4),
            serves=np.array([name in self._case.serving_events for name in self._case.event_names], np.bool_),
        )
        defaults = np.array([each.default for each in self._attributes], np.float64)
        return Plan(table.names, bytes.fromhex(table.fingerprint), tuple(self._columns), defaults, arrays)

    def _row(self, each: Feature | Attribute | Trend | Ratio) -> tuple[int, int, int, int]:
        if isinstance(each, Attribute):
            return IS_ATTRIBUTE, NONE, self._attributes.index(each), NONE
        if isinstance(each, Ratio):
            names = self._case.features.names
            return IS_RATIO, NONE, names.index(each.over), names.index(each.under)
        if isinstance(each, Trend):
            return IS_TREND, OPS.index(each.of.op), self._place(each.of)[1], self._place(each.earlier)[1]
        kind, place = self._place(each)
        return kind, OPS.index(each.op), place, NONE

    def _place(self, each: Feature) -> tuple[int, int]:
        """Where a feature is read from, made if nothing there will do: (kind, place)."""
        event, column = self._codes[each.event], NONE if each.field is None else self._columns.index(each.field)
        window = each.window
        if isinstance(window, First | Lifetime):
            span = window.span // MICROSECOND if isinstance(window, First) else NO_END
            return IS_ACCUMULATED, _share(self._accumulators, (event, column, span))
        if isinstance(window, Session):
            track = _share(self._tracks, (event, column, 0, window.gap // MICROSECOND))
            return IS_VIEWED, _find(self._views, (track, 1, 0))
        pane = window.span if isinstance(window, Tumbling) else window.pane
        ago = timedelta(0) if isinstance(window, Tumbling) else window.ago
        track = _share(self._tracks, (event, column, pane // MICROSECOND, 0))
        return IS_VIEWED, _find(self._views, (track, window.span // pane, ago // pane))


def _share(places: list[Any], wanted: tuple[int, ...]) -> int:
    """The place of ``wanted`` (event, column, …); what reads a field also counts its events, and so serves where none is read."""
    for place, each in enumerate(places):
        if each == wanted or (wanted[1] == NONE and each[0] == wanted[0] and each[2:] == wanted[2:]):
            return place
    places.append(wanted)
    return len(places) - 1


def _find(places: list[tuple[int, int, int]], wanted: tuple[int, int, int]) -> int:
    if wanted not in places:
        places.append(wanted)
    return places.index(wanted)


def _rows(rows: Sequence[tuple[int, ...]], columns: int) -> Whole:
    return np.array(rows, np.int64).reshape(len(rows), columns)

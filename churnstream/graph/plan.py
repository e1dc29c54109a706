"""A feature table compiled for the kernel: names become numbers, spans become microseconds, shared work becomes shared state.

Windows of one kind over one field of one event type share what they can:

* an *accumulator* sums up one field over one window from the anchor, or over a lifetime;
* a *track* keeps the panes of one field in order of time, one for each stretch of a period (for exact windows: each instant; for
  sessions: each run of events; for distinct counts: one for each value);
* a *view* is one window over a track: how many panes it holds and how many lie between it and the present one.

Accumulators and views are *cells*: each holds an aggregate from which some *columns* of the customer's vector are read when it
has changed. The first columns are the features, in order; the hidden ones behind them are what trends and times are made from.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from churnstream.features.definitions import Attribute, Feature, Op, Ratio, Trend
from churnstream.features.windows import MICROSECOND, First, Lifetime, Session, Tumbling
from churnstream.graph.aggregate import CORE, LAST_INSTANT, WIDTH
from churnstream.usecases.case import UseCase

Whole = NDArray[np.int64]
Real = NDArray[np.float64]

OPS = tuple(Op)
CORE_OPS = tuple(map(OPS.index, (Op.COUNT, Op.SUM, Op.MEAN, Op.VAR)))
NEEDS_CORE = frozenset({Op.COUNT, Op.SUM, Op.MEAN, Op.VAR, Op.STD, Op.DISTINCT})
NONE = -1
NO_END = 2**62  # the span of a lifetime, in microseconds
WALKED = 8  # a window of at most so many panes is merged pane by pane; a longer one keeps merges

# columns of the arrays
SERVES, COUNTED, ATT, ATT_END, ANCHORED, LIFETIMES, ACC_END, TRACK, TRACK_END, CODE = range(10)  # of an event type
COLUMN = 0  # of accumulators, tracks and attributes: the number that is read; NONE where only events are counted
SPAN = 1  # of an accumulator
TO = 1  # of an attribute: its column of the vector
PERIOD, GAP, DISTINCT_OF, FIRST_VIEW, VIEWS, CELLS = range(1, 7)  # of a track
PANES, AGO, STACK = range(3)  # of a view; AGO in panes
SINCE, DIFFERENCE, QUOTIENT = range(3)  # kinds of derived columns

SLIDES, IS_SET, IS_SET_FROM_ANCHOR = range(3)  # DISTINCT_OF


class Arrays(NamedTuple):
    """The plan as the kernel reads it.

    One row an event type (``code``: what of the other arrays it concerns), accumulator, track, view, attribute and derived column
    (kind, column, first and second source). ``cell_core`` (cells, 4) are the columns that take a cell's count, sum, mean and
    var; ``cell_from`` (cells + 1,) delimits its rows of ``cell_reads`` (column, op), which take the rest. ``width`` is the width
    of an aggregate, ``stacks`` how many views of a track keep merges at most, ``most_views`` how many views one has at most;
    ``timely`` says that some column changes with every instant.
    """

    anchor: int
    requires: int
    lateness: int
    width: int
    stacks: int
    most_views: int
    features: int
    columns: int
    timely: bool
    anchored: bool
    code: Whole
    acc: Whole
    track: Whole
    views: Whole
    att: Whole
    cell_core: Whole
    cell_from: Whole
    cell_reads: Whole
    derived: Whole


@dataclass(frozen=True)
class Plan:
    """``fields`` are the number columns of a batch that anything reads, ``may_be_missing`` those of them that an event may leave
    out; ``att_default`` the attributes before any event."""

    names: tuple[str, ...]
    event_names: tuple[str, ...]
    fingerprint: bytes
    fields: tuple[str, ...]
    may_be_missing: frozenset[str]
    att_default: Real
    arrays: Arrays


def compile_plan(case: UseCase) -> Plan:
    """The plan of a case's feature table; the case has been checked when it was made."""
    return _Compiler(case).plan()


class _Compiler:
    def __init__(self, case: UseCase):
        self._case = case
        self._codes = {name: code for code, name in enumerate(case.event_names)}
        table = case.features.features
        self._attributes = [each for each in table if isinstance(each, Attribute)]
        self._columns: list[Any] = list(table)  # what stands in each column; hidden ones are appended
        self._derived: list[tuple[int, int, int, int]] = []
        for column, each in enumerate(table):
            if isinstance(each, Trend):
                self._derive(DIFFERENCE, column, self._column_of(each.of), self._column_of(each.earlier))
            elif isinstance(each, Ratio):
                names = case.features.names
                self._derive(QUOTIENT, column, names.index(each.over), names.index(each.under))
        for column, each in enumerate(list(self._columns)):
            if isinstance(each, Feature) and each.op is Op.SINCE_LAST:
                self._columns.append((each, LAST_INSTANT))
                self._derive(SINCE, column, len(self._columns) - 1, NONE)
        read = [each for each in self._columns if isinstance(each, Feature)]
        self._read = sorted(read, key=lambda each: each.field is None)
        fields = [each.field for each in self._read] + [each.field for each in self._attributes]
        self._fields = list(dict.fromkeys(field for field in fields if field is not None))
        self._accumulators: list[tuple[int, int, int]] = []
        self._tracks: list[tuple[int, ...]] = []
        self._views: list[tuple[int, int, int]] = []
        # What reads a field comes first, so that counts find something of their event and window to share.
        for each in self._read:
            self._place(each)
        self._order()

    def _derive(self, kind: int, column: int, first: int, second: int) -> None:
        self._derived.append((kind, column, first, second))

    def _column_of(self, feature: Feature) -> int:
        """The column of a feature of the same meaning; a hidden one where the table has none."""
        for column, each in enumerate(self._columns):
            if isinstance(each, Feature) and _meaning(each) == _meaning(feature):
                return column
        self._columns.append(feature)
        return len(self._columns) - 1

    def plan(self) -> Plan:
        table = self._case.features
        reads = sorted(
            (self._place(feature), column, op)
            for column, each in enumerate(self._columns)
            for feature, op in [each if isinstance(each, tuple) else (each, None)]
            if isinstance(feature, Feature) and (op is not None or feature.op is not Op.SINCE_LAST)
            for op in [OPS.index(feature.op) if op is None else op]
        )
        cells = len(self._accumulators) + len(self._views)
        core = np.full((cells, len(CORE_OPS)), NONE, np.int64)
        others: list[tuple[int, int, int]] = []
        for cell, column, op in reads:
            if op in CORE_OPS and core[cell, CORE_OPS.index(op)] == NONE:
                core[cell, CORE_OPS.index(op)] = column
            else:
                others.append((cell, column, op))
        owners = [cell for cell, _, _ in others]
        stacks, tracks = self._stacks(), self._track_rows()
        wide = any(each.op not in NEEDS_CORE or isinstance(each.window, Session) for each in self._read)
        arrays = Arrays(
            anchor=NONE if table.anchor is None else self._codes[table.anchor],
            requires=NONE if table.requires is None else self._codes[table.requires],
            lateness=table.lateness // MICROSECOND,
            width=WIDTH if wide else CORE,
            stacks=max(stacks, default=NONE) + 1,
            most_views=int(max((row[VIEWS] for row in tracks), default=0)),
            features=len(table.features),
            columns=len(self._columns),
            timely=any(kind == SINCE for kind, *_ in self._derived),
            anchored=table.anchor is not None,
            code=_rows([self._code_row(code) for code in range(len(self._codes))], CODE),
            acc=_rows([(column, span) for _, column, span in self._accumulators], 2),
            track=_rows(tracks, 7),
            views=_rows([(panes, ago, stack) for (_, panes, ago), stack in zip(self._views, stacks, strict=True)], 3),
            att=_rows([(self._fields.index(each.field), self._columns.index(each)) for each in self._attributes], 2),
            cell_core=core,
            cell_from=np.searchsorted(owners, np.arange(cells + 1)).astype(np.int64),
            cell_reads=_rows([(column, op) for _, column, op in others], 2),
            derived=_rows(sorted(self._derived), 4),
        )
        return Plan(
            names=table.names,
            event_names=self._case.event_names,
            fingerprint=bytes.fromhex(table.fingerprint),
            fields=tuple(self._fields),
            may_be_missing=frozenset(each.field for each in self._attributes),
            att_default=np.array([each.default for each in self._attributes], np.float64),
            arrays=arrays,
        )

    def _order(self) -> None:
        """Let what one event type concerns stand together: accumulators from the anchor, then lifetimes; tracks; attributes."""
        self._accumulators.sort(key=lambda each: (each[0], each[2] == NO_END))
        tracks = sorted(self._tracks, key=lambda each: (each[0], each[4] == IS_SET_FROM_ANCHOR))
        moved = [tracks.index(each) for each in self._tracks]
        self._views = sorted((moved[track], panes, ago) for track, panes, ago in self._views)
        self._tracks = tracks
        self._attributes.sort(key=lambda each: self._codes[each.event])

    def _code_row(self, code: int) -> tuple[int, ...]:
        serves = int(self._case.event_names[code] in self._case.serving_events)
        att, att_end = _range([self._codes[each.event] == code for each in self._attributes])
        anchored, lifetimes = _range([event == code and span != NO_END for event, _, span in self._accumulators])
        first, last = _range([event == code for event, _, _ in self._accumulators])
        if anchored == lifetimes:
            anchored = lifetimes = first
        track, track_end = _range([each[0] == code for each in self._tracks])
        counted = anchored < lifetimes or any(each[4] == IS_SET_FROM_ANCHOR for each in self._tracks[track:track_end])
        return serves, int(counted), att, att_end, anchored, lifetimes, last, track, track_end

    def _track_rows(self) -> list[tuple[int, ...]]:
        rows: list[tuple[int, ...]] = []
        for place, (_, column, period, gap, kind) in enumerate(self._tracks):
            views = [each for each in self._views if each[0] == place]
            first = self._views.index(views[0])
            cells = 0
            for each in range(first, first + len(views)):
                cells |= 1 << ((len(self._accumulators) + each) % 63)
            rows.append((column, period, gap, kind, first, len(views), cells))
        return rows

    def _stacks(self) -> list[int]:
        """For each view, which of its track's stacks of merges it keeps, NONE for none."""
        stacks: list[int] = []
        for place, (track, panes, ago) in enumerate(self._views):
            _, _, _, gap, kind = self._tracks[track]
            above = sum(stack != NONE for stack, view in zip(stacks, self._views[:place], strict=True) if view[0] == track)
            stacks.append(above if kind == SLIDES and gap == 0 and panes + ago > WALKED else NONE)
        return stacks

    def _place(self, each: Feature) -> int:
        """The cell that a feature is read from, made if nothing there will do."""
        event, column = self._codes[each.event], NONE if each.field is None else self._fields.index(each.field)
        window = each.window
        if each.op is Op.DISTINCT:
            return self._view(*self._set_of(event, column, each))
        if isinstance(window, First | Lifetime):
            span = window.span // MICROSECOND if isinstance(window, First) else NO_END
            return _share(self._accumulators, (event, column, span))
        if isinstance(window, Session):
            return self._view(_share(self._tracks, (event, column, 1, window.gap // MICROSECOND, SLIDES)), 1, 0)
        pane = window.span if isinstance(window, Tumbling) else window.pane
        ago = timedelta(0) if isinstance(window, Tumbling) else window.ago
        track = _share(self._tracks, (event, column, pane // MICROSECOND, 0, SLIDES))
        return self._view(track, window.span // pane, ago // pane)

    def _set_of(self, event: int, column: int, each: Feature) -> tuple[int, int, int]:
        """The track that keeps a field's values, and the window over it: for ever where it has no end of its own."""
        window = each.window
        if isinstance(window, First):  # the span stands where others have a gap, so that each span has a set of its own
            return _find(self._tracks, (event, column, NO_END, window.span // MICROSECOND, IS_SET_FROM_ANCHOR)), 1, 0
        if isinstance(window, Lifetime | Session):
            return _find(self._tracks, (event, column, NO_END, 0, IS_SET)), 1, 0
        pane = window.span if isinstance(window, Tumbling) else window.pane
        return _find(self._tracks, (event, column, pane // MICROSECOND, 0, IS_SET)), window.span // pane, 0

    def _view(self, track: int, panes: int, ago: int) -> int:
        return len(self._accumulators) + _find(self._views, (track, panes, ago))


def _meaning(each: Feature) -> tuple[Any, ...]:
    return each.event, each.field, each.op, each.window


def _share(places: list[Any], wanted: tuple[int, ...]) -> int:
    """The place of ``wanted`` (event, column, …); what reads a field also counts its events, and so serves where none is read."""
    for place, each in enumerate(places):
        if each == wanted or (wanted[1] == NONE and each[0] == wanted[0] and each[2:] == wanted[2:]):
            return place
    places.append(wanted)
    return len(places) - 1


def _find(places: list[Any], wanted: tuple[int, ...]) -> int:
    if wanted not in places:
        places.append(wanted)
    return places.index(wanted)


def _range(inside: Sequence[bool]) -> tuple[int, int]:
    """Where the true ones begin and end; they stand together."""
    return (inside.index(True), len(inside) - inside[::-1].index(True)) if any(inside) else (0, 0)


def _rows(rows: Sequence[tuple[int, ...]], columns: int) -> Whole:
    return np.array(rows, np.int64).reshape(len(rows), columns)

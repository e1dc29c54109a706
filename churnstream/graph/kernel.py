"""The compiled inner loop of the engine: one pass over a micro-batch, in order of arrival.

Everything about a customer stands in one row of ``whole`` (int64: instants in microseconds since 1970, places in the pools) and one slab
of ``real`` (aggregates, then attributes). An event that can still turn out to lie in a window from the anchor, because the anchor may yet
move, waits in a linked list; when the anchor moves, those windows are built again from it.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from churnstream.graph import aggregate as ag
from churnstream.graph import panes as pn
from churnstream.graph.plan import (
    AGO,
    COLUMN,
    EVENT,
    FIRST_VIEW,
    GAP,
    IS_ACCUMULATED,
    IS_ATTRIBUTE,
    IS_RATIO,
    IS_TREND,
    IS_VIEWED,
    KIND,
    NO_END,
    OP,
    PANES,
    PERIOD,
    SECOND,
    SOURCE,
    SPAN,
    TRACK_OF,
    VIEWS,
)

# columns of ``whole``: these, two a track, three a view, one a attribute
ANCHOR, REQUIRED, NEWEST, WAITING, WAIT_LIMIT, FIRST_WAITING, LAST_WAITING, HEAD = range(8)

NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min
APPLIED, LATE = 0, 1
FIRST_LIMIT = 32


class Pools(NamedTuple):
    """What all customers of a shard share: nodes of panes, and events that wait; each with its free list (first, how many)."""

    node: np.ndarray
    held: np.ndarray
    upto: np.ndarray
    node_free: np.ndarray
    wait: np.ndarray
    wait_real: np.ndarray
    wait_free: np.ndarray


@njit(cache=True)
def into_accumulators(acc, whole, real, code, at, values, lifetimes):  # type: ignore[no-untyped-def]
    """Add an event to the windows from the anchor, or to the lifetimes; the two are built at different moments."""
    for place in range(len(acc)):
        if acc[place, EVENT] != code or (acc[place, SPAN] == NO_END) != lifetimes:
            continue
        if lifetimes or (whole[ANCHOR] <= at and at - whole[ANCHOR] < acc[place, SPAN]):
            column = acc[place, COLUMN]
            ag.add(real, place, at, values[column] if column >= 0 else 0.0)


@njit(cache=True)
def wait_for_anchor(whole, code, at, values, wait, wait_real, wait_free):  # type: ignore[no-untyped-def]
    """Append an event to the customer's list; the pool has room, the caller saw to it."""
    place = wait_free[0]
    wait_free[0] = wait[place, 2]
    wait_free[1] -= 1
    wait[place, 0] = at
    wait[place, 1] = code
    wait[place, 2] = -1
    wait_real[place, :] = values
    if whole[LAST_WAITING] < 0:
        whole[FIRST_WAITING] = place
    else:
        wait[whole[LAST_WAITING], 2] = place
    whole[LAST_WAITING] = place
    whole[WAITING] += 1


@njit(cache=True)
def forget(whole, before, wait, wait_free):  # type: ignore[no-untyped-def]
    """Give back the customer's waiting events that happened before the instant ``before``."""
    place, last = whole[FIRST_WAITING], -1
    while place >= 0:
        following = wait[place, 2]
        if wait[place, 0] < before:
            if last < 0:
                whole[FIRST_WAITING] = following
            else:
                wait[last, 2] = following
            wait[place, 2] = wait_free[0]
            wait_free[0] = place
            wait_free[1] += 1
            whole[WAITING] -= 1
        else:
            last = place
        place = following
    whole[LAST_WAITING] = last
    whole[WAIT_LIMIT] = max(FIRST_LIMIT, 2 * whole[WAITING])


@njit(cache=True)
def from_the_anchor(acc, anchor, lateness, whole, real, code, at, values, wait, wait_real, wait_free):  # type: ignore[no-untyped-def]
    """Bring the windows from the anchor up to date with one event."""
    counted = False
    for place in range(len(acc)):
        counted = counted or (acc[place, EVENT] == code and acc[place, SPAN] != NO_END)
    settled = whole[ANCHOR] != NEVER and whole[NEWEST] - lateness >= whole[ANCHOR]
    if counted and not settled:
        wait_for_anchor(whole, code, at, values, wait, wait_real, wait_free)
    if code == anchor and at < whole[ANCHOR]:
        whole[ANCHOR] = at
        for place in range(len(acc)):
            if acc[place, SPAN] != NO_END:
                ag.clear(real, place)
        place = whole[FIRST_WAITING]
        while place >= 0:
            into_accumulators(acc, whole, real, wait[place, 1], wait[place, 0], wait_real[place], False)
            place = wait[place, 2]
    elif counted and whole[ANCHOR] != NEVER:
        into_accumulators(acc, whole, real, code, at, values, False)
    if whole[WAITING] > 0 and whole[ANCHOR] != NEVER and whole[NEWEST] - lateness >= whole[ANCHOR]:
        forget(whole, NEVER, wait, wait_free)
    elif whole[WAITING] > whole[WAIT_LIMIT]:
        forget(whole, whole[NEWEST] - lateness, wait, wait_free)


@njit(cache=True)
def move_track(track, view, place, backs, slots, whole, real, as_of, node, held, upto, free):  # type: ignore[no-untyped-def]
    """Bring every view of a track to an instant, and give back the panes that none will read again."""
    first, views = track[place, FIRST_VIEW], track[place, VIEWS]
    at, present = HEAD + place * pn.TRACK, as_of // track[place, PERIOD]
    views_at = HEAD + len(track) * pn.TRACK
    oldest = NEVER
    for each in range(first, first + views):
        highest = present - view[each, AGO]
        lowest = highest - view[each, PANES] + 1
        oldest = min(oldest, lowest)
        if view[each, AGO] == 0:
            highest -= 1  # the present pane still grows: it is read by itself
        pn.move(whole, real, at, views_at + each * pn.VIEW, backs + each, each - first, slots, lowest, highest, node, held, upto)
    pn.prune(whole, at, views_at + first * pn.VIEW, views, oldest, node, free)


@njit(cache=True)
def into_tracks(track, view, lateness, backs, slots, whole, real, code, at, values, node, held, upto, free):  # type: ignore[no-untyped-def]
    """Add one event to the panes and sessions that hold it."""
    views_at = HEAD + len(track) * pn.TRACK
    for place in range(len(track)):
        if track[place, EVENT] != code:
            continue
        column, gap = track[place, COLUMN], track[place, GAP]
        value = values[column] if column >= 0 else 0.0
        if gap > 0:
            pn.into_session(whole, HEAD + place * pn.TRACK, gap, at, value, node, held, free)
            pn.forget_sessions(whole, HEAD + place * pn.TRACK, whole[NEWEST] - lateness - gap, node, held, free)
            continue
        pane = at // track[place, PERIOD]
        out_of_order = pn.into_pane(whole, HEAD + place * pn.TRACK, pane, at, value, node, held, free)
        # The newest pane of its track may still not be the present one: a view may have taken it in before it grew.
        if out_of_order or pane != whole[NEWEST] // track[place, PERIOD]:
            for each in range(track[place, FIRST_VIEW], track[place, FIRST_VIEW] + track[place, VIEWS]):
                pn.start_again(whole, real, views_at + each * pn.VIEW, backs + each)
        move_track(track, view, place, backs, slots, whole, real, whole[NEWEST], node, held, upto, free)


@njit(cache=True)
def read_views(track, view, backs, slots, whole, real, as_of, moved, node, held, upto, scratch):  # type: ignore[no-untyped-def]
    """The aggregate of every view into ``scratch``; ``moved`` says that the tracks have been moved to ``as_of``."""
    views_at = HEAD + len(track) * pn.TRACK
    for each in range(len(view)):
        place = view[each, TRACK_OF]
        at = HEAD + place * pn.TRACK
        if track[place, GAP] > 0:
            pn.newest_session(whole, at, track[place, GAP], as_of, held, scratch, each)
            continue
        highest = as_of // track[place, PERIOD] - view[each, AGO]
        if moved:
            present = highest if view[each, AGO] == 0 else LONG_AGO
            slot = each - track[place, FIRST_VIEW]
            pn.value_of(
                whole, real, at, views_at + each * pn.VIEW, backs + each, slot, slots, present, node, held, upto, scratch, each
            )  # fmt: skip
        else:
            pn.walk(whole, at, highest - view[each, PANES] + 1, highest, node, held, scratch, each)


@njit(cache=True)
def read_features(feature, attributes, whole, real, scratch, as_of, out, row):  # type: ignore[no-untyped-def]
    """The features of a customer into a row of ``out``, from the accumulators and from views that have been read."""
    anchor = whole[ANCHOR]
    for place in range(len(feature)):
        kind, op, source = feature[place, KIND], feature[place, OP], feature[place, SOURCE]
        if kind == IS_ACCUMULATED:
            out[row, place] = ag.read(real, source, op, as_of, anchor)
        elif kind == IS_VIEWED:
            out[row, place] = ag.read(scratch, source, op, as_of, anchor)
        elif kind == IS_ATTRIBUTE:
            out[row, place] = real[attributes + source, 0]
        elif kind == IS_TREND:
            earlier = ag.read(scratch, feature[place, SECOND], op, as_of, anchor)
            out[row, place] = ag.read(scratch, source, op, as_of, anchor) - earlier
    for place in range(len(feature)):
        if feature[place, KIND] == IS_RATIO:
            over, under = out[row, feature[place, SOURCE]], out[row, feature[place, SECOND]]
            out[row, place] = np.nan if under == 0 else over / under


@njit(cache=True)
def is_defined(anchor, requires, whole):  # type: ignore[no-untyped-def]
    if whole[NEWEST] == LONG_AGO or (anchor >= 0 and whole[ANCHOR] == NEVER):
        return False
    return requires < 0 or whole[REQUIRED] != NEVER


@njit(cache=True)
def apply_rows(plan, who, codes, times, values, wholes, reals, pools, outcome, emitted, vectors, scratch):  # type: ignore[no-untyped-def]
    """Apply a batch; returns how many vectors were emitted. ``emitted`` holds the row, ``vectors`` the features after that row."""
    # Taken apart once: a tuple of arrays is copied at every call it is passed to.
    anchor, requires, lateness = plan.anchor, plan.requires, plan.lateness
    acc, track, view, att, feature, serves = plan.acc, plan.track, plan.views, plan.att, plan.feature, plan.serves
    node, held, upto, free = pools.node, pools.held, pools.upto, pools.node_free
    wait, wait_real, wait_free = pools.wait, pools.wait_real, pools.wait_free
    backs, attributes = len(acc), len(acc) + len(view)
    attributes_at = HEAD + len(track) * pn.TRACK + len(view) * pn.VIEW
    slots = len(upto) // max(1, len(node))
    count = 0
    for row in range(len(who)):
        whole, real, code, at = wholes[who[row]], reals[who[row]], codes[row], times[row]
        if whole[NEWEST] != LONG_AGO and at < whole[NEWEST] - lateness:
            outcome[row] = LATE
            continue
        outcome[row] = APPLIED
        whole[NEWEST] = max(whole[NEWEST], at)
        if code == requires:
            whole[REQUIRED] = min(whole[REQUIRED], at)
        for each in range(len(att)):
            value = values[row, att[each, COLUMN]]
            if att[each, EVENT] == code and not np.isnan(value) and at >= whole[attributes_at + each]:
                whole[attributes_at + each] = at
                real[attributes + each, 0] = value
        if anchor >= 0:
            from_the_anchor(acc, anchor, lateness, whole, real, code, at, values[row], wait, wait_real, wait_free)
        into_accumulators(acc, whole, real, code, at, values[row], True)
        into_tracks(track, view, lateness, backs, slots, whole, real, code, at, values[row], node, held, upto, free)
        if serves[code] and is_defined(anchor, requires, whole):
            for place in range(len(track)):
                if track[place, GAP] == 0 and track[place, EVENT] != code:
                    move_track(track, view, place, backs, slots, whole, real, whole[NEWEST], node, held, upto, free)
            read_views(track, view, backs, slots, whole, real, whole[NEWEST], True, node, held, upto, scratch)
            read_features(feature, attributes, whole, real, scratch, whole[NEWEST], vectors, count)
            emitted[count] = row
            count += 1
    return count


@njit(cache=True)
def read_customer(plan, whole, real, pools, as_of, scratch, out):  # type: ignore[no-untyped-def]
    """The features of one customer at ``as_of``, which is not before their newest event, into the first row of ``out``; changes nothing."""
    backs = len(plan.acc)
    read_views(plan.track, plan.views, backs, 1, whole, real, as_of, False, pools.node, pools.held, pools.upto, scratch)
    read_features(plan.feature, backs + len(plan.views), whole, real, scratch, as_of, out, 0)

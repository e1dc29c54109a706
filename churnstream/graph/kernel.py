"""The compiled inner loop of the engine: one pass over a micro-batch, in order of arrival.

Everything about a customer stands in one row of ``whole`` (int64: instants in microseconds since 1970, places in the pools)
and one slab of ``real`` (aggregates, then attributes). An event that can still turn out to lie in a window from the anchor,
because the anchor may yet move, waits in a linked list; when the anchor moves, those windows are built again from it.
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
    Real,
    Whole,
)

# columns of ``whole``: these, two a track, three a view, one a attribute
ANCHOR, REQUIRED, NEWEST, WAITING, WAIT_LIMIT, FIRST_WAITING, LAST_WAITING, HEAD = range(8)

NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min
APPLIED, LATE = 0, 1
FIRST_LIMIT = 32


class Pools(NamedTuple):
    """What all customers of a shard share: nodes of panes, and events that wait; each with its free list (first, how many)."""

    node: Real
    free: Whole
    wait: Whole
    wait_real: Real
    wait_free: Whole


@njit(cache=True, inline="always", error_model="numpy")
def into_accumulators(acc, whole, real, c, code, at, values, row, lifetimes, width):  # type: ignore[no-untyped-def]
    """Add an event to the windows from the anchor, or to the lifetimes; the two are built at different moments."""
    for place in range(len(acc)):
        if acc[place, EVENT] != code or (acc[place, SPAN] == NO_END) != lifetimes:
            continue
        if lifetimes or (whole[c, ANCHOR] <= at and at - whole[c, ANCHOR] < acc[place, SPAN]):
            column = acc[place, COLUMN]
            ag.add(real, c, place * width, at, values[row, column] if column >= 0 else 0.0, width)


@njit(cache=True, error_model="numpy")
def wait_for_anchor(whole, c, code, at, values, row, wait, wait_real, wait_free):  # type: ignore[no-untyped-def]
    """Append an event to the customer's list; the pool has room, the caller saw to it."""
    place = wait_free[0]
    wait_free[0] = wait[place, 2]
    wait_free[1] -= 1
    wait[place, 0] = at
    wait[place, 1] = code
    wait[place, 2] = -1
    for column in range(values.shape[1]):
        wait_real[place, column] = values[row, column]
    if whole[c, LAST_WAITING] < 0:
        whole[c, FIRST_WAITING] = place
    else:
        wait[whole[c, LAST_WAITING], 2] = place
    whole[c, LAST_WAITING] = place
    whole[c, WAITING] += 1


@njit(cache=True, error_model="numpy")
def forget(whole, c, before, wait, wait_free):  # type: ignore[no-untyped-def]
    """Give back the customer's waiting events that happened before the instant ``before``."""
    place, last = whole[c, FIRST_WAITING], -1
    while place >= 0:
        following = wait[place, 2]
        if wait[place, 0] < before:
            if last < 0:
                whole[c, FIRST_WAITING] = following
            else:
                wait[last, 2] = following
            wait[place, 2] = wait_free[0]
            wait_free[0] = place
            wait_free[1] += 1
            whole[c, WAITING] -= 1
        else:
            last = place
        place = following
    whole[c, LAST_WAITING] = last
    whole[c, WAIT_LIMIT] = max(FIRST_LIMIT, 2 * whole[c, WAITING])


@njit(cache=True, inline="always", error_model="numpy")
def from_the_anchor(acc, anchor, lateness, whole, real, c, code, at, values, row, wait, wait_real, wait_free, width):  # type: ignore[no-untyped-def]
    """Bring the windows from the anchor up to date with one event."""
    counted = False
    for place in range(len(acc)):
        counted = counted or (acc[place, EVENT] == code and acc[place, SPAN] != NO_END)
    settled = whole[c, ANCHOR] != NEVER and whole[c, NEWEST] - lateness >= whole[c, ANCHOR]
    if counted and not settled:
        wait_for_anchor(whole, c, code, at, values, row, wait, wait_real, wait_free)
    if code == anchor and at < whole[c, ANCHOR]:
        whole[c, ANCHOR] = at
        for place in range(len(acc)):
            if acc[place, SPAN] != NO_END:
                ag.clear(real, c, place * width, width)
        place = whole[c, FIRST_WAITING]
        while place >= 0:
            into_accumulators(acc, whole, real, c, wait[place, 1], wait[place, 0], wait_real, place, False, width)
            place = wait[place, 2]
    elif counted and whole[c, ANCHOR] != NEVER:
        into_accumulators(acc, whole, real, c, code, at, values, row, False, width)
    if whole[c, WAITING] > 0 and whole[c, ANCHOR] != NEVER and whole[c, NEWEST] - lateness >= whole[c, ANCHOR]:
        forget(whole, c, NEVER, wait, wait_free)
    elif whole[c, WAITING] > whole[c, WAIT_LIMIT]:
        forget(whole, c, whole[c, NEWEST] - lateness, wait, wait_free)


@njit(cache=True, inline="always", error_model="numpy")
def move_track(track, view, place, lives, whole, real, c, as_of, node, free, width):  # type: ignore[no-untyped-def]
    """Bring every view of a track to an instant, and give back the panes that none will read again."""
    first, views = track[place, FIRST_VIEW], track[place, VIEWS]
    at, live, present = HEAD + place * pn.TRACK, lives + place * width, as_of // track[place, PERIOD]
    views_at, fronts = HEAD + len(track) * pn.TRACK, lives + len(track) * width
    changed = False
    if whole[c, at + pn.LIVE] != pn.NO_PANE and whole[c, at + pn.LIVE] < present:
        pn.close(whole, c, real, at, live, node, free, width)
        changed = True
    oldest = NEVER
    for each in range(first, first + views):
        highest = present - view[each, AGO]
        lowest = highest - view[each, PANES] + 1
        oldest = min(oldest, lowest)
        here, front = views_at + each * pn.VIEW, fronts + 2 * each * width
        if whole[c, here + pn.TAKEN] != whole[c, at + pn.TAIL]:
            pn.take_in(whole, c, real, at, here, front, lowest, highest, node, width)
        if whole[c, here + pn.START] != pn.NOWHERE and whole[c, here + pn.STARTS] < lowest:
            pn.expire(whole, c, real, here, front, each - first, lowest, node, width)
            changed = True
    if changed:
        pn.prune(whole, c, at, views_at + first * pn.VIEW, views, oldest, node, free)


@njit(cache=True, inline="always", error_model="numpy")
def into_tracks(track, view, lateness, lives, whole, real, c, code, at, values, row, node, free, width):  # type: ignore[no-untyped-def]
    """Add one event to the panes and sessions that hold it."""
    for place in range(len(track)):
        if track[place, EVENT] != code:
            continue
        column, gap = track[place, COLUMN], track[place, GAP]
        value = values[row, column] if column >= 0 else 0.0
        here, live = HEAD + place * pn.TRACK, lives + place * width
        if gap > 0:
            pn.into_session(whole, c, real, here, live, gap, at, value, node, free, width)
            pn.forget_sessions(whole, c, here, whole[c, NEWEST] - lateness - gap, node, free)
        elif pn.into_pane(whole, c, real, here, live, at // track[place, PERIOD], at, value, node, free, width):
            views_at, fronts = HEAD + len(track) * pn.TRACK, lives + len(track) * width
            for each in range(track[place, FIRST_VIEW], track[place, FIRST_VIEW] + track[place, VIEWS]):
                pn.start_again(whole, c, real, views_at + each * pn.VIEW, fronts + 2 * each * width, width)
        if gap == 0:
            move_track(track, view, place, lives, whole, real, c, whole[c, NEWEST], node, free, width)


@njit(cache=True, inline="always", error_model="numpy")
def read_views(track, view, lives, whole, real, c, as_of, moved, node, width, scratch):  # type: ignore[no-untyped-def]
    """The aggregate of every view into ``scratch``; ``moved`` says that the tracks have been moved to ``as_of``."""
    fronts = lives + len(track) * width
    for each in range(len(view)):
        place, to = view[each, TRACK_OF], each * width
        at, live = HEAD + place * pn.TRACK, lives + place * width
        if track[place, GAP] > 0:
            if real[c, live + ag.N] > 0 and as_of - real[c, live + ag.LAST_AT] <= track[place, GAP]:
                ag.copy(scratch, 0, to, real, c, live, width)
            else:
                ag.clear(scratch, 0, to, width)
            continue
        highest = as_of // track[place, PERIOD] - view[each, AGO]
        if not moved:
            pn.walk(whole, c, real, at, live, highest - view[each, PANES] + 1, highest, node, width, scratch, to)
            continue
        front = fronts + 2 * each * width
        ag.copy(scratch, 0, to, real, c, front, width)
        ag.merge(scratch, 0, to, real, c, front + width, width)
        if whole[c, at + pn.LIVE] == highest and view[each, AGO] == 0:
            ag.merge(scratch, 0, to, real, c, live, width)


@njit(cache=True, inline="always", error_model="numpy")
def read_features(feature, attributes, whole, real, c, scratch, as_of, width, out, row):  # type: ignore[no-untyped-def]
    """The features of a customer into a row of ``out``, from the accumulators and from views that have been read."""
    anchor = whole[c, ANCHOR]
    ratios = False
    for place in range(len(feature)):
        kind, op, source = feature[place, KIND], feature[place, OP], feature[place, SOURCE]
        if kind == IS_ACCUMULATED:
            out[row, place] = ag.read(real, c, source * width, op, as_of, anchor)
        elif kind == IS_VIEWED:
            out[row, place] = ag.read(scratch, 0, source * width, op, as_of, anchor)
        elif kind == IS_ATTRIBUTE:
            out[row, place] = real[c, attributes + source]
        elif kind == IS_TREND:
            earlier = ag.read(scratch, 0, feature[place, SECOND] * width, op, as_of, anchor)
            out[row, place] = ag.read(scratch, 0, source * width, op, as_of, anchor) - earlier
        else:
            ratios = True
    if ratios:
        for place in range(len(feature)):
            if feature[place, KIND] == IS_RATIO:
                over, under = out[row, feature[place, SOURCE]], out[row, feature[place, SECOND]]
                out[row, place] = np.nan if under == 0 else over / under


@njit(cache=True, inline="always", error_model="numpy")
def is_defined(anchor, requires, whole, c):  # type: ignore[no-untyped-def]
    """Whether the customer has a vector yet."""
    if whole[c, NEWEST] == LONG_AGO or (anchor >= 0 and whole[c, ANCHOR] == NEVER):
        return False
    return requires < 0 or whole[c, REQUIRED] != NEVER


@njit(cache=True, error_model="numpy")
def apply_rows(plan, who, codes, times, values, whole, real, pools, outcome, emitted, vectors, scratch):  # type: ignore[no-untyped-def]
    """Apply a batch; returns how many vectors were emitted: ``emitted`` holds the rows, ``vectors`` the features after each."""
    # Taken apart once: a tuple of arrays is copied at every call it is passed to.
    anchor, requires, lateness, width = plan.anchor, plan.requires, plan.lateness, plan.width
    acc, track, views, att, feature, serves = plan.acc, plan.track, plan.views, plan.att, plan.feature, plan.serves
    node, free = pools.node, pools.free
    wait, wait_real, wait_free = pools.wait, pools.wait_real, pools.wait_free
    lives = len(acc) * width
    attributes = lives + (len(track) + 2 * len(views)) * width
    attributes_at = HEAD + len(track) * pn.TRACK + len(views) * pn.VIEW
    anchored, lifetimes = False, False
    for place in range(len(acc)):
        anchored = anchored or acc[place, SPAN] != NO_END
        lifetimes = lifetimes or acc[place, SPAN] == NO_END
    anchored = anchored or anchor >= 0
    count = 0
    for row in range(len(who)):
        c, code, at = who[row], codes[row], times[row]
        if whole[c, NEWEST] != LONG_AGO and at < whole[c, NEWEST] - lateness:
            outcome[row] = LATE
            continue
        outcome[row] = APPLIED
        whole[c, NEWEST] = max(whole[c, NEWEST], at)
        if code == requires:
            whole[c, REQUIRED] = min(whole[c, REQUIRED], at)
        for each in range(len(att)):
            if att[each, EVENT] == code:
                value = values[row, att[each, COLUMN]]
                if not np.isnan(value) and at >= whole[c, attributes_at + each]:
                    whole[c, attributes_at + each] = at
                    real[c, attributes + each] = value
        if anchored:
            from_the_anchor(acc, anchor, lateness, whole, real, c, code, at, values, row, wait, wait_real, wait_free, width)
        if lifetimes:
            into_accumulators(acc, whole, real, c, code, at, values, row, True, width)
        if len(track):
            into_tracks(track, views, lateness, lives, whole, real, c, code, at, values, row, node, free, width)
        if serves[code] and is_defined(anchor, requires, whole, c):
            for place in range(len(track)):
                if track[place, GAP] == 0 and track[place, EVENT] != code:
                    move_track(track, views, place, lives, whole, real, c, whole[c, NEWEST], node, free, width)
            if len(views):
                read_views(track, views, lives, whole, real, c, whole[c, NEWEST], True, node, width, scratch)
            read_features(feature, attributes, whole, real, c, scratch, whole[c, NEWEST], width, vectors, count)
            emitted[count] = row
            count += 1
    return count


@njit(cache=True, error_model="numpy")
def read_customer(plan, whole, real, c, pools, as_of, scratch, out):  # type: ignore[no-untyped-def]
    """The features of one customer at ``as_of``, not before their newest event, into ``out``; changes nothing."""
    width = plan.width
    lives = len(plan.acc) * width
    attributes = lives + (len(plan.track) + 2 * len(plan.views)) * width
    read_views(plan.track, plan.views, lives, whole, real, c, as_of, False, pools.node, width, scratch)
    read_features(plan.feature, attributes, whole, real, c, scratch, as_of, width, out, 0)

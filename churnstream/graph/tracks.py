"""Tracks, compiled: a number is added to the pane, run or set that holds it, and time moves the views."""

import numpy as np

from churnstream.graph import aggregate as ag
from churnstream.graph import memory as me
from churnstream.graph import panes as pn
from churnstream.graph.plan import DISTINCT_OF, FIRST_VIEW, GAP, IS_SET_FROM_ANCHOR, PERIOD, SLIDES, VIEWS
from churnstream.graph.rings import append
from churnstream.graph.sessions import into_session
from churnstream.graph.sets import into_set, move_set
from churnstream.graph.table import inlined


@inlined
def pane_now(place, track, instant, present):
    """The pane of an instant in a track; ``present`` (tracks, 2) keeps the last instant that was asked for, and its pane."""
    if present[place, 0] != instant:
        present[place, 0] = instant
        present[place, 1] = pn.pane_at(instant, track[place, PERIOD])
    return present[place, 1]


@inlined
def into_track(
    place, track, present, at_track, lateness, irows, c, at, value, islots, slots, live, length, nodes, inodes, free, width
):
    """Add one number to the pane, run or set that holds it, and say when the track must be looked at."""
    slot = irows[c, at_track + me.SLOT]
    opened = slot < 0
    if opened:
        slot = pn.open_slot(irows, c, at_track, islots, slots, free, live, length, width)
    gap = track[place, GAP]
    if track[place, DISTINCT_OF] != SLIDES:
        pane = pane_now(place, track, at, present)
        into_set(islots, slot, pane, value, nodes, inodes, free, width)
        irows[c, at_track + me.LOOK_AT] = me.LONG_AGO
    elif gap > 0:
        oldest = irows[c, me.NEWEST] - lateness - gap
        into_session(islots, slots, slot, live, gap, oldest, at, value, nodes, inodes, free, width)
        irows[c, at_track + me.LOOK_AT] = me.LONG_AGO
    else:
        pane = pane_now(place, track, at, present)
        newest = islots[slot, me.LIVE]
        if opened or pane > newest:
            if not opened:
                closed = append(islots, slot, nodes, inodes, free, newest)
                ag.copy(nodes, closed, me.HELD, slots, slot, live, width)
                ag.clear(slots, slot, live, width)
            islots[slot, me.LIVE] = pane
            irows[c, at_track + me.LOOK_AT] = me.LONG_AGO
            ag.add(slots, slot, live, at, value, width)
        elif pane == newest:
            ag.add(slots, slot, live, at, value, width)
        else:
            pn.into_older_pane(islots, slots, slot, live, length, pane, at, value, nodes, inodes, free, width)
            irows[c, at_track + me.LOOK_AT] = me.LONG_AGO


@inlined
def look(place, track, view, present, at_track, lateness, irows, c, as_of, islots, slots, live, nodes, inodes, free, width):
    """Bring a track to an instant, and say when it must be looked at next."""
    slot = irows[c, at_track + me.SLOT]
    first, views, period, gap = track[place, FIRST_VIEW], track[place, VIEWS], track[place, PERIOD], track[place, GAP]
    following = np.int64(me.NEVER)
    if track[place, DISTINCT_OF] == SLIDES:
        if gap == 0:
            pane = pane_now(place, track, as_of, present)
            following = pn.move(first, views, view, pane, period, islots, slots, slot, live, nodes, inodes, free, width)
        else:
            ended = np.int64(slots[slot, live + ag.LAST_AT]) + gap
            if as_of <= ended:
                following = ended + 1
            else:
                following = ended + lateness + 1 if as_of <= ended + lateness else np.int64(me.LONG_AGO)
    elif track[place, DISTINCT_OF] != IS_SET_FROM_ANCHOR:
        following = move_set(
            first, views, view, pane_now(place, track, as_of, present), period, islots, slot, nodes, inodes, free
        )
    if following == me.LONG_AGO:
        pn.close_slot(irows, c, at_track, islots, inodes, free)
    else:
        irows[c, at_track + me.LOOK_AT] = following

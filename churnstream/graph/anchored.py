"""Windows that begin at a customer's anchor, compiled: an event is added to those that hold it.

An event that can still turn out to lie in such a window, because the anchor may yet move, waits in a linked list (``waiting``);
when the anchor moves, the windows are built again from it.
"""

import numpy as np

from churnstream.graph import aggregate as ag
from churnstream.graph import memory as me
from churnstream.graph import panes as pn
from churnstream.graph.plan import (
    ANCHORED,
    CELLS,
    COLUMN,
    COUNTED,
    DISTINCT_OF,
    GAP,
    IS_SET_FROM_ANCHOR,
    LIFETIMES,
    NO_END,
    SPAN,
    TRACK,
    TRACK_END,
)
from churnstream.graph.sets import into_set
from churnstream.graph.table import compiled, inlined
from churnstream.graph.waiting import edge, forget, wait_for_anchor

BITS = 63  # cells share the bits of a word


@inlined
def into_windows_from_anchor(
    code, k, acc, track, at_acc, width, irows, rows, c, at, numbers, row, offset, islots, nodes, inodes, free
):
    """Add an event of the type ``k`` to the windows from the anchor that hold it; returns the bits of the cells that changed.

    Its numbers stand in ``numbers[row, offset:]``.
    """
    changed = np.int64(0)
    after = at - irows[c, edge(irows, me.ANCHOR)]
    if after < 0:
        return changed
    for place in range(code[k, ANCHORED], code[k, LIFETIMES]):
        if after < acc[place, SPAN]:
            column = acc[place, COLUMN]
            ag.add(rows, c, at_acc + place * width, at, numbers[row, offset + column] if column >= 0 else 0.0, width)
            changed |= np.int64(1) << (place % BITS)
    for place in range(code[k, TRACK], code[k, TRACK_END]):
        if track[place, DISTINCT_OF] == IS_SET_FROM_ANCHOR and after < track[place, GAP]:
            slot = irows[c, me.TRACKS + place * me.TRACK_SIZE + me.SLOT]
            into_set(islots, slot, np.int64(0), numbers[row, offset + track[place, COLUMN]], nodes, inodes, free, width)
            changed |= track[place, CELLS]
    return changed


@compiled
def move_anchor(
    code, acc, track, at_acc, width, irows, rows, c, at, waits, iwaits, slots, islots, live, length, nodes, inodes, free
):
    """The anchor turns out to be earlier, or is known at last: build what counts from it again."""
    irows[c, edge(irows, me.ANCHOR)] = at
    for place in range(len(acc)):
        if acc[place, SPAN] != NO_END:
            ag.clear(rows, c, at_acc + place * width, width)
    for place in range(len(track)):
        if track[place, DISTINCT_OF] == IS_SET_FROM_ANCHOR:
            slot_at = me.TRACKS + place * me.TRACK_SIZE
            if irows[c, slot_at] != me.NOWHERE:
                pn.close_slot(irows, c, slot_at, islots, inodes, free)
            pn.open_slot(irows, c, slot_at, islots, slots, free, live, length, width)
    place = irows[c, edge(irows, me.FIRST_WAITING)]
    while place >= 0:
        into_windows_from_anchor(
            code, iwaits[place, me.CODE], acc, track, at_acc, width, irows, rows, c, iwaits[place, me.AT], waits, place,
            me.NUMBERS, islots, nodes, inodes, free,
        )  # fmt: skip
        place = iwaits[place, me.NEXT]
    irows[c, me.DIRTY] = me.NOWHERE  # all bits


@inlined
def anchor_event(
    code, k, anchor, acc, track, at_acc, width, irows, rows, c, at, settled_before, values, row, waits, iwaits, slots, islots,
    live, length, nodes, inodes, free,
):  # fmt: skip
    """Have an event of the type ``k`` count in the windows from the anchor, move the anchor, or wait until it can no longer move.

    No event from before ``settled_before`` will come. Its numbers stand in ``values[row]``.
    """
    known = irows[c, edge(irows, me.ANCHOR)]
    if code[k, COUNTED] and not (known != me.NEVER and settled_before >= known):
        wait_for_anchor(irows, c, k, at, values, row, waits, iwaits, free)
    if k == anchor and at < known:
        move_anchor(
            code, acc, track, at_acc, width, irows, rows, c, at, waits, iwaits, slots, islots, live, length, nodes, inodes, free
        )
        known = at
    elif code[k, COUNTED] and known != me.NEVER:
        irows[c, me.DIRTY] |= into_windows_from_anchor(
            code, k, acc, track, at_acc, width, irows, rows, c, at, values, row, 0, islots, nodes, inodes, free
        )
    if irows[c, edge(irows, me.WAITING)] > 0:
        if known != me.NEVER and settled_before >= known:
            forget(irows, c, me.NEVER, iwaits, free)
        elif irows[c, edge(irows, me.WAITING)] > irows[c, edge(irows, me.WAIT_LIMIT)]:
            forget(irows, c, settled_before, iwaits, free)

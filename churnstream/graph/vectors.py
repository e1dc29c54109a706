"""A customer's columns, compiled: read from the aggregates that have changed, and from each other."""

import numpy as np

from churnstream.graph import aggregate as ag
from churnstream.graph import memory as me
from churnstream.graph import panes as pn
from churnstream.graph.anchored import BITS
from churnstream.graph.plan import (
    AGO,
    CELLS,
    DIFFERENCE,
    DISTINCT_OF,
    FIRST_VIEW,
    GAP,
    IS_SET_FROM_ANCHOR,
    PANES,
    PERIOD,
    SINCE,
    SLIDES,
    STACK,
    VIEWS,
)
from churnstream.graph.sets import count_set
from churnstream.graph.table import compiled, inlined, table
from churnstream.graph.tracks import pane_now
from churnstream.graph.waiting import edge


@inlined
def read_track(place, each, moved, track, view, slot, as_of, present, islots, slots, live, nodes, inodes, scratch, width):
    """The aggregate of a track's view at the instant ``as_of``, in the pane ``present``, into ``scratch``.

    ``moved`` says that the track has been brought there.
    """
    kind, gap = track[place, DISTINCT_OF], track[place, GAP]
    if slot == me.NOWHERE:
        ag.clear(scratch, 0, 0, width)
    elif kind == SLIDES and gap == 0:
        highest = present - view[each, AGO]
        lowest = highest - view[each, PANES] + 1
        if moved:
            at = me.VIEWS + (each - track[place, FIRST_VIEW]) * me.VIEW_SIZE
            pn.read_view(at, view[each, STACK], lowest, highest, islots, slots, slot, live, nodes, inodes, scratch, width)
        else:
            pn.walk(lowest, highest, islots, slots, slot, live, nodes, inodes, scratch, width)
    elif kind == SLIDES:
        if as_of - slots[slot, live + ag.LAST_AT] <= gap:
            ag.copy(scratch, 0, 0, slots, slot, live, width)
        else:
            ag.clear(scratch, 0, 0, width)
    else:
        lowest = np.int64(0) if kind == IS_SET_FROM_ANCHOR else present - view[each, PANES] + 1
        scratch[0, ag.N] = count_set(lowest, islots, slot, inodes)


@inlined
def read_columns(cell, cell_core, cell_from, cell_reads, source, r, at, anchor, out, row, first):
    """The columns of a cell, from its aggregate, into ``out[row, first:]``."""
    n, total = source[r, at + ag.N], source[r, at + ag.SUM] + source[r, at + ag.REST]
    if cell_core[cell, 0] >= 0:
        out[row, first + cell_core[cell, 0]] = n
    if cell_core[cell, 1] >= 0:
        out[row, first + cell_core[cell, 1]] = total
    if cell_core[cell, 2] >= 0:
        out[row, first + cell_core[cell, 2]] = total / n if n > 0 else np.nan
    if cell_core[cell, 3] >= 0:
        out[row, first + cell_core[cell, 3]] = source[r, at + ag.M2] / (n - 1) if n > 1 else np.nan
    for each in range(cell_from[cell], cell_from[cell + 1]):
        out[row, first + cell_reads[each, 0]] = ag.read(source, r, at, cell_reads[each, 1], anchor)


@inlined
def derive(derived, as_of, out, row, first):
    """The columns that are made from other columns: times since, then differences, then quotients."""
    for each in range(len(derived)):
        kind, to = derived[each, 0], first + derived[each, 1]
        one = out[row, first + derived[each, 2]]
        if kind == SINCE:
            out[row, to] = (as_of - one) / 1e6
        else:
            other = out[row, first + derived[each, 3]]
            if kind == DIFFERENCE:
                out[row, to] = one - other
            else:
                out[row, to] = np.nan if other == 0 else one / other


@inlined
def read_changed(
    dirty, acc, track, view, cell_core, cell_from, cell_reads, present, instant, irows, rows, c, at_acc, at_vector, islots, slots,
    live, nodes, inodes, scratch, width,
):  # fmt: skip
    """Read the cells whose bits are in ``dirty`` again, at an ``instant`` to which the tracks have been brought."""
    anchor = irows[c, edge(irows, me.ANCHOR)]
    for cell in range(len(acc)):
        if (dirty >> (cell % BITS)) & 1:
            read_columns(cell, cell_core, cell_from, cell_reads, rows, c, at_acc + cell * width, anchor, rows, c, at_vector)
    for place in range(len(track)):
        if (dirty & track[place, CELLS]) != 0:
            slot = irows[c, me.TRACKS + place * me.TRACK_SIZE]
            pane = pane_now(place, track, instant, present)
            for each in range(track[place, FIRST_VIEW], track[place, FIRST_VIEW] + track[place, VIEWS]):
                read_track(
                    place, each, True, track, view, slot, instant, pane, islots, slots, live, nodes, inodes, scratch, width
                )
                read_columns(len(acc) + each, cell_core, cell_from, cell_reads, scratch, 0, 0, 0, rows, c, at_vector)


@compiled
def read_customer(plan, places, pools, c, as_of, out, scratch):
    """The columns of one customer at ``as_of``, not before their newest event, into ``out`` (1, columns); changes no state."""
    rows, irows, slots, islots = table(pools.rows), table(pools.irows), table(pools.slots), table(pools.islots)
    nodes, inodes, track, view = table(pools.nodes), table(pools.inodes), table(plan.track), table(plan.views)
    cell_core, cell_from, cell_reads, into, room = (
        table(plan.cell_core),
        table(plan.cell_from),
        table(plan.cell_reads),
        table(out),
        table(scratch),
    )
    for column in range(plan.columns):
        into[0, column] = rows[c, places.vector + column]
    if as_of == irows[c, me.NEWEST]:
        return
    for place in range(len(track)):
        slot = irows[c, me.TRACKS + place * me.TRACK_SIZE]
        present = pn.pane_at(as_of, track[place, PERIOD])
        for each in range(track[place, FIRST_VIEW], track[place, FIRST_VIEW] + track[place, VIEWS]):
            read_track(
                place, each, False, track, view, slot, as_of, present, islots, slots, places.live, nodes, inodes, room, plan.width
            )
            read_columns(len(plan.acc) + each, cell_core, cell_from, cell_reads, room, 0, 0, 0, into, 0, 0)
    derive(table(plan.derived), as_of, into, 0, 0)

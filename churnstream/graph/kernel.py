"""The compiled inner loop of the engine: one pass over a micro-batch, customer by customer, each in order of arrival.

A customer's vector stands in their row and is kept: an event marks the cells that it changes, time alone those whose look is due,
and only their columns are read again. Customers never touch, so that a batch may be taken one customer after another: what is
near in memory is used together.
"""

import numpy as np

from churnstream.graph import aggregate as ag
from churnstream.graph import fetching as fe
from churnstream.graph import memory as me
from churnstream.graph.anchored import BITS, anchor_event
from churnstream.graph.batch import close_gaps
from churnstream.graph.plan import (
    ACC_END,
    ATT,
    ATT_END,
    CELLS,
    COLUMN,
    DISTINCT_OF,
    IS_SET_FROM_ANCHOR,
    LIFETIMES,
    SERVES,
    TO,
    TRACK,
    TRACK_END,
)
from churnstream.graph.table import compiled, inlined, table
from churnstream.graph.tracks import into_track, look
from churnstream.graph.vectors import derive, read_changed
from churnstream.graph.waiting import edge

APPLIED, LATE = 0, 1


@inlined
def is_defined(anchor, requires, irows, c):
    """Whether the customer has a vector yet."""
    if irows[c, me.NEWEST] == me.LONG_AGO or (anchor >= 0 and irows[c, edge(irows, me.ANCHOR)] == me.NEVER):
        return False
    return requires < 0 or irows[c, edge(irows, me.REQUIRED)] != me.NEVER


@compiled
def apply_rows(plan, places, pools, batch, groups):
    """Apply a batch of so many ``groups`` (see ``group``); returns how many vectors there are."""
    # Taken apart once: a tuple of arrays is copied at every call it is passed to.
    anchor, requires, lateness, width, timely, anchored = (
        plan.anchor, plan.requires, plan.lateness, plan.width, plan.timely, plan.anchored
    )  # fmt: skip
    features = plan.features
    code, acc, track, view, att = table(plan.code), table(plan.acc), table(plan.track), table(plan.views), table(plan.att)
    cell_core, cell_from, cell_reads, derived = (
        table(plan.cell_core),
        table(plan.cell_from),
        table(plan.cell_reads),
        table(plan.derived),
    )
    rows, irows, slots, islots = table(pools.rows), table(pools.irows), table(pools.slots), table(pools.islots)
    nodes, inodes, waits, iwaits = table(pools.nodes), table(pools.inodes), table(pools.waits), table(pools.iwaits)
    free, customers, ends, order = table(pools.free), table(batch.customers), table(batch.ends), table(batch.order)
    outcome, emitted, vectors, scratch = table(batch.outcome), table(batch.emitted), table(batch.vectors), table(batch.scratch)
    at_att, at_vector, at_acc, live, length = places.attributes, places.vector, places.accumulators, places.live, places.slot
    codes, times, values, ranks = table(batch.codes), table(batch.times), table(batch.values), table(batch.ranks)
    for place in range(len(emitted)):
        emitted[place] = -1
    panes = np.full((max(1, len(track)), 2), me.LONG_AGO, np.int64)
    present = table(panes)
    steps = min(fe.MOST_STEPS, 1 + len(order) // max(1, groups))
    end = 0
    for member in range(groups):
        if member % fe.AHEAD == 0:
            fe.fetch_ahead(member, groups, customers, len(track), steps, irows, islots, inodes, ends, ranks, vectors)
        c = customers[member]
        begin, end = end, ends[member]
        for this in range(begin, end):
            row, at = order[this], times[this]
            newest = irows[c, me.NEWEST]
            if newest != me.LONG_AGO and at < newest - lateness:
                outcome[row] = LATE
                continue
            outcome[row] = APPLIED
            k = codes[this]
            if at > newest:
                newest = at
                irows[c, me.NEWEST] = at
            if k == requires and at < irows[c, edge(irows, me.REQUIRED)]:
                irows[c, edge(irows, me.REQUIRED)] = at
            for each in range(code[k, ATT], code[k, ATT_END]):
                value = values[this, att[each, COLUMN]]
                if not np.isnan(value) and at >= irows[c, at_att + each]:
                    irows[c, at_att + each] = at
                    rows[c, at_vector + att[each, TO]] = value
            if anchored:
                anchor_event(
                    code, k, anchor, acc, track, at_acc, width, irows, rows, c, at, newest - lateness, values, this, waits,
                    iwaits, slots, islots, live, length, nodes, inodes, free,
                )  # fmt: skip
            for place in range(code[k, LIFETIMES], code[k, ACC_END]):
                column = acc[place, COLUMN]
                ag.add(rows, c, at_acc + place * width, at, values[this, column] if column >= 0 else 0.0, width)
                irows[c, me.DIRTY] |= np.int64(1) << (place % BITS)
            for place in range(code[k, TRACK], code[k, TRACK_END]):
                if track[place, DISTINCT_OF] != IS_SET_FROM_ANCHOR:
                    column = track[place, COLUMN]
                    value = values[this, column] if column >= 0 else 0.0
                    into_track(
                        place, track, present, me.TRACKS + place * me.TRACK_SIZE, lateness, irows, c, at, value, islots, slots,
                        live, length, nodes, inodes, free, width,
                    )  # fmt: skip
                    irows[c, me.DIRTY] |= track[place, CELLS]
            dirty = irows[c, me.DIRTY]
            for place in range(len(track)):
                at_track = me.TRACKS + place * me.TRACK_SIZE
                if irows[c, at_track + me.LOOK_AT] <= newest:
                    look(
                        place, track, view, present, at_track, lateness, irows, c, newest, islots, slots, live, nodes, inodes,
                        free, width,
                    )  # fmt: skip
                    dirty |= track[place, CELLS]
            if not is_defined(anchor, requires, irows, c):
                irows[c, me.DIRTY] = dirty
                continue
            if dirty != 0:
                irows[c, me.DIRTY] = 0
                read_changed(
                    dirty, acc, track, view, cell_core, cell_from, cell_reads, present, newest, irows, rows, c, at_acc,
                    at_vector, islots, slots, live, nodes, inodes, scratch, width,
                )  # fmt: skip
            if dirty != 0 or timely:
                derive(derived, newest, rows, c, at_vector)
            if code[k, SERVES]:
                to = ranks[this]
                emitted[to] = row
                for column in range(features):
                    vectors[to, column] = rows[c, at_vector + column]
    scratch[0, 0] = panes[0, 0]  # or else it would be given back too early
    return close_gaps(emitted, vectors, features)

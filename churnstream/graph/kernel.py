"""The compiled inner loop of the engine: one pass over a micro-batch, customer by customer, each in order of arrival.

A customer's vector stands in their row and is kept: an event marks the cells that it changes, time alone those whose look is due,
and only their columns are read again. Customers never touch, so that a batch may be taken one customer after another: what is
near in memory is used together. An event that can still turn out to lie in a window from the anchor, because the anchor may yet
move, waits in a linked list; when the anchor moves, those windows are built again from it.
"""

import numpy as np

from churnstream.graph import aggregate as ag
from churnstream.graph import fetching as fe
from churnstream.graph import memory as me
from churnstream.graph import panes as pn
from churnstream.graph.plan import (
    ACC_END,
    AGO,
    ANCHORED,
    ATT,
    ATT_END,
    CELLS,
    COLUMN,
    COUNTED,
    DIFFERENCE,
    DISTINCT_OF,
    FIRST_VIEW,
    GAP,
    IS_SET_FROM_ANCHOR,
    LIFETIMES,
    NO_END,
    PANES,
    PERIOD,
    SERVES,
    SINCE,
    SLIDES,
    SPAN,
    STACK,
    TO,
    TRACK,
    TRACK_END,
    VIEWS,
)
from churnstream.graph.rings import append
from churnstream.graph.sessions import into_session
from churnstream.graph.sets import count_set, into_set, move_set
from churnstream.graph.table import compiled, inlined, table
from churnstream.graph.waiting import edge, forget, wait_for_anchor

APPLIED, LATE = 0, 1
BITS = 63  # cells share the bits of a word


@inlined
def is_defined(anchor, requires, irows, c):
    """Whether the customer has a vector yet."""
    if irows[c, me.NEWEST] == me.LONG_AGO or (anchor >= 0 and irows[c, edge(irows, me.ANCHOR)] == me.NEVER):
        return False
    return requires < 0 or irows[c, edge(irows, me.REQUIRED)] != me.NEVER


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
                settled = irows[c, edge(irows, me.ANCHOR)] != me.NEVER and newest - lateness >= irows[c, edge(irows, me.ANCHOR)]
                if code[k, COUNTED] and not settled:
                    wait_for_anchor(irows, c, k, at, values, this, waits, iwaits, free)
                if k == anchor and at < irows[c, edge(irows, me.ANCHOR)]:
                    move_anchor(
                        code, acc, track, at_acc, width, irows, rows, c, at, waits, iwaits, slots, islots, live, length,
                        nodes, inodes, free,
                    )  # fmt: skip
                elif code[k, COUNTED] and irows[c, edge(irows, me.ANCHOR)] != me.NEVER:
                    irows[c, me.DIRTY] |= into_windows_from_anchor(
                        code, k, acc, track, at_acc, width, irows, rows, c, at, values, this, 0, islots, nodes, inodes, free
                    )
                if irows[c, edge(irows, me.WAITING)] > 0:
                    if irows[c, edge(irows, me.ANCHOR)] != me.NEVER and newest - lateness >= irows[c, edge(irows, me.ANCHOR)]:
                        forget(irows, c, me.NEVER, iwaits, free)
                    elif irows[c, edge(irows, me.WAITING)] > irows[c, edge(irows, me.WAIT_LIMIT)]:
                        forget(irows, c, newest - lateness, iwaits, free)
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
                for cell in range(len(acc)):
                    if (dirty >> (cell % BITS)) & 1:
                        at_cell = at_acc + cell * width
                        read_columns(
                            cell,
                            cell_core,
                            cell_from,
                            cell_reads,
                            rows,
                            c,
                            at_cell,
                            irows[c, edge(irows, me.ANCHOR)],
                            rows,
                            c,
                            at_vector,
                        )
                for place in range(len(track)):
                    if (dirty & track[place, CELLS]) != 0:
                        slot = irows[c, me.TRACKS + place * me.TRACK_SIZE]
                        pane = pane_now(place, track, newest, present)
                        for each in range(track[place, FIRST_VIEW], track[place, FIRST_VIEW] + track[place, VIEWS]):
                            read_track(
                                place, each, True, track, view, slot, newest, pane, islots, slots, live, nodes, inodes,
                                scratch, width,
                            )  # fmt: skip
                            read_columns(len(acc) + each, cell_core, cell_from, cell_reads, scratch, 0, 0, 0, rows, c, at_vector)
            if dirty != 0 or timely:
                derive(derived, newest, rows, c, at_vector)
            if code[k, SERVES]:
                to = ranks[this]
                emitted[to] = row
                for column in range(features):
                    vectors[to, column] = rows[c, at_vector + column]
    scratch[0, 0] = panes[0, 0]  # or else it would be given back too early
    count = 0
    for place in range(len(emitted)):
        if emitted[place] >= 0:
            if count < place:
                emitted[count] = emitted[place]
                for column in range(features):
                    vectors[count, column] = vectors[place, column]
            count += 1
    return count


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

"""Windows that move over panes, compiled: each reads in a handful of merges, however many panes it holds.

A track's newest pane, the *live* one, is an aggregate in its slot; older panes are nodes in its ring (``rings``).

A short view knows its first node and merges from there on. A long one is a queue made of two stacks (Tangwongsan, Hirzel and
Schneider 2015, doi:10.14778/2752939.2752940, section 4). Its nodes are those from ``START`` to before ``TAKEN``. Up to its *flip*
each node holds the merge of itself and all behind it up to there, and that of the first is the view's *front*; from the flip on
they are merged in its *back*. Its value is the front, the back, and the live pane. When the first node passes the flip, the back
is turned into merges, once for each node it holds. An event that comes out of order into an older pane makes the views of its
track start again.

``LOOK_AT`` is the instant at which time alone changes a view of the track next: until then only an event does.
"""

import numpy as np

from churnstream.graph.aggregate import add, clear, copy, merge
from churnstream.graph.memory import (
    BASE,
    END,
    FLIP,
    HEAD,
    HELD,
    LIVE,
    LONG_AGO,
    LOOK_AT,
    MASK,
    NEVER,
    NOWHERE,
    PANE,
    SLOT_FREE,
    SLOT_FRESH,
    SLOTS_LEFT,
    STACK_SIZE,
    START,
    STARTS,
    TAKEN,
    VIEW_SIZE,
    VIEWS,
)
from churnstream.graph.plan import AGO, NO_END, PANES, STACK
from churnstream.graph.rings import drop, free_ring, insert
from churnstream.graph.table import compiled, inlined


@inlined
def open_slot(irows, c, at, islots, slots, free, live, length, width):
    """Give a customer's track a slot of its own; the pool has room, the caller saw to it."""
    slot = free[SLOT_FREE]
    if slot == NOWHERE:
        slot = free[SLOT_FRESH]
        free[SLOT_FRESH] += 1
    else:
        free[SLOT_FREE] = islots[slot, HEAD]
    free[SLOTS_LEFT] -= 1
    for column in range(live):
        islots[slot, column] = 0
    islots[slot, MASK] = NOWHERE
    forget_views(islots, slots, slot, live, length, width)
    clear(slots, slot, live, width)
    irows[c, at] = slot
    irows[c, at + LOOK_AT] = NEVER
    return slot


@inlined
def forget_views(islots, slots, slot, live, length, width):
    """Let the views of a track start again from its first node."""
    stacks = (length - live - width) // (2 * width)
    links = live - stacks * STACK_SIZE
    for column in range(VIEWS, links, VIEW_SIZE):
        islots[slot, column + START] = islots[slot, HEAD]
        islots[slot, column + STARTS] = LONG_AGO
    for column in range(links, live):
        islots[slot, column] = islots[slot, HEAD]
    for column in range(live + width, length, width):
        clear(slots, slot, column, width)


@inlined
def links_of(stack, live):
    """Where a stack's links stand."""
    return live - (stack + 1) * STACK_SIZE


@compiled
def close_slot(irows, c, at, islots, inodes, free):
    """Give a track's slot and its ring back."""
    slot = irows[c, at]
    free_ring(islots[slot, BASE], islots[slot, MASK], inodes, free)
    islots[slot, HEAD] = free[SLOT_FREE]
    free[SLOT_FREE] = slot
    free[SLOTS_LEFT] += 1
    irows[c, at] = NOWHERE
    irows[c, at + LOOK_AT] = NEVER


@compiled
def into_older_pane(islots, slots, slot, live, length, pane, instant, value, nodes, inodes, free, width):
    """Add one number to an older pane than the live one; the views of the track start again."""
    base, mask, node = islots[slot, BASE], islots[slot, MASK], islots[slot, END] - 1
    while node >= islots[slot, HEAD] and inodes[base + (node & mask), PANE] > pane:
        node -= 1
    place = base + (node & mask)
    if node < islots[slot, HEAD] or inodes[place, PANE] != pane:
        place = insert(islots, slot, node + 1, nodes, inodes, free, pane)
        clear(nodes, place, HELD, width)
    add(nodes, place, HELD, instant, value, width)
    forget_views(islots, slots, slot, live, length, width)


@inlined
def pane_at(instant, period):
    """The pane of an instant; a period without end has only one."""
    return 0 if period == NO_END else instant // period


@inlined
def move(first, views, view, present, period, islots, slots, slot, live, nodes, inodes, free, width):
    """Bring the views of a sliding track to the pane ``present``; returns the instant at which to look next.

    Panes that none will read again are given back. LONG_AGO when nothing is left, so that the slot may be closed.
    """
    newest, following, oldest = islots[slot, LIVE], np.int64(NEVER), np.int64(NEVER)
    base, mask, end = islots[slot, BASE], islots[slot, MASK], islots[slot, END]
    for each in range(first, first + views):
        panes, ago, stack = view[each, PANES], view[each, AGO], view[each, STACK]
        at = VIEWS + (each - first) * VIEW_SIZE
        highest = present - ago
        lowest = highest - panes + 1
        oldest = min(oldest, lowest)
        entering = newest  # the next pane that is not inside yet, when it is above ``highest``
        begins = newest  # the first that is inside
        if stack >= 0:
            front, links = live + (1 + 2 * stack) * width, links_of(stack, live)
            taken = islots[slot, links + TAKEN]
            if taken < end:
                taken = take_in(islots, slots, slot, at, links, front, lowest, highest, nodes, inodes, width)
                if taken < end:
                    entering = inodes[base + (taken & mask), PANE]
            if islots[slot, at + START] < taken:
                if islots[slot, at + STARTS] < lowest:
                    expire(islots, slots, slot, at, links, front, HELD + (stack + 1) * width, lowest, nodes, inodes, width)
                if islots[slot, at + START] < taken:
                    begins = islots[slot, at + STARTS]
        else:
            node = islots[slot, at + START]
            if islots[slot, at + STARTS] < lowest:
                pane = np.int64(LONG_AGO)  # where there is none yet
                while node < end:
                    pane = inodes[base + (node & mask), PANE]
                    if pane >= lowest:
                        break
                    pane = np.int64(LONG_AGO)
                    node += 1
                islots[slot, at + START] = node
                islots[slot, at + STARTS] = pane
            if node < end:
                begins = islots[slot, at + STARTS]
                if ago > 0:
                    while node < end and inodes[base + (node & mask), PANE] <= highest:
                        node += 1
                    if node < end:
                        entering = inodes[base + (node & mask), PANE]
        if begins >= lowest:
            following = min(following, begins + ago + (panes if begins <= highest else 0))
        if entering > highest:
            following = min(following, entering + ago)
    if newest < oldest:
        return np.int64(LONG_AGO)
    head = islots[slot, HEAD]
    while head < end and inodes[base + (head & mask), PANE] < oldest:
        head += 1
    drop(islots, slot, head, nodes, inodes, free)
    return following * period


@inlined
def take_in(islots, slots, slot, at, links, front, lowest, highest, nodes, inodes, width):
    """Merge the nodes up to the pane ``highest`` that a stack has not taken in yet; returns the next one."""
    base, mask, end = islots[slot, BASE], islots[slot, MASK], islots[slot, END]
    node = islots[slot, links + TAKEN]
    while node < end:
        place = base + (node & mask)
        pane = inodes[place, PANE]
        if pane > highest:
            break
        empty = islots[slot, at + START] == node
        node += 1
        if pane >= lowest:
            merge(slots, slot, front + width, nodes, place, HELD, width)
            if empty:
                islots[slot, at + STARTS] = pane
        elif empty:
            islots[slot, at + START] = node
            islots[slot, links + FLIP] = node
        islots[slot, links + TAKEN] = node
    return node


@inlined
def expire(islots, slots, slot, at, links, front, column, lowest, nodes, inodes, width):
    """Let go of the panes of a stack before ``lowest``; its first node is one of them."""
    base, mask, last = islots[slot, BASE], islots[slot, MASK], islots[slot, links + TAKEN]
    node, flip = islots[slot, at + START] + 1, islots[slot, links + FLIP]
    while node < last and inodes[base + (node & mask), PANE] < lowest:
        node += 1
    islots[slot, at + START] = node
    if node >= flip:  # past the flip: the back is turned into merges
        clear(slots, slot, front + width, width)
        islots[slot, links + FLIP] = last
        pile(node, last, base, mask, column, nodes, width)
    if node < last:
        place = base + (node & mask)
        islots[slot, at + STARTS] = inodes[place, PANE]
        copy(slots, slot, front, nodes, place, column, width)
    else:
        clear(slots, slot, front, width)


@compiled
def pile(first, last, base, mask, column, nodes, width):
    """Give each node from before ``last`` back to ``first`` the merge of itself and all up to there."""
    behind = base + ((last - 1) & mask)
    if first < last:
        copy(nodes, behind, column, nodes, behind, HELD, width)
    for node in range(last - 2, first - 1, -1):
        place = base + (node & mask)
        copy(nodes, place, column, nodes, place, HELD, width)
        merge(nodes, place, column, nodes, behind, column, width)
        behind = place


@inlined
def read_view(at, stack, lowest, highest, islots, slots, slot, live, nodes, inodes, scratch, width):
    """The aggregate of a view that has been moved, into ``scratch``."""
    if stack >= 0:
        front = live + (1 + 2 * stack) * width
        copy(scratch, 0, 0, slots, slot, front, width)
        merge(scratch, 0, 0, slots, slot, front + width, width)
    else:
        clear(scratch, 0, 0, width)
        base, mask = islots[slot, BASE], islots[slot, MASK]
        for node in range(islots[slot, at + START], islots[slot, END]):
            place = base + (node & mask)
            if inodes[place, PANE] > highest:
                break
            merge(scratch, 0, 0, nodes, place, HELD, width)
    if lowest <= islots[slot, LIVE] <= highest:
        merge(scratch, 0, 0, slots, slot, live, width)


@compiled
def walk(lowest, highest, islots, slots, slot, live, nodes, inodes, scratch, width):
    """The aggregate of the panes ``lowest`` to ``highest``, pane by pane, into ``scratch``; changes nothing."""
    clear(scratch, 0, 0, width)
    base, mask = islots[slot, BASE], islots[slot, MASK]
    for node in range(islots[slot, HEAD], islots[slot, END]):
        place = base + (node & mask)
        if lowest <= inodes[place, PANE] <= highest:
            merge(scratch, 0, 0, nodes, place, HELD, width)
    if lowest <= islots[slot, LIVE] <= highest:
        merge(scratch, 0, 0, slots, slot, live, width)

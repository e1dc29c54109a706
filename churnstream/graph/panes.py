"""Windows that move over panes, compiled: each reads in a handful of merges, however many panes it holds.

A track's newest pane, the *live* one, is an aggregate in its slot; older panes are nodes of a doubly linked list, oldest first.
A short view knows its first node and merges from there on. A long one is a queue made of two stacks (Tangwongsan, Hirzel and
Schneider 2015, doi:10.14778/2752939.2752940, section 4): from its first node to its *flip* node each node holds the merge of
itself and all nodes up to the flip, and the first one's merge is the view's *front*; what came after the flip is merged in its
*back*. Its value is the front, the back, and the live pane. When the first node passes the flip, the back is turned into merges,
once for each node it holds. An event that comes out of order into an older pane makes the views of its track start again.

``LOOK_AT`` is the instant at which time alone changes a view of the track next: until then only an event does. Sessions keep the
present run of events as their live pane and older runs as nodes. A set of distinct values has no live pane, and one node a value
in order of the pane that the value was last seen in.
"""

import numpy as np

from churnstream.graph.aggregate import FIRST_AT, LAST_AT, SUM, N, add, clear, copy, merge
from churnstream.graph.memory import (
    AFTER,
    BEFORE,
    COUNT,
    FLIP,
    HEAD,
    HELD,
    LIVE,
    LONG_AGO,
    LOOK_AT,
    NEVER,
    NODE_FREE,
    NODES_LEFT,
    NOWHERE,
    PANE,
    SLOT_FREE,
    SLOTS_LEFT,
    START,
    STARTS,
    TAIL,
    TAKEN,
    VIEW_SIZE,
    VIEWS,
)
from churnstream.graph.plan import AGO, NO_END, PANES, STACK
from churnstream.graph.table import compiled, inlined


@inlined
def open_slot(irows, c, at, islots, slots, free, live, length, width):
    """Give a customer's track a slot of its own; the pool has room, the caller saw to it."""
    slot = free[SLOT_FREE]
    free[SLOT_FREE] = islots[slot, HEAD]
    free[SLOTS_LEFT] -= 1
    for column in range(live):
        islots[slot, column] = NOWHERE
    islots[slot, COUNT] = 0
    for column in range(live, length, width):
        clear(slots, slot, column, width)
    irows[c, at] = slot
    irows[c, at + LOOK_AT] = NEVER
    return slot


@compiled
def close_slot(irows, c, at, islots, inodes, free):
    """Give a track's slot and its nodes back."""
    slot = irows[c, at]
    place = islots[slot, HEAD]
    while place != NOWHERE:
        following = inodes[place, AFTER]
        inodes[place, AFTER] = free[NODE_FREE]
        free[NODE_FREE] = place
        free[NODES_LEFT] += 1
        place = following
    islots[slot, HEAD] = free[SLOT_FREE]
    free[SLOT_FREE] = slot
    free[SLOTS_LEFT] += 1
    irows[c, at] = NOWHERE
    irows[c, at + LOOK_AT] = NEVER


@inlined
def append(islots, slot, inodes, free, pane):
    """A new newest node; its aggregate is not clear."""
    place = free[NODE_FREE]
    free[NODE_FREE] = inodes[place, AFTER]
    free[NODES_LEFT] -= 1
    tail = islots[slot, TAIL]
    inodes[place, PANE] = pane
    inodes[place, BEFORE] = tail
    inodes[place, AFTER] = NOWHERE
    if tail == NOWHERE:
        islots[slot, HEAD] = place
    else:
        inodes[tail, AFTER] = place
    islots[slot, TAIL] = place
    islots[slot, COUNT] += 1
    return place


@compiled
def insert(islots, slot, before, inodes, free, pane):
    """A new node behind ``before`` (NOWHERE: the oldest); its aggregate is not clear."""
    if before == islots[slot, TAIL]:
        return append(islots, slot, inodes, free, pane)
    place = free[NODE_FREE]
    free[NODE_FREE] = inodes[place, AFTER]
    free[NODES_LEFT] -= 1
    after = islots[slot, HEAD] if before == NOWHERE else inodes[before, AFTER]
    inodes[place, PANE] = pane
    inodes[place, BEFORE] = before
    inodes[place, AFTER] = after
    inodes[after, BEFORE] = place
    if before == NOWHERE:
        islots[slot, HEAD] = place
    else:
        inodes[before, AFTER] = place
    islots[slot, COUNT] += 1
    return place


@compiled
def unlink(islots, slot, place, inodes, free):
    """Take a node out of its track and give it back."""
    before, after = inodes[place, BEFORE], inodes[place, AFTER]
    if before == NOWHERE:
        islots[slot, HEAD] = after
    else:
        inodes[before, AFTER] = after
    if after == NOWHERE:
        islots[slot, TAIL] = before
    else:
        inodes[after, BEFORE] = before
    inodes[place, AFTER] = free[NODE_FREE]
    free[NODE_FREE] = place
    free[NODES_LEFT] += 1
    islots[slot, COUNT] -= 1


@compiled
def into_older_pane(islots, slots, slot, live, length, pane, instant, value, nodes, inodes, free, width):
    """Add one number to an older pane than the live one; the views of the track start again."""
    place = islots[slot, TAIL]
    while place != NOWHERE and inodes[place, PANE] > pane:
        place = inodes[place, BEFORE]
    if place == NOWHERE or inodes[place, PANE] != pane:
        place = insert(islots, slot, place, inodes, free, pane)
        clear(nodes, place, HELD, width)
    add(nodes, place, HELD, instant, value, width)
    for column in range(VIEWS, live):
        islots[slot, column] = NOWHERE
    for column in range(live + width, length, width):
        clear(slots, slot, column, width)


@compiled
def into_session(islots, slots, slot, live, gap, oldest, instant, value, nodes, inodes, free, width):
    """Add one number to the run of events it belongs to, joining two runs where it stands between them.

    Runs that ended before ``oldest`` are given back: nothing that may still come can reach them.
    """
    if slots[slot, live + N] == 0.0 or instant > slots[slot, live + LAST_AT] + gap:
        if slots[slot, live + N] > 0.0:
            place = append(islots, slot, inodes, free, 0)
            copy(nodes, place, HELD, slots, slot, live, width)
            clear(slots, slot, live, width)
        add(slots, slot, live, instant, value, width)
    elif instant >= slots[slot, live + FIRST_AT] - gap:
        add(slots, slot, live, instant, value, width)
        tail = islots[slot, TAIL]
        if tail != NOWHERE and slots[slot, live + FIRST_AT] - nodes[tail, HELD + LAST_AT] <= gap:
            merge(nodes, tail, HELD, slots, slot, live, width)
            copy(slots, slot, live, nodes, tail, HELD, width)
            unlink(islots, slot, tail, inodes, free)
    else:
        place = islots[slot, TAIL]
        while place != NOWHERE and instant < nodes[place, HELD + FIRST_AT] - gap:
            place = inodes[place, BEFORE]
        if place == NOWHERE or instant > nodes[place, HELD + LAST_AT] + gap:
            place = insert(islots, slot, place, inodes, free, 0)
            clear(nodes, place, HELD, width)
        add(nodes, place, HELD, instant, value, width)
        before = inodes[place, BEFORE]
        if before != NOWHERE and nodes[place, HELD + FIRST_AT] - nodes[before, HELD + LAST_AT] <= gap:
            merge(nodes, before, HELD, nodes, place, HELD, width)
            unlink(islots, slot, place, inodes, free)
    place = islots[slot, HEAD]
    while place != NOWHERE and nodes[place, HELD + LAST_AT] < oldest:
        following = inodes[place, AFTER]
        unlink(islots, slot, place, inodes, free)
        place = following


@compiled
def into_set(islots, slot, pane, value, nodes, inodes, free, width):
    """Note that a value was seen in a pane."""
    place = islots[slot, TAIL]
    behind = NOWHERE  # the newest node that is not newer than the pane
    while place != NOWHERE and nodes[place, HELD + SUM] != value:
        if behind == NOWHERE and inodes[place, PANE] <= pane:
            behind = place
        place = inodes[place, BEFORE]
    if place != NOWHERE:
        if inodes[place, PANE] >= pane:
            return
        unlink(islots, slot, place, inodes, free)
        if behind == NOWHERE:
            behind = islots[slot, TAIL]
            while behind != NOWHERE and inodes[behind, PANE] > pane:
                behind = inodes[behind, BEFORE]
    place = insert(islots, slot, behind, inodes, free, pane)
    clear(nodes, place, HELD, width)
    add(nodes, place, HELD, 0.0, value, width)


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
    for each in range(first, first + views):
        panes, ago, stack = view[each, PANES], view[each, AGO], view[each, STACK]
        at = VIEWS + (each - first) * VIEW_SIZE
        highest = present - ago
        lowest = highest - panes + 1
        oldest = min(oldest, lowest)
        entering = newest  # the next pane that is not inside yet, when it is above ``highest``
        if stack >= 0:
            front = live + (1 + 2 * stack) * width
            if islots[slot, at + TAKEN] != islots[slot, TAIL]:
                take_in(islots, slots, slot, at, front, lowest, highest, nodes, inodes, width)
            if islots[slot, at + START] != NOWHERE and islots[slot, at + STARTS] < lowest:
                expire(islots, slots, slot, at, front, HELD + (stack + 1) * width, lowest, nodes, inodes, width)
            if ago > 0:
                taken = islots[slot, at + TAKEN]
                place = islots[slot, HEAD] if taken == NOWHERE else inodes[taken, AFTER]
                if place != NOWHERE:
                    entering = inodes[place, PANE]
        else:
            place = islots[slot, at + START]
            if place == NOWHERE:
                before = islots[slot, TAIL]
                while before != NOWHERE and inodes[before, PANE] >= lowest:
                    place = before
                    before = inodes[before, BEFORE]
            else:
                while place != NOWHERE and inodes[place, PANE] < lowest:
                    place = inodes[place, AFTER]
            islots[slot, at + START] = place
            if place != NOWHERE:
                islots[slot, at + STARTS] = inodes[place, PANE]
            if ago > 0:
                while place != NOWHERE and inodes[place, PANE] <= highest:
                    place = inodes[place, AFTER]
                if place != NOWHERE:
                    entering = inodes[place, PANE]
        begins = islots[slot, at + STARTS] if islots[slot, at + START] != NOWHERE else newest
        if begins >= lowest:
            following = min(following, begins + ago + (panes if begins <= highest else 0))
        if entering > highest:
            following = min(following, entering + ago)
    if newest < oldest:
        return np.int64(LONG_AGO)
    place = islots[slot, HEAD]
    while place != NOWHERE and inodes[place, PANE] < oldest and not is_taken(islots, slot, first, views, view, place):
        after = inodes[place, AFTER]
        unlink(islots, slot, place, inodes, free)
        place = after
    return following * period


@inlined
def is_taken(islots, slot, first, views, view, place):
    """Whether a stack has just taken this node in, so that it finds the next one through it."""
    for each in range(views):
        if view[first + each, STACK] >= 0 and islots[slot, VIEWS + each * VIEW_SIZE + TAKEN] == place:
            return True
    return False


@inlined
def take_in(islots, slots, slot, at, front, lowest, highest, nodes, inodes, width):
    """Merge the nodes up to the pane ``highest`` that a stack has not taken in yet."""
    taken = islots[slot, at + TAKEN]
    following = islots[slot, HEAD] if taken == NOWHERE else inodes[taken, AFTER]
    while following != NOWHERE and inodes[following, PANE] <= highest:
        if inodes[following, PANE] >= lowest:
            merge(slots, slot, front + width, nodes, following, HELD, width)
            if islots[slot, at + START] == NOWHERE:
                islots[slot, at + START] = following
                islots[slot, at + STARTS] = inodes[following, PANE]
        islots[slot, at + TAKEN] = following
        following = inodes[following, AFTER]


@inlined
def expire(islots, slots, slot, at, front, column, lowest, nodes, inodes, width):
    """Let go of the panes of a stack before ``lowest``."""
    place, flip, last = islots[slot, at + START], islots[slot, at + FLIP], islots[slot, at + TAKEN]
    while place != NOWHERE and inodes[place, PANE] < lowest:
        if place == flip or flip == NOWHERE:  # past the flip: the back is turned into merges
            while place != NOWHERE and inodes[place, PANE] < lowest:
                place = NOWHERE if place == last else inodes[place, AFTER]
            clear(slots, slot, front + width, width)
            islots[slot, at + FLIP] = NOWHERE
            if place != NOWHERE:
                pile(place, last, column, nodes, inodes, width)
                islots[slot, at + FLIP] = last
            break
        place = inodes[place, AFTER]
    islots[slot, at + START] = place
    if place == NOWHERE:
        clear(slots, slot, front, width)
    else:
        islots[slot, at + STARTS] = inodes[place, PANE]
        copy(slots, slot, front, nodes, place, column, width)


@compiled
def pile(first, last, column, nodes, inodes, width):
    """Give each node from ``last`` back to ``first`` the merge of itself and all up to ``last``."""
    copy(nodes, last, column, nodes, last, HELD, width)
    place = last
    while place != first:
        before = inodes[place, BEFORE]
        copy(nodes, before, column, nodes, before, HELD, width)
        merge(nodes, before, column, nodes, place, column, width)
        place = before


@inlined
def read_view(at, stack, lowest, highest, islots, slots, slot, live, nodes, inodes, scratch, width):
    """The aggregate of a view that has been moved, into ``scratch``."""
    if stack >= 0:
        front = live + (1 + 2 * stack) * width
        copy(scratch, 0, 0, slots, slot, front, width)
        merge(scratch, 0, 0, slots, slot, front + width, width)
    else:
        clear(scratch, 0, 0, width)
        place = islots[slot, at + START]
        while place != NOWHERE and inodes[place, PANE] <= highest:
            merge(scratch, 0, 0, nodes, place, HELD, width)
            place = inodes[place, AFTER]
    if lowest <= islots[slot, LIVE] <= highest:
        merge(scratch, 0, 0, slots, slot, live, width)


@compiled
def walk(lowest, highest, islots, slots, slot, live, nodes, inodes, scratch, width):
    """The aggregate of the panes ``lowest`` to ``highest``, pane by pane, into ``scratch``; changes nothing."""
    clear(scratch, 0, 0, width)
    place = islots[slot, HEAD]
    while place != NOWHERE and inodes[place, PANE] <= highest:
        if inodes[place, PANE] >= lowest:
            merge(scratch, 0, 0, nodes, place, HELD, width)
        place = inodes[place, AFTER]
    if lowest <= islots[slot, LIVE] <= highest:
        merge(scratch, 0, 0, slots, slot, live, width)


@compiled
def count_set(lowest, islots, slot, inodes):
    """How many values of a set were seen in the pane ``lowest`` or later."""
    count = 0
    place = islots[slot, TAIL]
    while place != NOWHERE and inodes[place, PANE] >= lowest:
        count += 1
        place = inodes[place, BEFORE]
    return count


@compiled
def move_set(first, views, view, present, period, islots, slot, inodes, free):
    """Forget the values of a set that no view will count again; returns when to look next, LONG_AGO when none is left."""
    following, oldest = np.int64(NEVER), np.int64(NEVER)
    for each in range(first, first + views):
        lowest = present - view[each, PANES] + 1
        oldest = min(oldest, lowest)
        place = islots[slot, HEAD]
        while place != NOWHERE and inodes[place, PANE] < lowest:
            place = inodes[place, AFTER]
        if place != NOWHERE:
            following = min(following, inodes[place, PANE] + view[each, PANES])
    place = islots[slot, HEAD]
    while place != NOWHERE and inodes[place, PANE] < oldest:
        after = inodes[place, AFTER]
        unlink(islots, slot, place, inodes, free)
        place = after
    if islots[slot, HEAD] == NOWHERE:
        return np.int64(LONG_AGO)
    return following * period if following != NEVER else np.int64(NEVER)

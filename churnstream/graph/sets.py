"""Sets of distinct values, compiled: one node a value, in order of the pane that the value was last seen in; nothing is live."""

import numpy as np

from churnstream.graph.aggregate import SUM, add, clear
from churnstream.graph.memory import BASE, END, HEAD, HELD, LONG_AGO, MASK, NEVER, PANE
from churnstream.graph.plan import PANES
from churnstream.graph.rings import drop, insert, remove
from churnstream.graph.table import compiled


@compiled
def into_set(islots, slot, pane, value, nodes, inodes, free, width):
    """Note that a value was seen in a pane."""
    base, mask, node = islots[slot, BASE], islots[slot, MASK], islots[slot, END] - 1
    newer = islots[slot, END]  # the first node that is newer than the pane
    while node >= islots[slot, HEAD] and nodes[base + (node & mask), HELD + SUM] != value:
        if inodes[base + (node & mask), PANE] > pane:
            newer = node
        node -= 1
    if node >= islots[slot, HEAD]:
        if inodes[base + (node & mask), PANE] >= pane:
            return
        remove(islots, slot, node, inodes)
        newer -= 1
    place = insert(islots, slot, newer, nodes, inodes, free, pane)
    clear(nodes, place, HELD, width)
    add(nodes, place, HELD, 0.0, value, width)


@compiled
def count_set(lowest, islots, slot, inodes):
    """How many values of a set were seen in the pane ``lowest`` or later."""
    node = islots[slot, END]
    while node > islots[slot, HEAD] and inodes[islots[slot, BASE] + ((node - 1) & islots[slot, MASK]), PANE] >= lowest:
        node -= 1
    return islots[slot, END] - node


@compiled
def move_set(first, views, view, present, period, islots, slot, nodes, inodes, free):
    """Forget the values of a set that no view will count again; returns when to look next, LONG_AGO when none is left."""
    following, head, end = np.int64(NEVER), islots[slot, END], islots[slot, END]
    for each in range(first, first + views):
        lowest = present - view[each, PANES] + 1
        node = end - count_set(lowest, islots, slot, inodes)
        head = min(head, node)
        if node < end:
            pane = inodes[islots[slot, BASE] + (node & islots[slot, MASK]), PANE]
            following = min(following, pane + view[each, PANES])
    drop(islots, slot, head, nodes, inodes, free)
    if head == end:
        return np.int64(LONG_AGO)
    return following * period if following != NEVER else np.int64(NEVER)

"""Nodes in rings, compiled: a track's older panes, runs or values, numbered without end in the order of time.

From ``HEAD`` to before ``END`` they are there. They stand in a stretch of the pool of a power of two of rows, node ``n`` in the
row ``BASE + (n & MASK)``; a ring that is full moves into one of twice its size, one that is nearly empty into one of half. Free
rings are chained by their size.
"""

from churnstream.graph.memory import BASE, END, HEAD, MASK, NODE_FRESH, NODES_LEFT, NOWHERE, PANE, RINGS, SMALLEST
from churnstream.graph.table import compiled, inlined, width_of


@inlined
def size_class(mask):
    """Which of the chains of free rings one with this mask belongs to."""
    place = RINGS
    while mask >> (place - RINGS) > 0:
        place += 1
    return place


@inlined
def free_ring(base, mask, inodes, free):
    """Give back a ring, which may have no rows."""
    if mask != NOWHERE:
        chain = size_class(mask)
        inodes[base, PANE] = free[chain]
        free[chain] = base


@compiled
def move_ring(islots, slot, mask, nodes, inodes, free):
    """Move a track's nodes into a ring with another mask, in which they have room; the pool has room as well."""
    chain = size_class(mask)
    base = free[chain]
    if base == NOWHERE:
        base = free[NODE_FRESH]
        free[NODE_FRESH] += mask + 1
        free[NODES_LEFT] -= mask + 1
    else:
        free[chain] = inodes[base, PANE]
    old_base, old_mask = islots[slot, BASE], islots[slot, MASK]
    for node in range(islots[slot, HEAD], islots[slot, END]):
        to, place = base + (node & mask), old_base + (node & old_mask)
        for column in range(width_of(inodes)):
            inodes[to, column] = inodes[place, column]
    free_ring(old_base, old_mask, inodes, free)
    islots[slot, BASE], islots[slot, MASK] = base, mask


@inlined
def make_room(islots, slot, nodes, inodes, free):
    """Have room for one more node."""
    mask = islots[slot, MASK]
    if islots[slot, END] - islots[slot, HEAD] > mask:
        move_ring(islots, slot, max(2 * mask + 1, SMALLEST - 1), nodes, inodes, free)


@inlined
def append(islots, slot, nodes, inodes, free, pane):
    """The row of a new newest node; its aggregate is not clear."""
    make_room(islots, slot, nodes, inodes, free)
    node = islots[slot, END]
    place = islots[slot, BASE] + (node & islots[slot, MASK])
    inodes[place, PANE] = pane
    islots[slot, END] = node + 1
    return place


@compiled
def insert(islots, slot, node, nodes, inodes, free, pane):
    """The row of a new node with the number ``node``, those from there on move on; its aggregate is not clear."""
    make_room(islots, slot, nodes, inodes, free)
    base, mask = islots[slot, BASE], islots[slot, MASK]
    for each in range(islots[slot, END], node, -1):
        to, place = base + (each & mask), base + ((each - 1) & mask)
        for column in range(width_of(inodes)):
            inodes[to, column] = inodes[place, column]
    islots[slot, END] += 1
    place = base + (node & mask)
    inodes[place, PANE] = pane
    return place


@compiled
def remove(islots, slot, node, inodes):
    """Take a node out; those behind it move up."""
    base, mask = islots[slot, BASE], islots[slot, MASK]
    islots[slot, END] -= 1
    for each in range(node, islots[slot, END]):
        to, place = base + (each & mask), base + ((each + 1) & mask)
        for column in range(width_of(inodes)):
            inodes[to, column] = inodes[place, column]


@inlined
def drop(islots, slot, head, nodes, inodes, free):
    """Forget the nodes before ``head``."""
    if head != islots[slot, HEAD]:
        islots[slot, HEAD] = head
        mask, left = islots[slot, MASK], islots[slot, END] - head
        if left == 0:
            free_ring(islots[slot, BASE], mask, inodes, free)
            islots[slot, MASK] = NOWHERE
        elif 4 * left <= mask:
            move_ring(islots, slot, mask >> 1, nodes, inodes, free)

"""What the kernel will touch soon is fetched before its turn, compiled: the processor goes on, and waits for none of it.

A customer's row says where their slots are, and a slot where its nodes are: each step needs what the one before has fetched.
"""

from churnstream.graph import memory as me
from churnstream.graph.table import compiled, fetch, inlined, width_of

AHEAD = 4  # how many customers are fetched at once
MOST_STEPS = 16
LINE = 8  # words in a line of the processor's cache


@inlined
def fetch_row(source, row):
    """Fetch all lines of a row."""
    for column in range(0, width_of(source), LINE):
        fetch(source, row, column)
    fetch(source, row, width_of(source) - 1)


@compiled
def fetch_customers(customers, begin, end, irows):
    """Fetch the rows of some customers."""
    for member in range(begin, end):
        fetch_row(irows, customers[member])


@compiled
def fetch_slots(customers, begin, end, tracks, irows, islots):
    """Fetch the slots of customers whose rows are near."""
    for member in range(begin, end):
        for track in range(tracks):
            slot = irows[customers[member], me.TRACKS + track * me.TRACK_SIZE]
            if slot >= 0:
                fetch_row(islots, slot)


@compiled
def fetch_nodes(customers, begin, end, tracks, steps, irows, islots, inodes, ends, ranks, vectors):
    """Fetch the nodes of customers whose slots are near: the ``steps`` oldest, which leave next, and where the newest will be;
    and where their vectors will be."""
    last = width_of(inodes) - 1
    for member in range(begin, end):
        for track in range(tracks):
            slot = irows[customers[member], me.TRACKS + track * me.TRACK_SIZE]
            if slot >= 0 and islots[slot, me.MASK] >= 0:
                head, behind, base, mask = (
                    islots[slot, me.HEAD], islots[slot, me.END], islots[slot, me.BASE], islots[slot, me.MASK]
                )  # fmt: skip
                for node in range(head, min(head + steps, behind)):
                    fetch(inodes, base + (node & mask), last)
                fetch(inodes, base + (behind & mask), me.PANE)
        for this in range(ends[member - 1] if member > 0 else 0, ends[member]):
            fetch_row(vectors, ranks[this])


@inlined
def fetch_ahead(member, groups, customers, tracks, steps, irows, islots, inodes, ends, ranks, vectors):
    """Take each of the three steps for the customers whose turn for it has come; at the first one, for all before them too."""
    one, two, three, four = member + AHEAD, member + 2 * AHEAD, member + 3 * AHEAD, member + 4 * AHEAD
    fetch_customers(customers, 0 if member == 0 else min(groups, three), min(groups, four), irows)
    fetch_slots(customers, 0 if member == 0 else min(groups, two), min(groups, three), tracks, irows, islots)
    fetch_nodes(
        customers, 0 if member == 0 else min(groups, one), min(groups, two), tracks, steps, irows, islots, inodes, ends, ranks,
        vectors,
    )  # fmt: skip

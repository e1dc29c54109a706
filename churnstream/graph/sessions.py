"""Sessions, compiled: the present run of events is a track's live aggregate, older runs are its nodes."""

from churnstream.graph.aggregate import FIRST_AT, LAST_AT, N, add, clear, copy, merge
from churnstream.graph.memory import BASE, END, HEAD, HELD, MASK
from churnstream.graph.rings import append, drop, insert, remove
from churnstream.graph.table import compiled


@compiled
def into_session(islots, slots, slot, live, gap, oldest, instant, value, nodes, inodes, free, width):
    """Add one number to the run of events it belongs to, joining two runs where it stands between them.

    Runs that ended before ``oldest`` are given back: nothing that may still come can reach them.
    """
    if slots[slot, live + N] == 0.0 or instant > slots[slot, live + LAST_AT] + gap:
        if slots[slot, live + N] > 0.0:
            place = append(islots, slot, nodes, inodes, free, 0)
            copy(nodes, place, HELD, slots, slot, live, width)
            clear(slots, slot, live, width)
        add(slots, slot, live, instant, value, width)
    elif instant >= slots[slot, live + FIRST_AT] - gap:
        add(slots, slot, live, instant, value, width)
        node = islots[slot, END] - 1
        place = islots[slot, BASE] + (node & islots[slot, MASK])
        if node >= islots[slot, HEAD] and slots[slot, live + FIRST_AT] - nodes[place, HELD + LAST_AT] <= gap:
            merge(nodes, place, HELD, slots, slot, live, width)
            copy(slots, slot, live, nodes, place, HELD, width)
            islots[slot, END] = node
    else:
        base, mask, node = islots[slot, BASE], islots[slot, MASK], islots[slot, END] - 1
        while node >= islots[slot, HEAD] and instant < nodes[base + (node & mask), HELD + FIRST_AT] - gap:
            node -= 1
        place = base + (node & mask)
        if node < islots[slot, HEAD] or instant > nodes[place, HELD + LAST_AT] + gap:
            node += 1
            place = insert(islots, slot, node, nodes, inodes, free, 0)
            clear(nodes, place, HELD, width)
        add(nodes, place, HELD, instant, value, width)
        before = islots[slot, BASE] + ((node - 1) & islots[slot, MASK])
        if node > islots[slot, HEAD] and nodes[place, HELD + FIRST_AT] - nodes[before, HELD + LAST_AT] <= gap:
            merge(nodes, before, HELD, nodes, place, HELD, width)
            remove(islots, slot, node, inodes)
    head = islots[slot, HEAD]
    while head < islots[slot, END] and nodes[islots[slot, BASE] + (head & islots[slot, MASK]), HELD + LAST_AT] < oldest:
        head += 1
    drop(islots, slot, head, nodes, inodes, free)

"""What the engine keeps in memory: rows of 8-byte numbers in a few pools, each read both as int64 and as double.

``rows`` has one row a customer: the head below, then for each track its slot and the instant at which it must be looked at,
the instant of each attribute, the customer's vector, the accumulators, and where the features ask for them the edges. ``slots``
has one row for each track of a customer that holds events now, ``nodes`` a ring of rows for its older panes, ``waits`` one for
each event that waits for an anchor: what a customer no longer does costs nothing but their own row. Rows that were given back are
chained; the others, from the first *fresh* one on, have never been touched, and take no memory yet.
"""

import mmap
import sys
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from churnstream.graph import aggregate
from churnstream.graph.plan import Plan

Words = NDArray[np.int64]
Real = NDArray[np.float64]

# columns of ``rows``
NEWEST, DIRTY, TRACKS = range(3)
# of ``rows``, counted from the end: the edges, of who needs an anchor or an event that is required
ANCHOR, REQUIRED, WAITING, WAIT_LIMIT, FIRST_WAITING, LAST_WAITING = range(1, 7)
EDGES = 6
SLOT, LOOK_AT, TRACK_SIZE = range(3)  # of a track, from TRACKS on
# columns of ``slots`` (see ``panes``); then the live aggregate, and front and back of each stack
HEAD, END, LIVE, BASE, MASK, VIEWS = range(6)
START, STARTS, VIEW_SIZE = range(3)  # of a view, from VIEWS on
FLIP, TAKEN, STACK_SIZE = range(3)  # of a stack, those of the last one first, before the live aggregate
# columns of ``nodes``; HELD is the node's aggregate, then one merge a stack
PANE, HELD = range(2)
# columns of ``waits``; then the numbers of the event
AT, CODE, NEXT, NUMBERS = range(4)
# of ``free``: the first row of a pool that was given back, the first fresh one, and how many are free; nodes are given back by
# the ring, those of each power of two in a chain of their own, and only the fresh ones are counted
SLOT_FREE, SLOT_FRESH, SLOTS_LEFT, WAIT_FREE, WAIT_FRESH, WAITS_LEFT, NODE_FRESH, NODES_LEFT, RINGS = range(9)
CHAINS = 48
SMALLEST = 1  # row of a ring

NOWHERE = -1
NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min
FIRST_LIMIT = 32
# Elsewhere than on Linux pages cannot be moved.
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS if sys.platform == "linux" else 0
if PRIVATE:  # what is not touched is not counted either; Python knows the name from 3.13 on
    PRIVATE |= getattr(mmap, "MAP_NORESERVE", 0x4000)


class Pools(NamedTuple):
    """The arrays as the kernel takes them; those beginning with ``i`` are the same memory read as int64."""

    rows: Real
    irows: Words
    slots: Real
    islots: Words
    nodes: Real
    inodes: Words
    waits: Real
    iwaits: Words
    free: Words


class Layout(NamedTuple):
    """Where things stand in a row of ``rows`` and of ``slots``, and how long the rows of each pool are; ``edges`` or 0."""

    attributes: int
    vector: int
    accumulators: int
    edges: int
    row: int
    live: int
    slot: int
    node: int
    wait: int


def layout(plan: Plan) -> Layout:
    """The layout that a plan needs."""
    arrays, width = plan.arrays, plan.arrays.width
    attributes = TRACKS + TRACK_SIZE * len(arrays.track)
    vector = attributes + len(arrays.att)
    accumulators = vector + arrays.columns
    live = VIEWS + VIEW_SIZE * arrays.most_views + STACK_SIZE * arrays.stacks
    edges = EDGES if arrays.anchored or arrays.requires >= 0 else 0
    return Layout(
        attributes=attributes,
        vector=vector,
        accumulators=accumulators,
        edges=edges,
        row=accumulators + len(arrays.acc) * width + edges,
        live=live,
        slot=live + (1 + 2 * arrays.stacks) * width,
        node=HELD + (1 + arrays.stacks) * width,
        wait=NUMBERS + len(plan.fields),
    )


class Block:
    """Rows of so many words each, that grow; new ones are zero, and take no memory before they are touched.

    Where the system can, it moves the pages, and never holds the rows twice. Nobody else may hold ``rows`` or ``words`` then.
    """

    def __init__(self, width: int):
        self._width = width
        self._pages: mmap.mmap | None = None
        self.rows: Real = np.zeros((0, width))
        self.words: Words = np.zeros((0, width), np.int64)

    def __len__(self) -> int:
        return len(self.rows)

    def grow(self, length: int) -> None:
        """Have ``length`` rows, or more."""
        if length <= len(self):
            return
        size = 8 * self._width * max(length, 2 * len(self))
        if self._pages is None:
            self._pages = mmap.mmap(-1, size, flags=PRIVATE) if PRIVATE else mmap.mmap(-1, size)
        elif PRIVATE:
            del self.rows, self.words
            self._pages.resize(size)
        else:
            old, self._pages = self._pages, mmap.mmap(-1, size)
            self._pages[: len(old)] = old[:]
        if PRIVATE:  # customers lie anywhere: with small pages, the processor would look up one for each of them
            self._pages.madvise(mmap.MADV_HUGEPAGE)
        self.rows = np.frombuffer(self._pages, np.float64).reshape(-1, self._width)
        self.words = self.rows.view(np.int64)


class Memory:
    """The pools of one shard; they grow, and never shrink."""

    def __init__(self, plan: Plan, customers: int = 0):
        self.layout = layout(plan)
        self._newcomer = _newcomer(plan, self.layout)
        self._rows, self._slots = Block(self.layout.row), Block(self.layout.slot)
        self._nodes, self._waits = Block(self.layout.node), Block(self.layout.wait)
        self._free = np.zeros(RINGS + CHAINS, np.int64)
        self._free[[SLOT_FREE, WAIT_FREE]] = self._free[RINGS:] = NOWHERE
        self._known = 0
        self.pools = self._pools()
        self.make_room(customers, 0, 0, 0)

    def make_room(self, customers: int, slots: int, nodes: int, waits: int) -> None:
        """Have rows for so many customers in all, and so many free rows of each pool, ``nodes`` for that many more nodes.

        A ring that grows is there twice for a moment, and before it was half as large, and so on: with all that, what the pool
        must have is at most four times the nodes, those that are there and those that come.
        """
        fresh = 4 * (int(self._free[NODE_FRESH]) + nodes) + SMALLEST * slots if nodes else 0
        left = self._free[[SLOTS_LEFT, NODES_LEFT, WAITS_LEFT]]
        if self._known < customers or left[0] < slots or left[1] < fresh or left[2] < waits:
            del self.pools  # views of memory that may move
            self._rows.grow(customers)
            self._have(self._slots, SLOTS_LEFT, slots)
            self._have(self._nodes, NODES_LEFT, fresh)
            self._have(self._waits, WAITS_LEFT, waits)
            self._rows.words[self._known : customers] = self._newcomer
            self._known = max(self._known, customers)
            self.pools = self._pools()

    def _have(self, pool: Block, left: int, wanted: int) -> None:
        """Have at least ``wanted`` free rows in a pool."""
        known = len(pool)
        pool.grow(known + max(0, wanted - int(self._free[left])))
        self._free[left] += len(pool) - known

    def _pools(self) -> Pools:
        rows, slots, nodes, waits = self._rows, self._slots, self._nodes, self._waits
        return Pools(
            rows.rows, rows.words, slots.rows, slots.words, nodes.rows, nodes.words, waits.rows, waits.words, self._free
        )  # fmt: skip


def _newcomer(plan: Plan, places: Layout) -> Words:
    """The row of a customer of whom nothing is known."""
    arrays, width = plan.arrays, plan.arrays.width
    row = np.zeros((1, places.row))
    words = row.view(np.int64)[0]
    words[NEWEST] = LONG_AGO
    words[DIRTY] = NOWHERE  # all bits: no column has been read yet
    words[TRACKS : places.attributes : TRACK_SIZE] = NOWHERE
    words[TRACKS + LOOK_AT : places.attributes : TRACK_SIZE] = NEVER
    words[places.attributes : places.vector] = LONG_AGO
    for each in range(places.accumulators, places.row - places.edges, width):
        aggregate.clear.py_func(row, 0, each, width)
    if places.edges:
        words[[-ANCHOR, -REQUIRED]] = NEVER
        words[[-WAITING, -WAIT_LIMIT, -FIRST_WAITING, -LAST_WAITING]] = 0, FIRST_LIMIT, NOWHERE, NOWHERE
    row[0, places.vector + arrays.att[:, 1]] = plan.att_default
    return words.copy()

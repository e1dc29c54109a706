"""What the engine keeps in memory: rows of 8-byte numbers in a few pools, each read both as int64 and as double.

``rows`` has one row a customer: the head below, then for each track its slot and the instant at which it must be looked at,
the instant of each attribute, the customer's vector, and the accumulators. ``slots`` has one row for each track of a customer
that holds events now, ``nodes`` one for each of its older panes, ``waits`` one for each event that waits for an anchor: what a
customer no longer does costs nothing but their own row. Free rows of a pool are chained.
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
NEWEST, ANCHOR, REQUIRED, DIRTY, WAITING, WAIT_LIMIT, FIRST_WAITING, LAST_WAITING, TRACKS = range(9)
SLOT, LOOK_AT, TRACK_SIZE = range(3)  # of a track, from TRACKS on
# columns of ``slots``, COUNT how many nodes; then the live aggregate, and front and back of each stack
HEAD, TAIL, LIVE, COUNT, VIEWS = range(5)
START, STARTS, FLIP, TAKEN, VIEW_SIZE = range(5)  # of a view, from VIEWS on
# columns of ``nodes``; HELD is the node's aggregate, then one merge a stack
PANE, BEFORE, AFTER, HELD = range(4)
# columns of ``waits``; then the numbers of the event
AT, CODE, NEXT, NUMBERS = range(4)
# of ``free``: the first free row of a pool, and how many are free
SLOT_FREE, SLOTS_LEFT, NODE_FREE, NODES_LEFT, WAIT_FREE, WAITS_LEFT = range(6)

NOWHERE = -1
NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min
FIRST_LIMIT = 32
# Elsewhere than on Linux pages cannot be moved.
PRIVATE = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS if sys.platform == "linux" else 0


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
    """Where things stand in a row of ``rows`` and of ``slots``, and how long the rows of each pool are."""

    attributes: int
    vector: int
    accumulators: int
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
    live = VIEWS + VIEW_SIZE * arrays.most_views
    return Layout(
        attributes=attributes,
        vector=vector,
        accumulators=accumulators,
        row=accumulators + len(arrays.acc) * width,
        live=live,
        slot=live + (1 + 2 * arrays.stacks) * width,
        node=HELD + (1 + arrays.stacks) * width,
        wait=NUMBERS + len(plan.fields),
    )


class Block:
    """Rows of so many words each, that grow; new ones are zero.

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
        size = (
            8 * self._width * max(length, len(self) + len(self) // (64 if PRIVATE else 8))
        )  # moving pages costs next to nothing
        if self._pages is None:
            self._pages = mmap.mmap(-1, size, flags=PRIVATE) if PRIVATE else mmap.mmap(-1, size)
        elif PRIVATE:
            del self.rows, self.words
            self._pages.resize(size)
        else:
            old, self._pages = self._pages, mmap.mmap(-1, size)
            self._pages[: len(old)] = old[:]
        self.rows = np.frombuffer(self._pages, np.float64).reshape(-1, self._width)
        self.words = self.rows.view(np.int64)


class Memory:
    """The pools of one shard; they grow, and never shrink."""

    def __init__(self, plan: Plan, customers: int = 0):
        self.layout = layout(plan)
        self._newcomer = _newcomer(plan, self.layout)
        self._rows, self._slots = Block(self.layout.row), Block(self.layout.slot)
        self._nodes, self._waits = Block(self.layout.node), Block(self.layout.wait)
        self._free = np.array([NOWHERE, 0] * 3, np.int64)
        self.pools = self._pools()
        self.make_room(customers, 0, 0, 0)

    def make_room(self, customers: int, slots: int, nodes: int, waits: int) -> None:
        """Have rows for so many customers in all, and so many free rows of each pool."""
        known = len(self._rows)
        left = self._free[[SLOTS_LEFT, NODES_LEFT, WAITS_LEFT]]
        if known >= customers and left[0] >= slots and left[1] >= nodes and left[2] >= waits:
            return
        del self.pools  # views of memory that may move
        self._rows.grow(customers)
        self._rows.words[known:] = self._newcomer
        self._chain(self._slots, HEAD, SLOT_FREE, slots)
        self._chain(self._nodes, AFTER, NODE_FREE, nodes)
        self._chain(self._waits, NEXT, WAIT_FREE, waits)
        self.pools = self._pools()

    def _chain(self, pool: Block, link: int, free: int, wanted: int) -> None:
        """Have at least ``wanted`` free rows in a pool."""
        missing, known = wanted - int(self._free[free + 1]), len(pool)
        if missing <= 0:
            return
        pool.grow(known + missing)
        pool.words[known:, link] = np.arange(known + 1, len(pool) + 1)
        pool.words[-1, link] = self._free[free]
        self._free[free] = known
        self._free[free + 1] += len(pool) - known

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
    words[[NEWEST, ANCHOR, REQUIRED]] = LONG_AGO, NEVER, NEVER
    words[[WAIT_LIMIT, FIRST_WAITING, LAST_WAITING]] = FIRST_LIMIT, NOWHERE, NOWHERE
    words[DIRTY] = NOWHERE  # all bits: no column has been read yet
    words[TRACKS : places.attributes : TRACK_SIZE] = NOWHERE
    words[TRACKS + LOOK_AT : places.attributes : TRACK_SIZE] = NEVER
    words[places.attributes : places.vector] = LONG_AGO
    for each in range(places.accumulators, places.row, width):
        aggregate.clear.py_func(row, 0, each, width)
    row[0, places.vector + arrays.att[:, 1]] = plan.att_default
    return words.copy()

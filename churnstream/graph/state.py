"""Customers' state as bytes that are stored, and back, many customers at a time, compiled.

A customer's bytes are words of 8: the version of this layout, the fingerprint of the features, how many nodes follow; the
customer's row; the events that wait for the anchor; and for each track that holds events its slot and its nodes, oldest first, a
node of a single number in two words (where aggregates are wide, three). Nodes are numbered from the track's first on, so that
what is read back merges in the same order, to the last bit. Only the merges that nodes keep for long windows are left out: they
are made again.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from churnstream.errors import FingerprintMismatch, UnknownVersion, UnreadablePayload
from churnstream.graph import aggregate as ag
from churnstream.graph import memory as me
from churnstream.graph import panes as pn
from churnstream.graph.memory import Layout, Pools, Words
from churnstream.graph.plan import FIRST_VIEW, STACK, VIEWS, Plan
from churnstream.graph.rings import append
from churnstream.graph.table import compiled, inlined, table
from churnstream.graph.waiting import room_to_wait

VERSION = 4
VERSION_AT, FINGERPRINT_AT, NODES_AT, HEADER = range(4)
WORD = 8
VERSION_WORD = VERSION.to_bytes(WORD, "little")


@compiled
def room(places, chosen, tracks, width, pools):
    """How many words the chosen customers take at most."""
    irows, islots = table(pools.irows), table(pools.islots)
    words = 0
    for each in range(len(chosen)):
        c = chosen[each]
        words += HEADER + places.row
        if places.edges > 0:
            words += irows[c, places.row - me.WAITING] * (places.wait - 1)
        for track in range(tracks):
            slot = irows[c, me.TRACKS + track * me.TRACK_SIZE]
            if slot >= 0:
                words += places.slot + (islots[slot, me.END] - islots[slot, me.HEAD]) * (1 + width)
    return words


@compiled
def write(places, chosen, track, width, fingerprint, pools, out, ends):
    """The words of the chosen customers into ``out``, one after another, and where each of them ends."""
    irows, islots, inodes, iwaits = table(pools.irows), table(pools.islots), table(pools.inodes), table(pools.iwaits)
    nodes = table(pools.nodes)
    at = 0
    for each in range(len(chosen)):
        c = chosen[each]
        nodes_at, held = at + NODES_AT, 0
        out[at + VERSION_AT], out[at + FINGERPRINT_AT] = VERSION, fingerprint
        at += HEADER
        for column in range(places.row):
            out[at + column] = irows[c, column]
        for each_track in range(len(track)):  # where things lie in memory means nothing to who reads them
            if irows[c, me.TRACKS + each_track * me.TRACK_SIZE] >= 0:
                out[at + me.TRACKS + each_track * me.TRACK_SIZE] = 0
        at += places.row
        place = np.int64(me.NOWHERE)
        if places.edges > 0:
            out[at - me.FIRST_WAITING], out[at - me.LAST_WAITING] = me.NOWHERE, me.NOWHERE
            place = irows[c, places.row - me.FIRST_WAITING]
        while place >= 0:
            out[at], out[at + 1] = iwaits[place, me.AT], iwaits[place, me.CODE]
            for column in range(me.NUMBERS, places.wait):
                out[at + column - 1] = iwaits[place, column]
            at += places.wait - 1
            place = iwaits[place, me.NEXT]
        for each_track in range(len(track)):
            slot = irows[c, me.TRACKS + each_track * me.TRACK_SIZE]
            if slot < 0:
                continue
            for column in range(places.slot):
                out[at + column] = islots[slot, column]
            head, end, base, mask = (
                islots[slot, me.HEAD], islots[slot, me.END], islots[slot, me.BASE], islots[slot, me.MASK]
            )  # fmt: skip
            out[at + me.HEAD], out[at + me.END], out[at + me.BASE], out[at + me.MASK] = 0, end - head, 0, me.NOWHERE
            links = links_at(places, width)
            for column in range(me.VIEWS + me.START, links, me.VIEW_SIZE):
                out[at + column] = max(0, islots[slot, column] - head)  # what a session or a set has here means nothing
            for column in range(links, places.live):
                out[at + column] = max(0, islots[slot, column] - head)  # nor does a stack that its track does not use
            at += places.slot
            held += end - head
            for node in range(head, end):
                place = base + (node & mask)
                single = nodes[place, me.HELD + ag.N] == 1.0
                out[at] = inodes[place, me.PANE] * 2 + single
                if single:
                    out[at + 1] = inodes[place, me.HELD + ag.SUM]
                    if width == ag.WIDTH:
                        out[at + 2] = inodes[place, me.HELD + ag.LAST_AT]
                else:
                    for column in range(width):
                        out[at + 1 + column] = inodes[place, me.HELD + column]
                at += node_words(single, width)
        out[nodes_at] = held
        ends[each] = at


@inlined
def links_at(places, width):
    """Where the links of the stacks begin in a slot."""
    return places.live - (places.slot - places.live - width) // (2 * width) * me.STACK_SIZE


@inlined
def node_words(single, width):
    """How many words a node takes."""
    return (3 if width == ag.WIDTH else 2) if single else 1 + width


@compiled
def read(places, chosen, track, view, width, words, pools):
    """The reverse of ``write``, into customers' rows that are those of newcomers; the pools have room, the caller saw to it."""
    irows, islots, slots, iwaits = table(pools.irows), table(pools.islots), table(pools.slots), table(pools.iwaits)
    nodes, inodes, free = table(pools.nodes), table(pools.inodes), table(pools.free)
    numbers = words.view(np.float64)
    at = 0
    for each in range(len(chosen)):
        c = chosen[each]
        at += HEADER
        for column in range(places.row):
            irows[c, column] = words[at + column]
        at += places.row
        last = np.int64(me.NOWHERE)
        for _ in range(irows[c, places.row - me.WAITING] if places.edges > 0 else 0):
            place = room_to_wait(iwaits, free)
            iwaits[place, me.AT], iwaits[place, me.CODE], iwaits[place, me.NEXT] = words[at], words[at + 1], me.NOWHERE
            for column in range(me.NUMBERS, places.wait):
                iwaits[place, column] = words[at + column - 1]
            if last < 0:
                irows[c, places.row - me.FIRST_WAITING] = place
            else:
                iwaits[last, me.NEXT] = place
            last = place
            at += places.wait - 1
        if places.edges > 0:
            irows[c, places.row - me.LAST_WAITING] = last
        for each_track in range(len(track)):
            slot_at = me.TRACKS + each_track * me.TRACK_SIZE
            if irows[c, slot_at] < 0:
                continue
            look_at = irows[c, slot_at + me.LOOK_AT]
            slot = pn.open_slot(irows, c, slot_at, islots, slots, free, places.live, places.slot, width)
            irows[c, slot_at + me.LOOK_AT] = look_at
            for column in range(places.slot):
                islots[slot, column] = words[at + column]
            count, islots[slot, me.END] = islots[slot, me.END], 0
            at += places.slot
            for _ in range(count):
                single = (words[at] & 1) == 1
                place = append(islots, slot, nodes, inodes, free, words[at] >> 1)
                if single:
                    ag.clear(nodes, place, me.HELD, width)
                    ag.add(nodes, place, me.HELD, numbers[at + 2] if width == ag.WIDTH else 0.0, numbers[at + 1], width)
                else:
                    for column in range(width):
                        inodes[place, me.HELD + column] = words[at + 1 + column]
                at += node_words(single, width)
            for each_view in range(track[each_track, VIEWS]):
                column = me.VIEWS + each_view * me.VIEW_SIZE
                stack = view[track[each_track, FIRST_VIEW] + each_view, STACK]
                if stack >= 0:
                    first, flip = islots[slot, column + me.START], islots[slot, pn.links_of(stack, places.live) + me.FLIP]
                    base, mask = islots[slot, me.BASE], islots[slot, me.MASK]
                    pn.pile(first, flip, base, mask, me.HELD + (stack + 1) * width, nodes, width)


@compiled
def fits(places, track, view, events, width, words, starts, lengths):
    """Whether each customer's words are as many as their counts say, and point nowhere but to what is there."""
    for each in range(len(starts)):
        at, end = starts[each] + HEADER + places.row, starts[each] + lengths[each]
        waiting = words[at - me.WAITING] if places.edges > 0 and at <= end else 0
        if at > end or waiting < 0:
            return False
        row, nodes = at - places.row, 0
        for _ in range(waiting):
            if at + places.wait - 1 > end or not 0 <= words[at + me.CODE] < events:
                return False
            at += places.wait - 1
        for each_track in range(len(track)):
            if words[row + me.TRACKS + each_track * me.TRACK_SIZE] < 0:
                continue
            if at + places.slot > end:
                return False
            count = words[at + me.END]
            if words[at + me.HEAD] != 0 or words[at + me.BASE] != 0 or words[at + me.MASK] != me.NOWHERE or count < 0:
                return False
            for each_view in range(track[each_track, VIEWS]):
                start = words[at + me.VIEWS + each_view * me.VIEW_SIZE + me.START]
                stack = view[track[each_track, FIRST_VIEW] + each_view, STACK]
                if stack < 0:
                    flip = taken = count
                else:
                    links = at + pn.links_of(stack, places.live)
                    flip, taken = words[links + me.FLIP], words[links + me.TAKEN]
                if not 0 <= start <= flip <= taken <= count:
                    return False
            at += places.slot
            nodes += count
            for _ in range(count):
                if at >= end:
                    return False
                at += node_words((words[at] & 1) == 1, width)
        if at != end or nodes != words[starts[each] + NODES_AT]:
            return False
    return True


def pack(plan: Plan, places: Layout, pools: Pools, chosen: Words) -> list[bytes]:
    """The bytes of each of the ``chosen`` (n,) customers."""
    track, width = plan.arrays.track, plan.arrays.width
    words = np.empty(room(places, chosen, len(track), width, pools), np.int64)
    ends = np.empty(len(chosen), np.int64)
    write(places, chosen, track, width, fingerprint_of(plan), pools, words, ends)
    packed = words.data.cast("B")
    bounds = (ends * WORD).tolist()
    return [bytes(packed[start:end]) for start, end in pairwise([0, *bounds])]


def fingerprint_of(plan: Plan) -> int:
    """The fingerprint of the features as one word."""
    return int(np.frombuffer(plan.fingerprint, np.int64)[0])


def words_of(plan: Plan, places: Layout, packed: Sequence[bytes]) -> tuple[Words, NDArray[np.int64]]:
    """What ``pack`` made, one after another, and where each begins.

    Raises UnknownVersion for another layout, FingerprintMismatch for other features, UnreadablePayload for bytes that were cut.
    """
    for each in packed:
        if each[:WORD] != VERSION_WORD:
            raise UnknownVersion(
                f"a customer's state has layout {each[0] if each else 'none'}, this version reads {VERSION};"
                " replay the archive into empty streams, or go back to the version that wrote it"
            )
        if each[WORD : 2 * WORD] != plan.fingerprint:
            raise FingerprintMismatch(
                f"a customer's state was kept for the features {each[WORD : 2 * WORD].hex()}, the running ones are"
                f" {plan.fingerprint.hex()}; replay the archive into empty streams, or go back to the definitions that wrote it"
            )
    arrays, lengths = plan.arrays, np.fromiter(map(len, packed), np.int64, len(packed))
    whole = b"".join(packed)
    words = np.frombuffer(whole[: len(whole) // WORD * WORD], np.int64)
    starts = (np.cumsum(lengths) - lengths) // WORD
    if (lengths % WORD).any() or not fits(
        places, arrays.track, arrays.views, len(plan.event_names), arrays.width, words, starts, lengths // WORD
    ):
        raise UnreadablePayload("a customer's state is damaged: it is shorter or longer than it says; replay the archive")
    return words, starts

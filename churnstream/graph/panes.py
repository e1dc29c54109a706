"""Sliding windows over panes, compiled: each reads in a handful of merges, however many panes it holds.

A track's panes are a doubly linked list, oldest first. A view is a queue over that list made of two stacks (Tangwongsan, Hirzel and
Schneider 2015, doi:10.14778/2752939.2752940, section 4): from its first pane to its *flip* pane each node holds the merge of itself and
all nodes up to the flip; what came after the flip is merged in one running aggregate, the *back*. Its value is the first node's merge,
the back, and the present pane. When the first pane passes the flip, the back is turned into merges, once for each pane it holds. An
event that comes out of order into an older pane makes the views of its track start again.

Nodes live in one pool for all customers of a shard: ``node`` (pane, previous, next), ``held`` (its aggregate) and ``upto`` (its merges
up to the flip, one a view of its track: row ``node * slots + slot``). ``free`` holds the first free node and how many are free.
"""

from numba import njit

from churnstream.graph.aggregate import FIRST_AT, LAST_AT, N, add, clear, copy, merge

PANE, BEFORE, AFTER, NODE = range(4)
HEAD, TAIL, TRACK = range(3)  # of a track, in ``whole``
START, FLIP, TAKEN, VIEW = range(4)  # of a view: its first node, its flip node, the newest node it has taken in
NOWHERE = -1


@njit(cache=True)
def take_node(pane, node, held, free):  # type: ignore[no-untyped-def]
    """An empty node for ``pane``, linked to nothing; the pool has room, the caller saw to it."""
    place = free[0]
    free[0] = node[place, AFTER]
    free[1] -= 1
    node[place, PANE] = pane
    node[place, BEFORE] = NOWHERE
    node[place, AFTER] = NOWHERE
    clear(held, place)
    return place


@njit(cache=True)
def link_after(whole, track, place, before, node):  # type: ignore[no-untyped-def]
    """Link a node behind ``before``; NOWHERE: at the head of its track."""
    after = whole[track + HEAD] if before == NOWHERE else node[before, AFTER]
    node[place, BEFORE] = before
    node[place, AFTER] = after
    if before == NOWHERE:
        whole[track + HEAD] = place
    else:
        node[before, AFTER] = place
    if after == NOWHERE:
        whole[track + TAIL] = place
    else:
        node[after, BEFORE] = place


@njit(cache=True)
def unlink(whole, track, place, node, free):  # type: ignore[no-untyped-def]
    """Take a node out of its track and give it back."""
    before, after = node[place, BEFORE], node[place, AFTER]
    if before == NOWHERE:
        whole[track + HEAD] = after
    else:
        node[before, AFTER] = after
    if after == NOWHERE:
        whole[track + TAIL] = before
    else:
        node[after, BEFORE] = before
    node[place, AFTER] = free[0]
    free[0] = place
    free[1] += 1


@njit(cache=True)
def start_again(whole, real, view, back):  # type: ignore[no-untyped-def]
    """Make a view forget what it has merged; it takes its panes in again when it is next moved."""
    whole[view + START] = NOWHERE
    whole[view + FLIP] = NOWHERE
    whole[view + TAKEN] = NOWHERE
    clear(real, back)


@njit(cache=True)
def into_pane(whole, track, pane, at, value, node, held, free):  # type: ignore[no-untyped-def]
    """Add one number to its pane; True when that is not the newest one, so that views must start again."""
    place = whole[track + TAIL]
    if place != NOWHERE and node[place, PANE] == pane:
        add(held, place, at, value)
        return False
    while place != NOWHERE and node[place, PANE] > pane:
        place = node[place, BEFORE]
    newest = place == whole[track + TAIL]
    if place == NOWHERE or node[place, PANE] != pane:
        fresh = take_node(pane, node, held, free)
        link_after(whole, track, fresh, place, node)
        place = fresh
    add(held, place, at, value)
    return not newest


@njit(cache=True)
def into_session(whole, track, gap, at, value, node, held, free):  # type: ignore[no-untyped-def]
    """Add one number to the run of events it belongs to, joining two runs where it stands between them."""
    place = whole[track + TAIL]
    while place != NOWHERE and at < held[place, FIRST_AT] - gap:
        place = node[place, BEFORE]
    if place == NOWHERE or at > held[place, LAST_AT] + gap:
        fresh = take_node(0, node, held, free)
        link_after(whole, track, fresh, place, node)
        place = fresh
    add(held, place, at, value)
    before = node[place, BEFORE]
    if before != NOWHERE and held[place, FIRST_AT] - held[before, LAST_AT] <= gap:
        merge(held, before, held, place)
        unlink(whole, track, place, node, free)


@njit(cache=True)
def forget_sessions(whole, track, oldest, node, held, free):  # type: ignore[no-untyped-def]
    """Give back the runs that ended before ``oldest``, but for the newest: nothing that may still come can reach them."""
    place = whole[track + HEAD]
    while place != whole[track + TAIL] and held[place, LAST_AT] < oldest:
        following = node[place, AFTER]
        unlink(whole, track, place, node, free)
        place = following


@njit(cache=True)
def move(whole, real, track, view, back, slot, slots, lowest, highest, node, held, upto):  # type: ignore[no-untyped-def]
    """Bring a view to the panes ``lowest`` to ``highest``; both only ever grow."""
    taken = whole[view + TAKEN]
    following = whole[track + HEAD] if taken == NOWHERE else node[taken, AFTER]
    while following != NOWHERE and node[following, PANE] <= highest:
        if node[following, PANE] >= lowest:
            merge(real, back, held, following)
            if whole[view + START] == NOWHERE:
                whole[view + START] = following
        whole[view + TAKEN] = following
        following = node[following, AFTER]
    place = whole[view + START]
    while place != NOWHERE and node[place, PANE] < lowest:
        if place == whole[view + FLIP] or whole[view + FLIP] == NOWHERE:
            place = turn(whole, real, view, back, slot, slots, place, lowest, node, held, upto)
            break
        place = node[place, AFTER]
    whole[view + START] = place


@njit(cache=True)
def turn(whole, real, view, back, slot, slots, place, lowest, node, held, upto):  # type: ignore[no-untyped-def]
    """Turn the back into merges; returns the first node that is still inside, NOWHERE when none is."""
    last = whole[view + TAKEN]
    clear(real, back)
    whole[view + FLIP] = NOWHERE
    while place != NOWHERE and node[place, PANE] < lowest:
        place = NOWHERE if place == last else node[place, AFTER]
    if place == NOWHERE:
        return place
    copy(upto, last * slots + slot, held, last)
    each = last
    while each != place:
        before = node[each, BEFORE]
        copy(upto, before * slots + slot, held, before)
        merge(upto, before * slots + slot, upto, each * slots + slot)
        each = before
    whole[view + FLIP] = last
    return place


@njit(cache=True)
def value_of(whole, real, track, view, back, slot, slots, present, node, held, upto, out, to):  # type: ignore[no-untyped-def]
    """The aggregate of a view that has been moved, with the pane ``present`` (which it has not taken in) when that is the newest."""
    start, flip = whole[view + START], whole[view + FLIP]
    if start == NOWHERE:
        clear(out, to)
    elif flip == NOWHERE:
        copy(out, to, real, back)
    else:
        copy(out, to, upto, start * slots + slot)
        merge(out, to, real, back)
    tail = whole[track + TAIL]
    if tail != NOWHERE and node[tail, PANE] == present:
        merge(out, to, held, tail)


@njit(cache=True)
def prune(whole, track, first_view, views, lowest, node, free):  # type: ignore[no-untyped-def]
    """Give back panes before ``lowest``, which no view will ever read again; one that a view has just taken in stays."""
    place = whole[track + HEAD]
    while place != NOWHERE and node[place, PANE] < lowest:
        for each in range(views):
            if whole[first_view + each * VIEW + TAKEN] == place:
                return
        following = node[place, AFTER]
        unlink(whole, track, place, node, free)
        place = following


@njit(cache=True)
def walk(whole, track, lowest, highest, node, held, out, to):  # type: ignore[no-untyped-def]
    """The aggregate of the panes ``lowest`` to ``highest``, pane by pane; changes nothing."""
    clear(out, to)
    place = whole[track + HEAD]
    while place != NOWHERE and node[place, PANE] <= highest:
        if node[place, PANE] >= lowest:
            merge(out, to, held, place)
        place = node[place, AFTER]


@njit(cache=True)
def newest_session(whole, track, gap, as_of, held, out, to):  # type: ignore[no-untyped-def]
    """The newest run of events, unless ``as_of`` is more than the gap after its end."""
    tail = whole[track + TAIL]
    if tail != NOWHERE and held[tail, N] > 0 and as_of - held[tail, LAST_AT] <= gap:
        copy(out, to, held, tail)
    else:
        clear(out, to)

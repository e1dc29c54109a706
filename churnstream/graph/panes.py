"""Sliding windows over panes, compiled: each reads in a handful of merges, however many panes it holds.

A track's newest pane, the *live* one, is an aggregate in the customer's own row; older panes are nodes of a doubly linked
list, oldest first. A view is a queue over that list made of two stacks (Tangwongsan, Hirzel and Schneider 2015,
doi:10.14778/2752939.2752940, section 4): from its first pane to its *flip* pane each node holds the merge of itself and all
nodes up to the flip, and the first one's merge is the view's *front*; what came after the flip is merged in its *back*. Its
value is the front, the back, and the live pane. When the first pane passes the flip, the back is turned into merges, once
for each pane it holds. An event that comes out of order into an older pane makes the views of its track start again.

As long as no pane begins or ends, only the customer's own row is touched. Nodes live in one pool for all customers of a
shard; a row of ``node`` is its pane, the nodes before and after, its aggregate, and one merge a view of its track. ``free``
holds the first free node and how many are free. ``width`` is the width of an aggregate.
"""

from numba import njit

from churnstream.graph.aggregate import FIRST_AT, LAST_AT, N, add, clear, copy, merge

PANE, BEFORE, AFTER, HELD = range(4)  # columns of a node; then one merge a view
HEAD, TAIL, LIVE, TRACK = range(4)  # of a track, in ``whole``: its oldest and newest node, and the pane that is live
START, FLIP, TAKEN, STARTS, VIEW = range(5)  # of a view: first node, flip node, newest node taken in, and the first node's pane
NOWHERE = -1
NO_PANE = -(2**62)


@njit(cache=True, error_model="numpy")
def append(whole, c, track, before, pane, node, free, width):  # type: ignore[no-untyped-def]
    """A new, empty node behind ``before`` (NOWHERE: at the head of its track); the pool has room, the caller saw to it."""
    place = free[0]
    free[0] = int(node[place, AFTER])
    free[1] -= 1
    after = whole[c, track + HEAD] if before == NOWHERE else int(node[before, AFTER])
    node[place, PANE] = pane
    node[place, BEFORE] = before
    node[place, AFTER] = after
    clear(node, place, HELD, width)
    if before == NOWHERE:
        whole[c, track + HEAD] = place
    else:
        node[before, AFTER] = place
    if after == NOWHERE:
        whole[c, track + TAIL] = place
    else:
        node[after, BEFORE] = place
    return place


@njit(cache=True, error_model="numpy")
def unlink(whole, c, track, place, node, free):  # type: ignore[no-untyped-def]
    """Take a node out of its track and give it back."""
    before, after = int(node[place, BEFORE]), int(node[place, AFTER])
    if before == NOWHERE:
        whole[c, track + HEAD] = after
    else:
        node[before, AFTER] = after
    if after == NOWHERE:
        whole[c, track + TAIL] = before
    else:
        node[after, BEFORE] = before
    node[place, AFTER] = free[0]
    free[0] = place
    free[1] += 1


@njit(cache=True, error_model="numpy")
def start_again(whole, c, real, view, front, width):  # type: ignore[no-untyped-def]
    """Make a view forget what it has merged; it takes its panes in again when it is next moved."""
    whole[c, view + START] = NOWHERE
    whole[c, view + FLIP] = NOWHERE
    whole[c, view + TAKEN] = NOWHERE
    clear(real, c, front, width)
    clear(real, c, front + width, width)


@njit(cache=True, error_model="numpy")
def close(whole, c, real, track, live, node, free, width):  # type: ignore[no-untyped-def]
    """The live pane becomes the newest node."""
    place = append(whole, c, track, whole[c, track + TAIL], whole[c, track + LIVE], node, free, width)
    copy(node, place, HELD, real, c, live, width)
    clear(real, c, live, width)
    whole[c, track + LIVE] = NO_PANE


@njit(cache=True, inline="always", error_model="numpy")
def into_pane(whole, c, real, track, live, pane, at, value, node, free, width):  # type: ignore[no-untyped-def]
    """Add one number to its pane; True when that is an older one than the live pane, so that views must start again."""
    if pane > whole[c, track + LIVE]:
        if whole[c, track + LIVE] != NO_PANE:
            close(whole, c, real, track, live, node, free, width)
        tail = whole[c, track + TAIL]
        if tail == NOWHERE or node[tail, PANE] < pane:
            whole[c, track + LIVE] = pane
    if pane == whole[c, track + LIVE]:
        add(real, c, live, at, value, width)
        return False
    place = whole[c, track + TAIL]
    while place != NOWHERE and node[place, PANE] > pane:
        place = int(node[place, BEFORE])
    if place == NOWHERE or node[place, PANE] != pane:
        place = append(whole, c, track, place, pane, node, free, width)
    add(node, place, HELD, at, value, width)
    return True


@njit(cache=True, error_model="numpy")
def into_session(whole, c, real, track, live, gap, at, value, node, free, width):  # type: ignore[no-untyped-def]
    """Add one number to the run of events it belongs to, joining two runs where it stands between them."""
    if real[c, live + N] == 0.0 or at > real[c, live + LAST_AT] + gap:
        if real[c, live + N] > 0.0:
            close(whole, c, real, track, live, node, free, width)
        add(real, c, live, at, value, width)
        return
    if at >= real[c, live + FIRST_AT] - gap:
        add(real, c, live, at, value, width)
        tail = whole[c, track + TAIL]
        if tail != NOWHERE and real[c, live + FIRST_AT] - node[tail, HELD + LAST_AT] <= gap:
            merge(node, tail, HELD, real, c, live, width)
            copy(real, c, live, node, tail, HELD, width)
            unlink(whole, c, track, tail, node, free)
        return
    place = whole[c, track + TAIL]
    while place != NOWHERE and at < node[place, HELD + FIRST_AT] - gap:
        place = int(node[place, BEFORE])
    if place == NOWHERE or at > node[place, HELD + LAST_AT] + gap:
        place = append(whole, c, track, place, 0, node, free, width)
    add(node, place, HELD, at, value, width)
    before = int(node[place, BEFORE])
    if before != NOWHERE and node[place, HELD + FIRST_AT] - node[before, HELD + LAST_AT] <= gap:
        merge(node, before, HELD, node, place, HELD, width)
        unlink(whole, c, track, place, node, free)


@njit(cache=True, error_model="numpy")
def forget_sessions(whole, c, track, oldest, node, free):  # type: ignore[no-untyped-def]
    """Give back the runs that ended before ``oldest``: nothing that may still come can reach them."""
    place = whole[c, track + HEAD]
    while place != NOWHERE and node[place, HELD + LAST_AT] < oldest:
        following = int(node[place, AFTER])
        unlink(whole, c, track, place, node, free)
        place = following


@njit(cache=True, error_model="numpy")
def take_in(whole, c, real, track, view, front, lowest, highest, node, width):  # type: ignore[no-untyped-def]
    """Merge the nodes up to the pane ``highest`` that a view has not taken in yet."""
    taken = whole[c, view + TAKEN]
    following = whole[c, track + HEAD] if taken == NOWHERE else int(node[taken, AFTER])
    while following != NOWHERE and node[following, PANE] <= highest:
        if node[following, PANE] >= lowest:
            merge(real, c, front + width, node, following, HELD, width)
            if whole[c, view + START] == NOWHERE:
                whole[c, view + START] = following
                whole[c, view + STARTS] = int(node[following, PANE])
        whole[c, view + TAKEN] = following
        following = int(node[following, AFTER])


@njit(cache=True, error_model="numpy")
def expire(whole, c, real, view, front, slot, lowest, node, width):  # type: ignore[no-untyped-def]
    """Let go of the panes before ``lowest``."""
    place = whole[c, view + START]
    while place != NOWHERE and node[place, PANE] < lowest:
        if place == whole[c, view + FLIP] or whole[c, view + FLIP] == NOWHERE:
            place = turn(whole, c, real, view, front, slot, place, lowest, node, width)
            break
        place = int(node[place, AFTER])
    whole[c, view + START] = place
    if place == NOWHERE:
        clear(real, c, front, width)
    else:
        whole[c, view + STARTS] = int(node[place, PANE])
        copy(real, c, front, node, place, HELD + (slot + 1) * width, width)


@njit(cache=True, error_model="numpy")
def turn(whole, c, real, view, front, slot, place, lowest, node, width):  # type: ignore[no-untyped-def]
    """Turn the back into merges; returns the first node that is still inside, NOWHERE when none is."""
    last, column = whole[c, view + TAKEN], HELD + (slot + 1) * width
    clear(real, c, front + width, width)
    whole[c, view + FLIP] = NOWHERE
    while place != NOWHERE and node[place, PANE] < lowest:
        place = NOWHERE if place == last else int(node[place, AFTER])
    if place == NOWHERE:
        return place
    copy(node, last, column, node, last, HELD, width)
    each = last
    while each != place:
        before = int(node[each, BEFORE])
        copy(node, before, column, node, before, HELD, width)
        merge(node, before, column, node, each, column, width)
        each = before
    whole[c, view + FLIP] = last
    return place


@njit(cache=True, error_model="numpy")
def prune(whole, c, track, first_view, views, lowest, node, free):  # type: ignore[no-untyped-def]
    """Give back panes before ``lowest``, which no view will ever read again; one that a view has just taken in stays."""
    place = whole[c, track + HEAD]
    while place != NOWHERE and node[place, PANE] < lowest:
        for each in range(views):
            if whole[c, first_view + each * VIEW + TAKEN] == place:
                return
        following = int(node[place, AFTER])
        unlink(whole, c, track, place, node, free)
        place = following


@njit(cache=True, error_model="numpy")
def walk(whole, c, real, track, live, lowest, highest, node, width, out, to):  # type: ignore[no-untyped-def]
    """The aggregate of the panes ``lowest`` to ``highest``, pane by pane, into ``out`` from ``to`` on; changes nothing."""
    clear(out, 0, to, width)
    place = whole[c, track + HEAD]
    while place != NOWHERE and node[place, PANE] <= highest:
        if node[place, PANE] >= lowest:
            merge(out, 0, to, node, place, HELD, width)
        place = int(node[place, AFTER])
    if lowest <= whole[c, track + LIVE] <= highest:
        merge(out, 0, to, real, c, live, width)

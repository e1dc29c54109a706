"""Events that wait for an anchor, compiled: a linked list a customer, in order of arrival.

Where a customer's list begins and ends, and how long it is, stands among the edges of their row.
"""

from churnstream.graph import memory as me
from churnstream.graph.table import compiled, inlined, width_of


@inlined
def edge(irows, place):
    """The column of an edge."""
    return width_of(irows) - place


@inlined
def room_to_wait(iwaits, free):
    """A row of ``waits`` to be used; the pool has room, the caller saw to it."""
    place = free[me.WAIT_FREE]
    if place == me.NOWHERE:
        place = free[me.WAIT_FRESH]
        free[me.WAIT_FRESH] += 1
    else:
        free[me.WAIT_FREE] = iwaits[place, me.NEXT]
    free[me.WAITS_LEFT] -= 1
    return place


@compiled
def wait_for_anchor(irows, c, code, at, values, row, waits, iwaits, free):
    """Append an event to the customer's list; the pool has room, the caller saw to it."""
    place = room_to_wait(iwaits, free)
    iwaits[place, me.AT] = at
    iwaits[place, me.CODE] = code
    iwaits[place, me.NEXT] = me.NOWHERE
    for column in range(width_of(values)):
        waits[place, me.NUMBERS + column] = values[row, column]
    if irows[c, edge(irows, me.LAST_WAITING)] < 0:
        irows[c, edge(irows, me.FIRST_WAITING)] = place
    else:
        iwaits[irows[c, edge(irows, me.LAST_WAITING)], me.NEXT] = place
    irows[c, edge(irows, me.LAST_WAITING)] = place
    irows[c, edge(irows, me.WAITING)] += 1


@compiled
def forget(irows, c, before, iwaits, free):
    """Give back the customer's waiting events that happened before the instant ``before``."""
    place, last = irows[c, edge(irows, me.FIRST_WAITING)], me.NOWHERE
    while place >= 0:
        following = iwaits[place, me.NEXT]
        if iwaits[place, me.AT] < before:
            if last < 0:
                irows[c, edge(irows, me.FIRST_WAITING)] = following
            else:
                iwaits[last, me.NEXT] = following
            iwaits[place, me.NEXT] = free[me.WAIT_FREE]
            free[me.WAIT_FREE] = place
            free[me.WAITS_LEFT] += 1
            irows[c, edge(irows, me.WAITING)] -= 1
        else:
            last = place
        place = following
    irows[c, edge(irows, me.LAST_WAITING)] = last
    irows[c, edge(irows, me.WAIT_LIMIT)] = max(me.FIRST_LIMIT, 2 * irows[c, edge(irows, me.WAITING)])

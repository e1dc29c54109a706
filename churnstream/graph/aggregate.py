"""Aggregates of numbers that merge and never subtract, compiled.

An aggregate stands in some columns of row ``r`` of an array of doubles, from a given column on: the first ``CORE`` of them
always, all ``WIDTH`` where the features ask for extremes or for instants. Its sum is a pair (value, rest) by Knuth's TwoSum
(The Art of Computer Programming 2, 4.2.2), so that the sum of any number of cents rounds to the same double in whatever
order they come. Mean and centred sum of squares follow Welford (1962, doi:10.1080/00401706.1962.10490022) for one number
and Chan, Golub and LeVeque (1979, STAN-CS-79-773) for two aggregates. Instants are microseconds since 1970, exact in a
double until the year 2255.
"""

import numpy as np

from churnstream.graph.table import inlined

N, SUM, REST, MEAN, M2, CORE = range(6)
MIN, MAX, FIRST_AT, FIRST, LAST_AT, LAST, WIDTH = range(5, 12)


@inlined
def clear(rows, r, at, width):
    """Make the columns from ``at`` on the aggregate of nothing."""
    for column in range(at, at + CORE):
        rows[r, column] = 0.0
    if width == WIDTH:
        rows[r, at + MIN] = np.inf
        rows[r, at + MAX] = -np.inf
        rows[r, at + FIRST_AT] = np.inf
        rows[r, at + FIRST] = 0.0
        rows[r, at + LAST_AT] = -np.inf
        rows[r, at + LAST] = 0.0


@inlined
def copy(rows, r, at, others, o, place, width):
    """Make an aggregate the same as another."""
    for column in range(CORE):
        rows[r, at + column] = others[o, place + column]
    if width == WIDTH:
        for column in range(CORE, WIDTH):
            rows[r, at + column] = others[o, place + column]


@inlined
def add(rows, r, to, instant, value, width):
    """One more number, stated at an instant; of several at one instant the one added last is the last."""
    n = rows[r, to + N] + 1.0
    rows[r, to + N] = n
    total = rows[r, to + SUM]
    grown = total + value
    carried = grown - total
    rows[r, to + REST] += (total - (grown - carried)) + (value - carried)
    rows[r, to + SUM] = grown
    delta = value - rows[r, to + MEAN]
    mean = rows[r, to + MEAN] + delta / n
    rows[r, to + MEAN] = mean
    rows[r, to + M2] += delta * (value - mean)
    if width == WIDTH:
        rows[r, to + MIN] = min(rows[r, to + MIN], value)
        rows[r, to + MAX] = max(rows[r, to + MAX], value)
        if instant < rows[r, to + FIRST_AT]:
            rows[r, to + FIRST_AT] = instant
            rows[r, to + FIRST] = value
        if instant >= rows[r, to + LAST_AT]:
            rows[r, to + LAST_AT] = instant
            rows[r, to + LAST] = value


@inlined
def merge(rows, r, to, others, o, later, width):
    """An aggregate becomes that of both; ``other`` holds nothing older than the newest of it."""
    more = others[o, later + N]
    if more == 0.0:
        return
    have = rows[r, to + N]
    if have == 0.0:
        copy(rows, r, to, others, o, later, width)
        return
    n = have + more
    total, addend = rows[r, to + SUM], others[o, later + SUM]
    grown = total + addend
    carried = grown - total
    rows[r, to + REST] += others[o, later + REST] + ((total - (grown - carried)) + (addend - carried))
    rows[r, to + SUM] = grown
    delta = others[o, later + MEAN] - rows[r, to + MEAN]
    weight = more / n
    rows[r, to + MEAN] += delta * weight
    rows[r, to + M2] += others[o, later + M2] + delta * delta * have * weight
    rows[r, to + N] = n
    if width == WIDTH:
        rows[r, to + MIN] = min(rows[r, to + MIN], others[o, later + MIN])
        rows[r, to + MAX] = max(rows[r, to + MAX], others[o, later + MAX])
        rows[r, to + LAST_AT] = others[o, later + LAST_AT]
        rows[r, to + LAST] = others[o, later + LAST]


OP_COUNT, OP_SUM, OP_MEAN, OP_VAR, OP_STD, OP_MIN, OP_MAX, OP_FIRST, OP_LAST = range(9)
OP_LAST_AT, OP_DISTINCT, LAST_INSTANT = range(10, 13)  # 9 is made from LAST_INSTANT, the instant of the newest number


@inlined
def read(rows, r, at, op, anchor):
    """One number out of an aggregate: NaN (0 for counts and sums) below the number of events that the op needs."""
    n = rows[r, at + N]
    value = np.nan
    if op in (OP_COUNT, OP_DISTINCT):
        value = n
    elif op == OP_SUM:
        value = rows[r, at + SUM] + rows[r, at + REST]
    elif op == OP_MEAN:
        if n > 0:
            value = (rows[r, at + SUM] + rows[r, at + REST]) / n
    elif op in (OP_VAR, OP_STD):
        if n > 1:
            value = rows[r, at + M2] / (n - 1)
            if op == OP_STD:
                value = np.sqrt(value)
    elif n > 0:
        if op == OP_MIN:
            value = rows[r, at + MIN]
        elif op == OP_MAX:
            value = rows[r, at + MAX]
        elif op == OP_FIRST:
            value = rows[r, at + FIRST]
        elif op == OP_LAST:
            value = rows[r, at + LAST]
        elif op == LAST_INSTANT:
            value = rows[r, at + LAST_AT]
        else:
            value = (rows[r, at + LAST_AT] - anchor) / 1e6
    return value

"""Aggregates of numbers that merge and never subtract, compiled.

An aggregate stands in some columns of a row of doubles, from a given column on: the first ``CORE`` of them always, all ``WIDTH`` where
the features ask for extremes or for instants. Its sum is a pair (value, rest) by Knuth's TwoSum (The Art of Computer Programming 2,
4.2.2), so that the sum of any number of cents rounds to the same double in whatever order they come. Mean and centred sum of squares
follow Welford (1962, doi:10.1080/00401706.1962.10490022) for one number and Chan, Golub and LeVeque (1979, STAN-CS-79-773) for two
aggregates. Instants are microseconds since 1970, exact in a double until the year 2255.
"""

import numpy as np
from numba import njit

N, SUM, REST, MEAN, M2, CORE = range(6)
MIN, MAX, FIRST_AT, FIRST, LAST_AT, LAST, WIDTH = range(5, 12)


@njit(cache=True, inline="always")
def clear(row, at, width):  # type: ignore[no-untyped-def]
    """Make the columns from ``at`` on the aggregate of nothing."""
    for column in range(at, at + CORE):
        row[column] = 0.0
    if width == WIDTH:
        row[at + MIN] = np.inf
        row[at + MAX] = -np.inf
        row[at + FIRST_AT] = np.inf
        row[at + FIRST] = 0.0
        row[at + LAST_AT] = -np.inf
        row[at + LAST] = 0.0


@njit(cache=True, inline="always")
def copy(row, at, other, place, width):  # type: ignore[no-untyped-def]
    """Make an aggregate the same as another."""
    for column in range(width):
        row[at + column] = other[place + column]


@njit(cache=True, inline="always")
def add(row, to, instant, value, width):  # type: ignore[no-untyped-def]
    """One more number, stated at an instant; of several at one instant the one added last is the last."""
    n = row[to + N] + 1.0
    row[to + N] = n
    total = row[to + SUM]
    grown = total + value
    carried = grown - total
    row[to + REST] += (total - (grown - carried)) + (value - carried)
    row[to + SUM] = grown
    delta = value - row[to + MEAN]
    mean = row[to + MEAN] + delta / n
    row[to + MEAN] = mean
    row[to + M2] += delta * (value - mean)
    if width == WIDTH:
        row[to + MIN] = min(row[to + MIN], value)
        row[to + MAX] = max(row[to + MAX], value)
        if instant < row[to + FIRST_AT]:
            row[to + FIRST_AT] = instant
            row[to + FIRST] = value
        if instant >= row[to + LAST_AT]:
            row[to + LAST_AT] = instant
            row[to + LAST] = value


@njit(cache=True)
def merge(row, to, other, later, width):  # type: ignore[no-untyped-def]
    """An aggregate becomes that of both; ``other`` holds nothing older than the newest of it."""
    more = other[later + N]
    if more == 0.0:
        return
    have = row[to + N]
    if have == 0.0:
        copy(row, to, other, later, width)
        return
    n = have + more
    total, addend = row[to + SUM], other[later + SUM]
    grown = total + addend
    carried = grown - total
    row[to + REST] += other[later + REST] + ((total - (grown - carried)) + (addend - carried))
    row[to + SUM] = grown
    delta = other[later + MEAN] - row[to + MEAN]
    weight = more / n
    row[to + MEAN] += delta * weight
    row[to + M2] += other[later + M2] + delta * delta * have * weight
    row[to + N] = n
    if width == WIDTH:
        row[to + MIN] = min(row[to + MIN], other[later + MIN])
        row[to + MAX] = max(row[to + MAX], other[later + MAX])
        row[to + LAST_AT] = other[later + LAST_AT]
        row[to + LAST] = other[later + LAST]


OP_COUNT, OP_SUM, OP_MEAN, OP_VAR, OP_STD, OP_MIN, OP_MAX, OP_FIRST, OP_LAST, OP_SINCE_LAST, OP_LAST_AT = range(11)


@njit(cache=True)
def read(row, at, op, as_of, anchor):  # type: ignore[no-untyped-def]
    """One number out of an aggregate: NaN (0 for counts and sums) below the number of events that the op needs."""
    n = row[at + N]
    if op == OP_COUNT:
        return n
    if op == OP_SUM:
        return row[at + SUM] + row[at + REST]
    if op == OP_VAR or op == OP_STD:
        if n < 2:
            return np.nan
        variance = row[at + M2] / (n - 1)
        return variance if op == OP_VAR else np.sqrt(variance)
    if n == 0:
        return np.nan
    if op == OP_MEAN:
        return (row[at + SUM] + row[at + REST]) / n
    if op == OP_MIN:
        return row[at + MIN]
    if op == OP_MAX:
        return row[at + MAX]
    if op == OP_FIRST:
        return row[at + FIRST]
    if op == OP_LAST:
        return row[at + LAST]
    if op == OP_SINCE_LAST:
        return (as_of - row[at + LAST_AT]) / 1e6
    return (row[at + LAST_AT] - anchor) / 1e6

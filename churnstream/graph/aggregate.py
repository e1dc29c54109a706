"""Aggregates of numbers that merge and never subtract, compiled.

An aggregate is a row of ``WIDTH`` doubles. Its sum is a pair (value, rest) by Knuth's TwoSum (The Art of Computer Programming 2, 4.2.2),
so that the sum of any number of cents rounds to the same double in whatever order they come. Mean and centred sum of squares follow
Welford (1962, doi:10.1080/00401706.1962.10490022) for one number and Chan, Golub and LeVeque (1979, STAN-CS-79-773) for two aggregates.
Instants are microseconds since 1970, exact in a double until the year 2255.
"""

import numpy as np
from numba import njit

N, SUM, REST, MEAN, M2, MIN, MAX, FIRST_AT, FIRST, LAST_AT, LAST, WIDTH = range(12)


@njit(cache=True)
def clear(rows, at_row):  # type: ignore[no-untyped-def]
    """Make a row the aggregate of nothing."""
    for column in range(WIDTH):
        rows[at_row, column] = 0.0
    rows[at_row, MIN] = np.inf
    rows[at_row, MAX] = -np.inf
    rows[at_row, FIRST_AT] = np.inf
    rows[at_row, LAST_AT] = -np.inf


@njit(cache=True)
def copy(rows, to, others, place):  # type: ignore[no-untyped-def]
    """Make a row the same as another."""
    for column in range(WIDTH):
        rows[to, column] = others[place, column]


@njit(cache=True)
def add(rows, to, at, value):  # type: ignore[no-untyped-def]
    """One more number, stated at an instant; of several at one instant the one added last is the last."""
    n = rows[to, N] + 1.0
    rows[to, N] = n
    total = rows[to, SUM]
    grown = total + value
    carried = grown - total
    rows[to, REST] += (total - (grown - carried)) + (value - carried)
    rows[to, SUM] = grown
    delta = value - rows[to, MEAN]
    mean = rows[to, MEAN] + delta / n
    rows[to, MEAN] = mean
    rows[to, M2] += delta * (value - mean)
    rows[to, MIN] = min(rows[to, MIN], value)
    rows[to, MAX] = max(rows[to, MAX], value)
    if at < rows[to, FIRST_AT]:
        rows[to, FIRST_AT] = at
        rows[to, FIRST] = value
    if at >= rows[to, LAST_AT]:
        rows[to, LAST_AT] = at
        rows[to, LAST] = value


@njit(cache=True)
def merge(rows, to, others, later):  # type: ignore[no-untyped-def]
    """A row becomes the aggregate of both; ``others[later]`` holds nothing older than the newest of it."""
    more = others[later, N]
    if more == 0.0:
        return
    have = rows[to, N]
    if have == 0.0:
        copy(rows, to, others, later)
        return
    n = have + more
    total, other = rows[to, SUM], others[later, SUM]
    grown = total + other
    carried = grown - total
    rows[to, REST] += others[later, REST] + ((total - (grown - carried)) + (other - carried))
    rows[to, SUM] = grown
    delta = others[later, MEAN] - rows[to, MEAN]
    weight = more / n
    rows[to, MEAN] += delta * weight
    rows[to, M2] += others[later, M2] + delta * delta * have * weight
    rows[to, N] = n
    rows[to, MIN] = min(rows[to, MIN], others[later, MIN])
    rows[to, MAX] = max(rows[to, MAX], others[later, MAX])
    rows[to, LAST_AT] = others[later, LAST_AT]
    rows[to, LAST] = others[later, LAST]


OP_COUNT, OP_SUM, OP_MEAN, OP_VAR, OP_STD, OP_MIN, OP_MAX, OP_FIRST, OP_LAST, OP_SINCE_LAST, OP_LAST_AT = range(11)


@njit(cache=True)
def read(rows, place, op, as_of, anchor):  # type: ignore[no-untyped-def]
    """One number out of an aggregate: NaN (0 for counts and sums) below the number of events that the op needs."""
    n = rows[place, N]
    if op == OP_COUNT:
        return n
    if op == OP_SUM:
        return rows[place, SUM] + rows[place, REST]
    if op == OP_VAR or op == OP_STD:
        if n < 2:
            return np.nan
        variance = rows[place, M2] / (n - 1)
        return variance if op == OP_VAR else np.sqrt(variance)
    if n == 0:
        return np.nan
    if op == OP_MEAN:
        return (rows[place, SUM] + rows[place, REST]) / n
    if op == OP_MIN:
        return rows[place, MIN]
    if op == OP_MAX:
        return rows[place, MAX]
    if op == OP_FIRST:
        return rows[place, FIRST]
    if op == OP_LAST:
        return rows[place, LAST]
    if op == OP_SINCE_LAST:
        return (as_of - rows[place, LAST_AT]) / 1e6
    return (rows[place, LAST_AT] - anchor) / 1e6

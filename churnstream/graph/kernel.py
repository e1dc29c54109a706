"""The compiled inner loop of the engine: one pass over a micro-batch, in order of arrival.

Everything about a customer stands in one row of ``whole`` (int64: instants in microseconds since 1970, counts) and one row of
``real`` (float64). Sums are kept as a pair (value, rest) by Knuth's TwoSum, so that the sum of any number of cents rounds to the
same double in whatever order they come; mean and centred sum of squares follow Welford (1962,
doi:10.1080/00401706.1962.10490022), so that nothing is ever subtracted out again. An event that can still turn out to lie in a
window, because the anchor may yet move, waits in a linked list of the pool; when the anchor moves, the customer's windows are
built again from it.
"""

import numpy as np
from numba import njit

# columns of ``whole``
ANCHOR, REQUIRED, NEWEST, WAITING, WAIT_LIMIT, FIRST_WAITING, LAST_WAITING, HEAD_WHOLE = range(8)
COUNT, LAST, ACC_WHOLE = range(3)  # of an accumulator, from HEAD_WHOLE on; then one instant an attribute
SUM, REST, MEAN, M2, MIN, MAX, ACC_REAL = range(7)  # of an accumulator in ``real``; then one value an attribute

NEVER = np.iinfo(np.int64).max
LONG_AGO = np.iinfo(np.int64).min
APPLIED, LATE = 0, 1
OP_COUNT, OP_SUM, OP_MEAN, OP_VAR, OP_MIN, OP_MAX, OP_LAST_AT, OP_ATTRIBUTE = range(8)
FIRST_LIMIT = 32


@njit(cache=True)
def empty_accumulator(whole, real, acc):  # type: ignore[no-untyped-def]
    """As before any event."""
    w, r = HEAD_WHOLE + acc * ACC_WHOLE, acc * ACC_REAL
    whole[w + COUNT] = 0
    whole[w + LAST] = LONG_AGO
    real[r + SUM : r + MIN] = 0.0
    real[r + MIN] = np.inf
    real[r + MAX] = -np.inf


@njit(cache=True)
def accumulate(whole, real, acc, at, value):  # type: ignore[no-untyped-def]
    """Add one event; ``value`` is 0 for windows that only count."""
    w, r = HEAD_WHOLE + acc * ACC_WHOLE, acc * ACC_REAL
    whole[w + COUNT] += 1
    whole[w + LAST] = max(whole[w + LAST], at)
    total = real[r + SUM]
    grown = total + value
    carried = grown - total
    real[r + REST] += (total - (grown - carried)) + (value - carried)
    real[r + SUM] = grown
    delta = value - real[r + MEAN]
    real[r + MEAN] += delta / whole[w + COUNT]
    real[r + M2] += delta * (value - real[r + MEAN])
    real[r + MIN] = min(real[r + MIN], value)
    real[r + MAX] = max(real[r + MAX], value)


@njit(cache=True)
def into_windows(whole, real, code, at, values, acc_event, acc_column, acc_span):  # type: ignore[no-untyped-def]
    """Add an event to every window of its customer in which it lies."""
    anchor = whole[ANCHOR]
    if at < anchor:
        return
    for acc in range(len(acc_event)):
        if acc_event[acc] == code and at - anchor < acc_span[acc]:
            column = acc_column[acc]
            accumulate(whole, real, acc, at, values[column] if column >= 0 else 0.0)


@njit(cache=True)
def read_vector(whole, real, out, op, source, accumulators):  # type: ignore[no-untyped-def]
    """Write the features into ``out``, in the order of the table."""
    for place in range(len(op)):
        if op[place] == OP_ATTRIBUTE:
            out[place] = real[accumulators * ACC_REAL + source[place]]
            continue
        w, r = HEAD_WHOLE + source[place] * ACC_WHOLE, source[place] * ACC_REAL
        count = whole[w + COUNT]
        total = real[r + SUM] + real[r + REST]
        if op[place] == OP_COUNT:
            out[place] = count
        elif op[place] == OP_SUM:
            out[place] = total
        elif op[place] == OP_VAR:
            out[place] = real[r + M2] / (count - 1) if count > 1 else np.nan
        elif count == 0:
            out[place] = np.nan
        elif op[place] == OP_MEAN:
            out[place] = total / count
        elif op[place] == OP_MIN:
            out[place] = real[r + MIN]
        elif op[place] == OP_MAX:
            out[place] = real[r + MAX]
        else:
            out[place] = (whole[w + LAST] - whole[ANCHOR]) / 1_000_000


@njit(cache=True)
def is_defined(whole, requires):  # type: ignore[no-untyped-def]
    """Whether the customer has a vector yet: the anchor is known, and so is the required event."""
    return whole[ANCHOR] != NEVER and (requires < 0 or whole[REQUIRED] != NEVER)


@njit(cache=True)
def wait(whole, code, at, values, pool_whole, pool_real, free):  # type: ignore[no-untyped-def]
    """Append an event to the customer's list; the pool has room, the caller saw to it."""
    place = free[0]
    free[0] = pool_whole[place, 2]
    free[1] -= 1
    pool_whole[place, 0] = at
    pool_whole[place, 1] = code
    pool_whole[place, 2] = -1
    pool_real[place, :] = values
    if whole[LAST_WAITING] < 0:
        whole[FIRST_WAITING] = place
    else:
        pool_whole[whole[LAST_WAITING], 2] = place
    whole[LAST_WAITING] = place
    whole[WAITING] += 1


@njit(cache=True)
def forget(whole, before, pool_whole, free):  # type: ignore[no-untyped-def]
    """Give back the customer's waiting events that happened before the instant ``before``."""
    place, last = whole[FIRST_WAITING], -1
    while place >= 0:
        following = pool_whole[place, 2]
        if pool_whole[place, 0] < before:
            if last < 0:
                whole[FIRST_WAITING] = following
            else:
                pool_whole[last, 2] = following
            pool_whole[place, 2] = free[0]
            free[0] = place
            free[1] += 1
            whole[WAITING] -= 1
        else:
            last = place
        place = following
    whole[LAST_WAITING] = last
    whole[WAIT_LIMIT] = max(FIRST_LIMIT, 2 * whole[WAITING])


@njit(cache=True)
def apply_rows(  # type: ignore[no-untyped-def]
    who, codes, times, values, whole, real, pool_whole, pool_real, free, outcome, emitted, vectors,
    anchor, requires, lateness, acc_event, acc_column, acc_span, att_event, att_column, op, source, serves,
):  # fmt: skip
    """Apply a batch; returns how many vectors were emitted: ``emitted`` holds the rows, ``vectors`` the features after each."""
    accumulators = len(acc_event)
    count = 0
    for row in range(len(who)):
        one, some, code, at = whole[who[row]], real[who[row]], codes[row], times[row]
        if one[NEWEST] != LONG_AGO and at < one[NEWEST] - lateness:
            outcome[row] = LATE
            continue
        outcome[row] = APPLIED
        one[NEWEST] = max(one[NEWEST], at)
        if code == requires:
            one[REQUIRED] = min(one[REQUIRED], at)
        for att in range(len(att_event)):
            value = values[row, att_column[att]]
            known = HEAD_WHOLE + accumulators * ACC_WHOLE + att
            if att_event[att] == code and not np.isnan(value) and at >= one[known]:
                one[known] = at
                some[accumulators * ACC_REAL + att] = value
        counted = False
        for acc in range(accumulators):
            counted = counted or acc_event[acc] == code
        settled = one[ANCHOR] != NEVER and one[NEWEST] - lateness >= one[ANCHOR]
        if counted and not settled:
            wait(one, code, at, values[row], pool_whole, pool_real, free)
        if code == anchor and at < one[ANCHOR]:
            one[ANCHOR] = at
            for acc in range(accumulators):
                empty_accumulator(one, some, acc)
            place = one[FIRST_WAITING]
            while place >= 0:
                into_windows(
                    one, some, pool_whole[place, 1], pool_whole[place, 0], pool_real[place], acc_event, acc_column, acc_span
                )
                place = pool_whole[place, 2]
        elif counted and one[ANCHOR] != NEVER:
            into_windows(one, some, code, at, values[row], acc_event, acc_column, acc_span)
        if one[WAITING] > 0 and one[ANCHOR] != NEVER and one[NEWEST] - lateness >= one[ANCHOR]:
            forget(one, NEVER, pool_whole, free)
        elif one[WAITING] > one[WAIT_LIMIT]:
            forget(one, one[NEWEST] - lateness, pool_whole, free)
        if serves[code] and is_defined(one, requires):
            read_vector(one, some, vectors[count], op, source, accumulators)
            emitted[count] = row
            count += 1
    return count

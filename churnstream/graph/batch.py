"""A micro-batch laid out for the kernel: the rows of one customer together, for what is used together should lie together."""

from typing import NamedTuple

import numpy as np

from churnstream.graph.memory import Real, Words
from churnstream.graph.table import compiled, inlined, table


class Batch(NamedTuple):
    """One batch on its way through the kernel.

    ``customers``, ``ends`` and ``order`` are its rows by customer (see ``group``); in that order stand ``codes``, ``times``
    (microseconds since 1970), ``values`` (rows, fields) and ``ranks`` (see ``arrange``). The kernel writes ``outcome`` (rows,),
    APPLIED or LATE; ``vectors`` (rows that are served, features) and in ``emitted`` the row of each, in order, without gaps;
    ``scratch`` (1, width) is room for one aggregate.
    """

    customers: Words
    ends: Words
    order: Words
    codes: Words
    times: Words
    values: Real
    ranks: Words
    outcome: Words
    emitted: Words
    vectors: Real
    scratch: Real


@compiled
def group(who, mark, customers, ends, order):
    """Put the rows of each customer together, in order; returns how many customers there are.

    ``mark`` (places,) is -1 everywhere, before and after. ``customers`` (rows,) holds each customer, ``order`` (rows,) the rows
    of the first one, then of the next, ``ends`` (rows,) where those of each end.
    """
    members = np.empty(len(who), np.int64)
    who, mark, customers, ends, order, member_of = (
        table(who), table(mark), table(customers), table(ends), table(order), table(members)
    )  # fmt: skip
    count = 0
    for row in range(len(who)):
        c = who[row]
        member = mark[c]
        if member < 0:
            member = count
            mark[c] = member
            customers[member] = c
            ends[member] = 0
            count += 1
        member_of[row] = member
        ends[member] += 1
    begin = 0
    for member in range(count):
        rows = ends[member]
        ends[member] = begin
        begin += rows
        mark[customers[member]] = -1
    for row in range(len(who)):
        member = member_of[row]
        order[ends[member]] = row
        ends[member] += 1
    return count


@compiled
def arrange(serves, codes, times, values, batch):
    """Copy the columns of a batch into the order of its customers, so that what is used together lies together.

    ``ranks`` tells how many rows before a row are of a type that ``serves`` (types,).
    """
    order, to_codes, to_times = table(batch.order), table(batch.codes), table(batch.times)
    to_values, to_ranks, fields = table(batch.values), table(batch.ranks), values.shape[1]
    ranks = np.empty(len(codes), np.int64)
    served = 0
    for row in range(len(codes)):
        ranks[row] = served
        served += serves[codes[row]]
    for place in range(len(order)):
        row = order[place]
        to_codes[place], to_times[place], to_ranks[place] = codes[row], times[row], ranks[row]
        for field in range(fields):
            to_values[place, field] = values[row, field]


@inlined
def close_gaps(emitted, vectors, features):
    """Move the rows of ``vectors`` up over those that ``emitted`` says were not written (-1); returns how many there are."""
    count = 0
    for place in range(len(emitted)):
        if emitted[place] >= 0:
            if count < place:
                emitted[count] = emitted[place]
                for column in range(features):
                    vectors[count, column] = vectors[place, column]
            count += 1
    return count

"""Sliding windows in plain Python: what the user of a framework without them would write, and as fast as that gets.

A customer's state is lists and numbers only, so that it may be kept as JSON as well.
"""

from datetime import datetime
from math import nan
from typing import Any

from msgspec.json import decode

AMOUNTS = {"new_purchases": (0, "amount"), "new_bet": (1, "bet_amount"), "new_win": (2, "win_amount")}
PANE_S = 600
SHORT, LONG = 6, 144  # panes of the two windows

Event = tuple[int, int, float]  # which amount, the pane, the amount
State = list[Any]


def parse(line: bytes) -> tuple[str, Event]:
    """The customer and the event of a line."""
    fields = decode(line)
    amount, name = AMOUNTS[fields["event_type"]]
    pane = int(datetime.fromisoformat(fields["event_time"]).timestamp()) // PANE_S
    return fields["user_id"], (amount, pane, fields[name])


def newcomer() -> State:
    """For each amount: its panes, oldest first, as [pane, count, sum, squares]; where the short window begins; both totals."""
    return [[[], 0, [0, 0.0, 0.0], [0, 0.0, 0.0]] for _ in AMOUNTS]


def step(state: State, event: Event) -> list[float]:
    """Take in an event that is not before the last one; returns the 24 features right after it."""
    amount, pane, value = event
    row: list[float] = []
    for number, each in enumerate(state):
        panes, start, short, long = each
        while start < len(panes) and panes[start][0] <= pane - SHORT:
            subtract(short, panes[start])
            start += 1
        gone = 0
        while gone < start and panes[gone][0] <= pane - LONG:
            subtract(long, panes[gone])
            gone += 1
        if gone:
            del panes[:gone]
            start -= gone
        each[1] = start
        if number == amount:
            if not panes or panes[-1][0] != pane:
                panes.append([pane, 0, 0.0, 0.0])
            last, square = panes[-1], value * value
            last[1] += 1
            last[2] += value
            last[3] += square
            for total in (short, long):
                total[0] += 1
                total[1] += value
                total[2] += square
        for count, total, squares in (short, long):
            if count > 1:
                row += (total, total / count, count, (count * squares - total * total) / (count * (count - 1)))
            elif count:
                row += (total, total, 1, nan)
            else:
                row += (0.0, nan, 0, nan)
    return row


def subtract(total: list[float], pane: list[float]) -> None:
    """Take a pane out of a window's totals; an empty window is exactly empty."""
    total[0] -= pane[1]
    if total[0]:
        total[1] -= pane[2]
        total[2] -= pane[3]
    else:
        total[1] = total[2] = 0.0

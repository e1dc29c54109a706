"""The rows that a result is held to before its figures are printed: what the slow exact answer says of some customers.

The standard library only, for the peers' sake; ``features_data`` writes the files that are read here.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from math import isclose, isnan, nan
from pathlib import Path

WIDTH = 8  # features of one amount: two windows, four numbers each


class WrongAnswer(Exception):
    """A row is missing or is not what it must be."""


@dataclass(frozen=True, slots=True)
class Expected:
    """The features right after one event of a file.

    ``until`` is the number of the customer's next event in the same pane, None when there is none; ``amount`` says which of the
    amounts the event has. ``exact`` is the same over windows that move with every event, where it was asked for.
    """

    event: int
    customer: str
    pane: int
    until: int | None
    amount: int
    features: Sequence[float]
    exact: Sequence[float] = ()


def save(path: Path, rows: Sequence[Expected]) -> None:
    path.write_text(json.dumps([asdict(each) for each in rows]))


def load(path: Path, events: int) -> "Sample":
    """What a run over the first ``events`` events of a file is held to."""
    return Sample((Expected(**row) for row in json.loads(path.read_text())), events)


class Sample:
    """What a run must hand over of the first ``events`` events of a file: features by the number of the event, in ``taken``.

    ``wanted`` are the events whose rows are compared. Who yields one row a customer and pane has those of ``closing``, the last
    in their pane: (customer, pane) -> event.
    """

    def __init__(self, expected: Iterable[Expected], events: int):
        self._expected = {each.event: each for each in expected if each.event < events}
        self.wanted = frozenset(self._expected)
        self.closing = {
            (each.customer, each.pane): each.event
            for each in self._expected.values()
            if each.until is None or each.until >= events
        }
        self.taken: dict[int, Sequence[float | None]] = {}

    def check(
        self,
        tolerance: float = 1e-9,
        closing: bool = False,
        own: bool = False,
        exact: bool = False,
        places: Sequence[int] | None = None,
    ) -> int:
        """How many rows were compared; raises WrongAnswer for the first that is missing or differs by more than ``tolerance``.

        ``closing`` asks for those rows only, ``own`` compares the windows of the event's own amount only, ``places`` those
        features only, and ``exact`` compares with windows that move with every event.
        """
        events = sorted(self.closing.values() if closing else self.wanted)
        for event in events:
            row = self._expected[event]
            if event not in self.taken:
                raise WrongAnswer(f"there is no row for event {event}, of {row.customer}")
            wanted, got = row.exact if exact else row.features, self.taken[event]
            if len(wanted) != len(got):
                raise WrongAnswer(f"the row of event {event} has {len(got)} features; it must have {len(wanted)}")
            compared = range(WIDTH * row.amount, WIDTH * (row.amount + 1)) if own else places or range(len(wanted))
            for place in compared:
                if not _agree(got[place], wanted[place], tolerance):
                    raise WrongAnswer(f"feature {place} after event {event} is {got[place]}; it must be {wanted[place]}")
        if not events:
            raise WrongAnswer("no row was compared: there are too few events")
        return len(events)


def _agree(got: float | None, wanted: float, tolerance: float) -> bool:
    got = nan if got is None else got
    if isnan(wanted) or isnan(got):
        return isnan(wanted) and isnan(got)
    return isclose(got, wanted, rel_tol=tolerance, abs_tol=tolerance)

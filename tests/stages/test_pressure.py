"""Whoever writes waits for whoever reads, and looks only now and then."""

import pytest

from churnstream.errors import TooFarBehind
from churnstream.stages.pressure import LOOK_S, Pressure


class Readers:
    """Two readers and a clock, set by hand."""

    def __init__(self, **rows: int):
        self.rows, self.now, self.looks = rows, 0.0, 0
        self.pressure = Pressure("orders", self.unread, most=100, clock=lambda: self.now)

    def unread(self) -> dict[str, int]:
        self.looks += 1
        return self.rows


def test_the_slowest_reader_counts_and_the_bound_itself_is_allowed() -> None:
    readers = Readers(quick=5, slow=100)
    readers.pressure.check()
    readers.rows["slow"], readers.now = 101, LOOK_S
    with pytest.raises(TooFarBehind, match=r"slow has 101 rows of orders left to read, 100 may wait"):
        readers.pressure.check()


def test_many_checks_are_one_look() -> None:
    readers = Readers(slow=1)
    for _ in range(1_000):
        readers.pressure.check()
    assert readers.looks == 1
    readers.rows["slow"] = 1_000
    readers.pressure.check()
    readers.now = LOOK_S
    for _ in range(1_000):
        with pytest.raises(TooFarBehind):
            readers.pressure.check()
    assert readers.looks == 2


def test_who_waits_goes_on_when_the_reader_has_caught_up() -> None:
    readers = Readers(slow=350)

    def rest(seconds: float) -> None:
        readers.now += seconds
        readers.rows["slow"] -= 100

    readers.pressure.wait(rest)
    assert readers.rows["slow"] == 50


def test_a_stream_that_nobody_reads_presses_on_nobody() -> None:
    Readers().pressure.check()

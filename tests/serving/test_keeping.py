"""What shadows said is written after a moment, and waits where it cannot be: no request fails for it."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

import pytest

from churnstream.errors import StorageFailed
from churnstream.serving import keeping
from churnstream.serving.keeping import AT_ONCE, Shadows


class Timer:
    """Deeds that wait for their time."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []

    def __call__(self, seconds: float, deed: Callable[[], None]) -> None:
        self.waiting.append((seconds, deed))

    def strike(self) -> None:
        """Their time has come."""
        waiting, self.waiting = self.waiting, []
        for _, deed in waiting:
            deed()


class Disk:
    """Takes rows, a list a commit, unless it is ``full``."""

    def __init__(self) -> None:
        self.commits: list[list[Mapping[str, Any]]] = []
        self.full = False

    def __call__(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if self.full:
            raise StorageFailed("the disk is full")
        self.commits.append(list(rows))


@pytest.fixture
def timer() -> Timer:
    return Timer()


@pytest.fixture
def disk() -> Disk:
    return Disk()


def rows(count: int) -> list[Mapping[str, Any]]:
    return [{"row": number} for number in range(count)]


def test_a_few_rows_wait_for_the_age_and_share_a_commit(timer: Timer, disk: Disk) -> None:
    shadows = Shadows(disk, timedelta(seconds=0.5), timer)
    shadows.keep(rows(2))
    shadows.keep(rows(1))
    assert disk.commits == []
    assert [seconds for seconds, _ in timer.waiting] == [0.5]  # of the oldest row
    timer.strike()
    assert disk.commits == [[*rows(2), *rows(1)]]
    assert timer.waiting == []  # and a quiet function is not woken
    shadows.keep(rows(1))
    timer.strike()
    assert disk.commits[1:] == [rows(1)]


def test_many_rows_do_not_wait(timer: Timer, disk: Disk) -> None:
    shadows = Shadows(disk, timedelta(seconds=1), timer)
    shadows.keep(rows(AT_ONCE))
    assert [len(each) for each in disk.commits] == [AT_ONCE]
    assert len(shadows) == len(timer.waiting) == 0


def test_a_flush_leaves_nothing_behind_and_may_fail(timer: Timer, disk: Disk) -> None:
    shadows = Shadows(disk, timedelta(seconds=1), timer)
    shadows.flush()
    assert disk.commits == []
    shadows.keep(rows(3))
    disk.full = True
    with pytest.raises(StorageFailed, match="the disk is full"):
        shadows.flush()
    disk.full = False
    shadows.flush()
    timer.strike()
    assert disk.commits == [rows(3)]


def test_what_cannot_be_written_waits_and_no_request_fails(
    timer: Timer, disk: Disk, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "MOST", AT_ONCE + 10)
    shadows = Shadows(disk, timedelta(seconds=1), timer)
    disk.full = True
    for _ in range(AT_ONCE + 20):
        shadows.keep(rows(1))
        timer.strike()
    assert len(shadows) == AT_ONCE + 10  # the newest
    assert [each.message for each in caplog.records] == ["what shadows said is not written, and waits: the disk is full"]
    disk.full = False
    timer.strike()
    assert [len(each) for each in disk.commits] == [AT_ONCE + 10]


def test_without_a_timer_a_flush_writes_them(disk: Disk) -> None:
    shadows = Shadows(disk, timedelta(0))
    shadows.keep(rows(2))
    assert disk.commits == []
    shadows.flush()
    assert disk.commits == [rows(2)]

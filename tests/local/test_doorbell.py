import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from churnstream.journal import Changes, Journal
from churnstream.local import doorbell as module
from churnstream.local.doorbell import Inotify, doorbell
from churnstream.records import Record

DEADLINE_S = 10.0


@pytest.fixture(params=["told by the kernel", "looking"])
def looking(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Both ways to notice; what is missed comes so late that it does not hide a fault."""
    monkeypatch.setattr(module, "MISSED_S", 3_600.0)
    monkeypatch.setattr(module, "LOOK_S", 0.001)
    monkeypatch.setattr(module, "ABSENT_S", 0.001)
    if request.param == "looking":
        monkeypatch.setattr(Inotify, "open", lambda rung, lost: None)
    return request.param == "looking"


def live(work: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(DEADLINE_S):
            await work()

    asyncio.run(within())


def write(path: Path, stream: str = "orders") -> None:
    journal = Journal(path, writable=True)
    append(journal, stream)
    journal.close()


def append(journal: Journal, stream: str = "orders") -> None:
    journal.write(Changes(appends=[(stream, Record(b"x"))]), datetime.now(UTC))


@pytest.mark.usefixtures("looking")
def test_a_bell_rings_for_every_append_of_a_writer(tmp_path: Path) -> None:
    async def work() -> None:
        journal = Journal(tmp_path / "alpha" / "00.db", writable=True)
        with doorbell().bell(journal.path) as bell:
            for _ in range(20):
                bell.clear()
                append(journal)
                await bell.wait()
        journal.close()

    live(work)


@pytest.mark.usefixtures("looking")
def test_a_bell_rings_when_the_folder_comes_only_later(tmp_path: Path) -> None:
    path = tmp_path / "alpha" / "00.db"

    async def work() -> None:
        with doorbell().bell(path) as bell:
            await asyncio.sleep(0)
            bell.clear()
            write(path)
            await bell.wait()

    live(work)


@pytest.mark.usefixtures("looking")
def test_a_bell_rings_when_a_whole_folder_is_moved_there_and_when_it_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "alpha" / "00.db"
    write(tmp_path / "filled" / "00.db")

    async def work() -> None:
        with doorbell().bell(path) as bell:
            (tmp_path / "filled").rename(path.parent)
            await bell.wait()
            bell.clear()
            shutil.rmtree(path.parent)
            write(path)
            await bell.wait()
            bell.clear()
            path.parent.rename(tmp_path / "away")
            write(path)
            await bell.wait()

    live(work)


def test_a_bell_does_not_ring_for_another_file(tmp_path: Path, looking: bool) -> None:
    mine, other = Journal(tmp_path / "alpha" / "00.db", writable=True), Journal(tmp_path / "alpha" / "01.db", writable=True)

    async def work() -> None:
        with doorbell().bell(mine.path) as bell, doorbell().bell(other.path) as others:
            append(mine)
            await bell.wait()
            bell.clear()
            others.clear()
            append(other)
            await others.wait()
            assert not bell.is_set() or looking  # whoever looks at times may still come upon mine

    live(work)
    mine.close()
    other.close()


def test_without_a_file_a_bell_rings_again_and_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.001)

    async def work() -> None:
        with doorbell().bell(None) as bell:
            for _ in range(5):
                bell.clear()
                await bell.wait()

    live(work)


def test_what_no_ring_told_of_is_found_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MISSED_S", 0.002)
    write(tmp_path / "alpha" / "00.db")

    async def work() -> None:
        with doorbell().bell(tmp_path / "alpha" / "00.db") as bell:
            for _ in range(5):
                bell.clear()
                await bell.wait()

    live(work)


def test_nothing_stays_open_when_the_last_bell_is_gone(tmp_path: Path) -> None:
    def descriptors() -> list[str]:
        return sorted(os.listdir("/dev/fd"))

    async def work() -> None:
        before = descriptors()
        for _ in range(3):
            with doorbell().bell(tmp_path / "00.db"), doorbell().bell(tmp_path / "01.db"):
                await asyncio.sleep(0)
        assert descriptors() == before
        await asyncio.sleep(0)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == "doorbell"]

    live(work)


def test_a_system_without_the_means_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, *_: Any, **__: Any) -> None: ...

    monkeypatch.setattr(module.ctypes, "CDLL", Library)

    async def work() -> None:
        assert Inotify.open(lambda path: None, lambda: None) is None

    live(work)

"""Wakes whoever reads a stream when something was appended, so that nobody needs to keep asking.

A writer moves the modification time of its journal's file after each commit (``EmbeddedStream.trace`` names the file). On Linux
the kernel tells of that at once (inotify), and waiting costs nothing; elsewhere, and while there is no such folder yet, the
time is looked at every few milliseconds. Should a ring be missed all the same, every bell rings once in a while.
"""

import asyncio
import ctypes
import os
import struct
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

LOOK_S = 0.02  # between two looks at what the kernel does not tell of
ABSENT_S = 0.1  # between two looks for a folder that is not there yet
MISSED_S = 0.5  # at most, until something is found that no ring told of
HEAD = struct.Struct("iIII")  # of the kernel's struct inotify_event: watch, mask, cookie, length of the name
ATTRIBUTES, MOVED_HERE, CREATED, MOVED_AWAY, FORGOTTEN = 0x4, 0x80, 0x100, 0x800, 0x8000  # of <sys/inotify.h>


class Doorbell:
    """The bells of one event loop."""

    def __init__(self) -> None:
        self._bells: dict[asyncio.Event, Path | None] = {}
        self._times: dict[Path, int] = {}
        self._kernel: Inotify | None = None
        self._looking: asyncio.Task[None] | None = None

    @contextmanager
    def bell(self, path: Path | None) -> Iterator[asyncio.Event]:
        """An event that is set when ``path`` was written, maybe also without reason; for None every few milliseconds.

        Whoever waits for it clears it first, then looks, then waits: what comes in between is not missed.
        """
        bell = asyncio.Event()
        if not self._bells:
            self._kernel = Inotify.open(self._rung, self._look_anew)
        self._bells[bell] = path
        self._look_anew()
        try:
            yield bell
        finally:
            del self._bells[bell]
            if not self._bells:
                self._close()

    def _look_anew(self) -> None:
        if self._looking is not None:
            self._looking.cancel()  # it may be resting, and does not know of what is new
        self._looking = asyncio.get_running_loop().create_task(self._look(), name="doorbell")

    def _close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        if self._kernel is not None:
            self._kernel.close()
        self._looking = self._kernel = None
        self._times.clear()

    def _rung(self, path: Path) -> None:
        for bell, each in self._bells.items():
            if each == path:
                bell.set()

    async def _look(self) -> None:
        clock = asyncio.get_running_loop().time
        due = clock() + MISSED_S
        while True:
            untold = {path for path in self._bells.values() if path is not None}
            if self._kernel is not None:
                untold -= self._kernel.watched(untold)
            there = {folder for folder in {path.parent for path in untold} if folder.is_dir()}
            moved = {path for path in untold if path.parent in there and self._has_moved(path)}
            for bell, path in self._bells.items():
                if path is None or path in moved:
                    bell.set()
            pause = LOOK_S if there or None in self._bells.values() else ABSENT_S if untold else max(0.0, due - clock())
            await asyncio.sleep(pause)
            if clock() >= due:
                due = clock() + MISSED_S
                for bell in self._bells:
                    bell.set()

    def _has_moved(self, path: Path) -> bool:
        try:
            time = path.stat().st_mtime_ns
        except FileNotFoundError:
            time = 0
        moved = time != self._times.get(path, 0)
        self._times[path] = time
        return moved


class Inotify:
    """Calls ``rung(path)`` in the running loop when a file of a watched folder comes, or its modification time moves.

    ``lost()`` is called when a watched folder is gone.
    """

    def __init__(self, library: Any, descriptor: int, rung: Callable[[Path], None], lost: Callable[[], None]):
        self._library, self._descriptor, self._rung, self._lost = library, descriptor, rung, lost
        self._folders: dict[int, Path] = {}
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    @classmethod
    def open(cls, rung: Callable[[Path], None], lost: Callable[[], None]) -> "Inotify | None":
        """None where the system has no inotify, or no more of it to give."""
        library = ctypes.CDLL(None, use_errno=True)
        if not hasattr(library, "inotify_init1"):
            return None
        descriptor = library.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        return None if descriptor < 0 else cls(library, descriptor, rung, lost)

    def watched(self, paths: Collection[Path]) -> set[Path]:
        """Those of ``paths`` that are told of from now on: those whose folder is there."""
        for folder in {path.parent for path in paths}.difference(self._folders.values()):
            mask = ATTRIBUTES | MOVED_HERE | CREATED | MOVED_AWAY
            watch = self._library.inotify_add_watch(self._descriptor, os.fsencode(folder), mask)
            if watch >= 0:
                self._folders[watch] = folder
                for path in folder.iterdir():  # what was written before the watch stood
                    self._rung(path)
        there = set(self._folders.values())
        return {path for path in paths if path.parent in there}

    def _read(self) -> None:
        try:
            told = os.read(self._descriptor, 65_536)
        except BlockingIOError:
            return
        written: set[Path] = set()
        place = 0
        while place < len(told):
            watch, mask, _, length = HEAD.unpack_from(told, place)
            place += HEAD.size
            name = told[place : place + length].rstrip(b"\0")
            place += length
            if mask & (FORGOTTEN | MOVED_AWAY):  # another folder may come in its place
                if self._folders.pop(watch, None) is not None:
                    self._lost()
            elif watch in self._folders:
                written.add(self._folders[watch] / os.fsdecode(name))
        for path in written:
            self._rung(path)

    def close(self) -> None:
        """Tell of nothing any more."""
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)


_doorbells: "WeakKeyDictionary[asyncio.AbstractEventLoop, Doorbell]" = WeakKeyDictionary()


def doorbell() -> Doorbell:
    """The running loop's own."""
    return _doorbells.setdefault(asyncio.get_running_loop(), Doorbell())

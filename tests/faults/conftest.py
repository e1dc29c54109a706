"""Disks that are full, or cannot be written, when a test says so."""

import os
import resource
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import pytest

from tests.functions.river import River

SIZE = 24 * 2**20
PIECE = 64 * 1024


class Disk(Protocol):
    """A place with files, and what can go wrong with it."""

    path: Path

    def fill(self) -> None:
        """From now on nothing more fits in."""
        ...

    def free(self) -> None:
        """There is room again."""
        ...


class SmallDisk:
    """A file system of 24 MB in memory."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(path)], check=True, capture_output=True)

    def fill(self) -> None:
        with (self.path / "ballast").open("wb", buffering=0) as ballast:
            for size in (PIECE, 4_096, 1):
                try:
                    while ballast.write(bytes(size)) == size:
                        continue
                except OSError:
                    continue

    def free(self) -> None:
        (self.path / "ballast").unlink()

    def close(self) -> None:
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


class ShortFiles:
    """For who may not mount: files of this process that cannot grow, which SQLite and Parquet meet as they meet a full disk."""

    def __init__(self, path: Path):
        self.path = path
        path.mkdir()
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        self._handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def fill(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, self._before[1]))

    def free(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)

    def close(self) -> None:
        self.free()
        signal.signal(signal.SIGXFSZ, self._handler)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk that can be filled."""
    try:
        made: SmallDisk | ShortFiles = SmallDisk(tmp_path / "disk")
    except (OSError, subprocess.CalledProcessError):
        made = ShortFiles(tmp_path / "files")
    yield made
    made.close()


class Folder:
    """A folder that can be made read-only for all who open its files from then on."""

    def __init__(self, path: Path):
        self.path = path
        self._covered = False
        path.mkdir()

    def lock(self) -> None:
        if os.geteuid():
            self._allow(0o500)
        else:  # whom permissions do not stop: a read-only view of the folder is put over it
            self._mount("--bind", str(self.path))
            self._covered = True
            self._mount("-o", "remount,bind,ro")

    def unlock(self) -> None:
        if os.geteuid():
            self._allow(0o700)
        elif self._covered:
            self._covered = False
            subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def _mount(self, *how: str) -> None:
        done = subprocess.run(["mount", *how, str(self.path)], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"root is not stopped by permissions, and may not mount here: {done.stderr.strip()}")

    def _allow(self, mode: int) -> None:
        for folder in (self.path, *(each for each in self.path.rglob("*") if each.is_dir())):
            folder.chmod(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    """A folder that can be made read-only."""
    made = Folder(tmp_path / "folder")
    yield made
    made.unlock()


@pytest.fixture
def river(disk: Disk) -> River:
    """A first day on a disk that can be filled."""
    return River(disk.path / "home", "first_day")

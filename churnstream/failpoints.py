"""Named places at which a test may end the process, as a crash would: by SIGKILL, with nothing put in order first.

Where CHURNSTREAM_FAILPOINTS is unset, which is everywhere but in tests, ``reach`` compares one name with None. Set, it names a
folder. A file there called as a failpoint arms it for one hit: of the processes that reach it, the one that removes the file is
ended, after it has left a line in the folder's ``hits``. So whoever holds the folder chooses what is hit, when, and how often, in
processes that run already; and to disarm is to remove the file. A file ``<failpoint>@<function>`` waits for that function only.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from churnstream.errors import InvalidSetting

VARIABLE = "CHURNSTREAM_FAILPOINTS"
HITS = "hits"

NAMES = (
    "journal.before-write",  # nothing of the transaction is there
    "journal.after-write",  # its rows are written, its positions are not
    "journal.before-commit",  # all is written, nothing is committed
    "journal.after-commit",  # it is durable, and nobody knows
    "unit.between-shards",  # one shard's part of a unit is durable, another's is not
    "stream.before-acknowledge",  # the handler is done with a record, and whoever handed it over does not know
    "features.before-snapshot",  # events are in memory, their customers' states are not packed
    "features.after-snapshot",  # the states are packed, and not committed
    "features.in-restore",  # some of the stored states are back in memory
    "archive.before-write",  # a flush is noted, none of its files is there
    "archive.after-write",  # a file's bytes are written aside, and not forced to the disk
    "archive.before-rename",  # every file is whole, none has its name
    "archive.after-rename",  # every file has its name, the position has not moved
    "deploy.before-start",  # the supervisor has written down what to start, and started nothing
    "deploy.before-ready",  # a worker has run init_context, and the supervisor does not know
    "deploy.before-answer",  # the function works, and who deployed it does not know
)

_folder: str | None = os.environ.get(VARIABLE) or None


def reach(name: str) -> None:
    """End this process here when ``name`` is armed."""
    if _folder is not None:
        _end_if_armed(_folder, name, os.environ.get("CHURNSTREAM_FUNCTION", ""))


@dataclass(frozen=True, slots=True)
class Hit:
    """One process that was ended: at which failpoint, which function's it was (empty: the supervisor's), and when (epoch)."""

    name: str
    function: str
    pid: int
    at: float


def arm(folder: Path, name: str, function: str = "") -> None:
    """Let the next process that reaches ``name`` end there, of ``function`` only when given; raises InvalidSetting."""
    _armed(folder, name, function).touch()


def disarm(folder: Path, name: str, function: str = "") -> bool:
    """Take it back; False when it was hit, or not armed. Raises InvalidSetting."""
    return _removed(str(_armed(folder, name, function)))


def hits(folder: Path) -> list[Hit]:
    """Every hit so far, in order."""
    try:
        lines = (folder / HITS).read_text().splitlines()
    except FileNotFoundError:
        return []
    told = [line.split("\t") for line in lines]
    return [Hit(name, function, int(pid), float(at)) for name, function, pid, at in told]


def _armed(folder: Path, name: str, function: str) -> Path:
    if name not in NAMES:
        raise InvalidSetting(f"there is no failpoint {name!r}; there are {', '.join(NAMES)}")
    return folder / (f"{name}@{function}" if function else name)


def _removed(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _end_if_armed(folder: str, name: str, function: str) -> None:
    armed = (f"{folder}/{name}@{function}", f"{folder}/{name}") if function else (f"{folder}/{name}",)
    if not any(_removed(path) for path in armed):
        return
    line = f"{name}\t{function}\t{os.getpid()}\t{time.time():.6f}\n"
    handle = os.open(f"{folder}/{HITS}", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(handle, line.encode())
    os.kill(os.getpid(), signal.SIGKILL)

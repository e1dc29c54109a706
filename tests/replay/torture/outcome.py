"""What a river leaves behind, row by row, so that two of them can be compared: what one has lost, what it has twice."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
from numpy.typing import NDArray

from churnstream import topology
from churnstream.operations.ledger import Line
from churnstream.reading import HTTP, peek, totals
from churnstream.settings import Settings
from churnstream.wiring import open_table

Rows = NDArray[np.uint64]
PREDICTED = ["user_id", "event_time", "probability", "churns"]
REFUSED = ["reason", "source", "payload"]


@dataclass(frozen=True)
class Outcome:
    """Of everything that was made, a number for each row, in ascending order; the accounts; files that nobody finished."""

    rows: Mapping[str, Rows]
    accounts: tuple[str, ...]
    unaccounted: int
    unfinished: int

    @property
    def digests(self) -> dict[str, str]:
        """A digest of each kind of rows, and of the accounts."""
        found = {name: hashlib.sha256(rows.tobytes()).hexdigest()[:16] for name, rows in self.rows.items()}
        return found | {"accounts": hashlib.sha256("\n".join(self.accounts).encode()).hexdigest()[:16]}


def outcome(settings: Settings) -> Outcome:
    """What comes out, but for where a record ends and the next begins, which a paced producer decides, and for how often the door
    met again what it had: that is up to the clients."""
    lines = totals(settings)
    rows = {
        "features": _table_rows(settings),
        "archive": _archive_rows(settings),
        "predictions": _frame_rows(peek(topology.INFERENCE, 0, settings), PREDICTED),
        "dead letters": _frame_rows(peek(topology.DEAD_LETTERS, 0, settings), REFUSED),
    }
    return Outcome(rows, tuple(once(line).sentence() for line in lines), missing(lines), len([*settings.archive.rglob("*.part")]))


def once(line: Line) -> Line:
    """The account of a source as if nothing had come twice over HTTP."""
    return replace(line, given=line.given - line.duplicate, duplicate=0) if line.source == HTTP else line


def missing(lines: list[Line]) -> int:
    """Rows that a function lost, made up, or has not come to."""
    return sum(abs(line.unaccounted) + line.waiting for line in lines)


def beyond(some: Outcome, others: Outcome) -> dict[str, int]:
    """How many rows of each kind ``some`` has that ``others`` does not have, or does not have as often."""
    return {name: _beyond(rows, others.rows[name]) for name, rows in some.rows.items()}


def _beyond(some: Rows, others: Rows) -> int:
    values = np.union1d(some, others)
    had, has = (np.searchsorted(each, values, "right") - np.searchsorted(each, values, "left") for each in (others, some))
    return int(np.maximum(has - had, 0).sum())


def _table_rows(settings: Settings) -> Rows:
    numbers = [
        int.from_bytes(hashlib.blake2b(key.encode() + b"\0" + value, digest_size=8).digest(), "little")
        for key, value in open_table(topology.FEATURES, settings).items()
    ]
    return np.sort(np.array(numbers, np.uint64))


def _archive_rows(settings: Settings) -> Rows:
    table = ds.dataset(settings.archive, format="parquet", partitioning="hive").to_table().to_pandas()
    return _frame_rows(table, [name for name in table.columns if not name.startswith("origin_")])


def _frame_rows(frame: pd.DataFrame, columns: list[str]) -> Rows:
    if frame.empty:
        return np.zeros(0, np.uint64)
    return np.sort(pd.util.hash_pandas_object(frame[sorted(columns)], index=False).to_numpy())

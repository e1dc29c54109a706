"""What a function has met: keys of 16 bytes, each with a value, in a log of its journal that is read into memory.

What one transaction adds is one record at the end of the log, whatever the number of keys that are there already; what is too old
is removed at its beginning. A table would keep the keys in their own order, so that a batch would have to write nearly every
page of it. Many keys take 24 bytes and their value each in memory; who else writes the journal is read up with.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from churnstream.journal.reading import EPOCH, JournalReader
from churnstream.records import Delivered, Record

MICROSECOND = timedelta(microseconds=1)
KEY_BYTES = 16
FEW = 4_096  # keys that are added one by one; more are sorted into the others
PART = 16  # of the others: so many parts of them are few as well
RECORDS_AT_ONCE = 4_096
BYTES_AT_ONCE = 1_000_000
MOVED_AT_ONCE = 4_096  # keys from a table of an older version
Met = tuple[int, bytes]  # when, in microseconds since 1970, and the value


def pack(entries: Mapping[bytes, bytes]) -> Record:
    """A record of the log; the values must be of one length."""
    return Record(b"".join(chain.from_iterable(entries.items())), len(entries))


def unpack(record: Delivered) -> dict[bytes, bytes]:
    """The keys and values of a record of the log."""
    payload, width = record.payload, len(record.payload) // max(1, record.rows)
    return {
        payload[at : at + KEY_BYTES]: payload[at + KEY_BYTES : at + width] for at in range(0, len(payload), max(width, KEY_BYTES))
    }


class Memory:
    """One log of one journal as it was when it was last read; ``end`` is the offset up to which."""

    def __init__(self) -> None:
        self.end = 0
        self.old: list[bytes] = []  # keys in a table of this name, as versions before this one left them, the last ones first
        self._many = _Many()
        self._few: dict[bytes, Met] = {}
        self._read: datetime | None = None  # when it was last read

    def __len__(self) -> int:
        """How many keys are held, those among them that have become too old since."""
        return len(self._many.keys) + len(self._few)

    def read_up(self, journal: JournalReader, log: str, shard: int, now: datetime, since: datetime) -> None:
        """Take in what was added to ``log``; what was met at ``since`` or before is let go now and then.

        Keys without a time, which stand in a table, count as met ``now`` when they are first read.
        """
        if self._read is None:
            self.old = [bytes.fromhex(key) for key, _ in journal.items(log)][::-1]
            self._add(dict.fromkeys(self.old, (_us(now), b"")), _us(since))
        if self._read is None or self._read <= since:
            self.end = max(self.end, journal.begin(log))  # what was removed meanwhile was too old
        self._read = now
        while records := journal.read(log, shard, self.end, RECORDS_AT_ONCE, BYTES_AT_ONCE):
            timed = ((_us(each.appended_at), unpack(each)) for each in records)
            self._add({key: (at, value) for at, entries in timed for key, value in entries.items()}, _us(since))
            self.end = records[-1].offset + 1

    def of(self, keys: Iterable[bytes], since: datetime) -> dict[bytes, bytes]:
        """The values of those ``keys`` that were met after ``since``."""
        since_us, asked = _us(since), set(keys)
        met = {key: self._few[key] for key in self._few.keys() & asked}
        found = {key: value for key, (at, value) in met.items() if at > since_us}
        return found | self._many.of(list(asked - met.keys()), since_us)

    def _add(self, met: dict[bytes, Met], since_us: int) -> None:
        self._few |= met
        if len(self._few) > max(FEW, len(self._many.keys) // PART):
            self._many.add(self._few, since_us)
            self._few = {}


class _Many:
    """Keys in order, (n,), when each was met, (n,), and their values, (n, width)."""

    def __init__(self) -> None:
        self.keys: NDArray[np.bytes_] = np.zeros(0, f"S{KEY_BYTES}")
        self._times = np.zeros(0, np.int64)
        self._values: NDArray[np.uint8] = np.zeros((0, 0), np.uint8)

    def of(self, keys: list[bytes], since_us: int) -> dict[bytes, bytes]:
        if not keys or not len(self.keys):
            return {}
        asked = np.array(keys, self.keys.dtype)
        places = np.minimum(np.searchsorted(self.keys, asked), len(self.keys) - 1)
        there = (self.keys[places] == asked) & (self._times[places] > since_us)
        return {keys[which]: self._values[places[which]].tobytes() for which in there.nonzero()[0].tolist()}

    def add(self, met: Mapping[bytes, Met], since_us: int) -> None:
        """Sort in; what was met at ``since_us`` or before is let go."""
        keys = np.array(list(met), self.keys.dtype)
        times = np.fromiter((at for at, _ in met.values()), np.int64, len(met))
        width = len(next(iter(met.values()))[1])
        values = np.frombuffer(b"".join(value for _, value in met.values()), np.uint8).reshape(len(met), width)
        order = np.argsort(keys, kind="stable")
        keys, times, values = keys[order], times[order], values[order]
        stays = self._times > since_us
        if len(self.keys):
            again = np.searchsorted(keys, self.keys).clip(max=len(keys) - 1)
            stays &= keys[again] != self.keys  # met anew
        else:
            self._values = np.zeros((0, width), np.uint8)
        fresh = times > since_us
        kept = self.keys[stays]
        places = np.searchsorted(kept, keys[fresh])
        self.keys = np.insert(kept, places, keys[fresh])
        self._times = np.insert(self._times[stays], places, times[fresh])
        self._values = np.insert(self._values[stays], places, values[fresh], axis=0)


def _us(at: datetime) -> int:
    return (at - EPOCH) // MICROSECOND

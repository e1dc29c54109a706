"""What flows while processes are killed: first-day events, and among them what no function may lose either."""

from collections.abc import Callable, Iterator, Mapping
from datetime import timedelta
from typing import Any

from churnstream.codecs import NDJSON, encode_json
from churnstream.records import Record
from churnstream.streams.base import Unit
from churnstream.topology import GENERATED
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY
from churnstream.usecases.first_day import BET, simulate

ODD_EVERY = 500  # events, of which one more is odd
TOO_LATE = timedelta(days=2)
STRAYS = "strays"  # the key under which those come who are in no shard of their own
STRAY_EVERY = 40


def events(seed: int, customers: int, count: int) -> Iterator[Mapping[str, Any]]:
    """A first day's events, ``count`` beside the registrations, and one more of each 500 that must be refused or is late."""
    for place, event in enumerate(simulate(seed, customers, count), start=1):
        yield event
        if place % ODD_EVERY == 0:
            yield _odd(place // ODD_EVERY, event)


def size(customers: int, count: int) -> int:
    """How many events that makes."""
    return customers + count + (customers + count) // ODD_EVERY


def _odd(number: int, event: Mapping[str, Any]) -> Mapping[str, Any]:
    told = {KEY: event[KEY], EVENT_TIME: event[EVENT_TIME], EVENT_TYPE: BET}
    match number % 3:
        case 0:
            return told | {"bet_amount": "a lot"}
        case 1:
            return told | {"bet_amount": -float(number)}
        case _:
            return told | {EVENT_TIME: event[EVENT_TIME] - TOO_LATE, "bet_amount": float(number)}


class Strays:
    """Appends customers of every shard to one shard, as a producer does who knows of no keys: a unit at the door then has parts
    in several journals. Each is in that shard only, so that their order is theirs. Running it again adds nothing."""

    def __init__(self, begin: Callable[[], Unit], sequence: Callable[[str], int]):
        self._begin = begin
        self._done = sequence(STRAYS)
        self._next = 0
        self._waiting: list[Mapping[str, Any]] = []

    def add(self, event: Mapping[str, Any]) -> None:
        """Take one event."""
        self._next += 1
        if self._next > self._done + 1:
            self._waiting.append(event)

    def flush(self) -> None:
        """Send what there is, in one record."""
        if not self._waiting:
            return
        with self._begin() as unit:
            unit.append(GENERATED, Record(encode_json(self._waiting), len(self._waiting), STRAYS, {"content-type": NDJSON}))
            unit.produced(STRAYS, self._next - 1, STRAYS)
        self._waiting = []

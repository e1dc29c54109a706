"""Back-pressure: who writes a stream waits, or says so, while those who read it are too far behind."""

import time
from collections.abc import Callable, Mapping

from churnstream.errors import TooFarBehind

LOOK_S = 0.5  # between two looks at how far they are


class Pressure:
    """Looks, now and then, at how many rows of ``stream`` each of its readers has left to read; ``most`` is what it may be.

    ``unread()`` answers with the rows by reader.
    """

    def __init__(
        self,
        stream: str,
        unread: Callable[[], Mapping[str, int]],
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._stream, self._unread, self._most, self._clock = stream, unread, most, clock
        self._looked = float("-inf")
        self._sentence = ""

    def check(self) -> None:
        """Raise TooFarBehind while a reader has more than ``most`` rows left to read; looks at most once in LOOK_S."""
        if self._clock() - self._looked >= LOOK_S:
            self._sentence = self._look()
            self._looked = self._clock()
        if self._sentence:
            raise TooFarBehind(self._sentence)

    def wait(self, rest: Callable[[float], None] = time.sleep) -> None:
        """Return when no reader is too far behind."""
        while True:
            try:
                return self.check()
            except TooFarBehind:
                rest(LOOK_S)

    def _look(self) -> str:
        reader, rows = max(self._unread().items(), key=lambda each: each[1], default=("", 0))
        if rows <= self._most:
            return ""
        return f"{reader} has {rows:,} rows of {self._stream} left to read, {self._most:,} may wait; send this again later"

"""Room for the arrays of one batch, used for one batch after another: memory that the system has just given is slow to touch."""

import sys
from typing import Any

import numpy as np

from churnstream.graph.memory import Real, Words

MINE = 2  # references to an array that only its attribute and the call that counts them know


class Desk:
    """Hands out arrays of 8-byte numbers, not set to anything. They may be kept: room that somebody still looks at is left to
    them, and other room is taken."""

    def __init__(self) -> None:
        self._room: Words = np.empty(0, np.int64)
        self._taken = 0

    def clear(self, words: int) -> None:
        """Have room for arrays of so many numbers in all."""
        if len(self._room) < words or sys.getrefcount(self._room) > MINE:
            self._room = np.empty(words, np.int64)
        self._taken = 0

    def words(self, *shape: int) -> Words:
        """An array of int64."""
        return self._take(shape)

    def real(self, *shape: int) -> Real:
        """An array of double."""
        found: Real = self._take(shape).view(np.float64)
        return found

    def _take(self, shape: tuple[int, ...]) -> Any:
        begin, self._taken = self._taken, self._taken + int(np.prod(shape))
        return self._room[begin : self._taken].reshape(shape)

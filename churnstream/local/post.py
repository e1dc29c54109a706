"""Where a worker stands: what it is handed when it starts."""

import socket
from collections.abc import Sequence
from dataclasses import dataclass

HANDLES = 3  # descriptors that are handed over, in the order of the fields


@dataclass(frozen=True, slots=True)
class Post:
    """The ``listener`` that the function's workers share, a ``line`` to talk with the supervisor and one for signs of life.

    Without a supervisor the lines are None. ``number`` tells the workers of one function apart, from 0.
    """

    listener: socket.socket
    line: socket.socket | None = None
    pulse: socket.socket | None = None
    number: int = 0

    @classmethod
    def of(cls, handles: Sequence[int], number: int) -> "Post":
        """The post that ``handles`` describe."""
        listener, line, pulse = (socket.socket(fileno=handle) for handle in handles)
        return cls(listener, line, pulse, number)

"""How a worker's process ended."""

import signal
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Ending:
    """Whether the process ``was_ready`` ever, was ``killed`` by somebody else, or ended while what it ends of was ``searched``;
    ``why`` says so in a sentence."""

    was_ready: bool
    killed: bool
    searched: bool
    why: str


def how(code: int | None) -> str:
    """What completes "the process …" for its exit code, or minus the signal that ended it; None when nobody knows.

    >>> how(3), how(-11)
    ('ended with exit code 3', 'was ended by SIGSEGV')
    """
    if code is None:
        return "ended and left no exit code"
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

"""Looks at something again and again, away from whoever answers requests."""

import threading
from abc import ABC, abstractmethod

LOOK_S = 1.0


class Looking(ABC):
    """A thread that calls ``look`` every ``every_s`` seconds, and at once when it is woken; ``look`` raises nothing."""

    def __init__(self, name: str, every_s: float = LOOK_S):
        self._every = every_s
        self._stopping = False
        self._woken = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    @abstractmethod
    def look(self) -> bool:
        """Look once; True when something was changed."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def wake(self) -> None:
        """Look now, not when the time comes."""
        self._woken.set()

    def stop(self) -> None:
        """Look no longer; returns when a look that is under way is over."""
        self._stopping = True
        self._woken.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._woken.wait(self._every)
            self._woken.clear()
            if self._stopping:
                return
            self.look()

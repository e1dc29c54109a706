"""The file in which a function under test notes what happens to it."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

DEADLINE_S = 30.0


class Notes:
    """Lines that a function has written."""

    def __init__(self, path: Path):
        self.path = path

    def lines(self) -> list[str]:
        return self.path.read_text().splitlines() if self.path.exists() else []

    def wait_for(self, line: str) -> None:
        """Returns once the line is there; a test that waits too long fails."""
        wait_until(lambda: line in self.lines(), f"the note {line!r}")


def wait_until(question: Callable[[], Any], what: str) -> Any:
    """The first answer that is true."""
    deadline = time.monotonic() + DEADLINE_S
    while not (answer := question()):
        assert time.monotonic() < deadline, f"{what} did not come within {DEADLINE_S:g} s"
        time.sleep(0.005)
    return answer

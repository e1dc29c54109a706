"""The file in which a function under test notes what happens to it."""

from pathlib import Path

from tests.waiting import wait_until

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

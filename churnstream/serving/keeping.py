"""Holds back what shadows said over HTTP, for a moment, so that many rows share a commit."""

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

Row = Mapping[str, Any]
AT_ONCE = 500  # rows that are written together
MOST = 50_000  # rows that are held while nothing can be written
log = logging.getLogger("rollout")


class Shadows:
    """Rows wait until there are ``AT_ONCE`` of them, or the oldest has waited for ``age``; a killed worker loses those that wait.

    ``write(rows)`` makes them durable. ``later(seconds, deed)`` calls back in the thread that writes; without it only ``flush``
    writes what is not much. What cannot be written is held and tried again, the newest ``MOST`` rows of it: no request fails for
    a shadow.
    """

    def __init__(
        self,
        write: Callable[[Sequence[Row]], None],
        age: timedelta,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ):
        self._write, self._age, self._later = write, age.total_seconds(), later
        self._rows: list[Row] = []
        self._due = False  # a call back is on its way
        self._said = ""

    def __len__(self) -> int:
        return len(self._rows)

    def keep(self, rows: Sequence[Row]) -> None:
        """Take these in."""
        self._rows += rows
        del self._rows[:-MOST]
        if len(self._rows) >= AT_ONCE and not self._said:
            self._try()
        if self._rows:
            self._wait()

    def flush(self) -> None:
        """Write everything that waits; raises what ``write`` raises, and then it waits on."""
        if self._rows:
            self._write(self._rows)
            self._rows = []
        self._said = ""

    def _wait(self) -> None:
        if self._later is not None and not self._due:
            self._due = True
            self._later(self._age, self._when_due)

    def _when_due(self) -> None:
        self._due = False
        self._try()
        if self._rows:
            self._wait()

    def _try(self) -> None:
        try:
            self.flush()
        except Exception as cause:  # whatever it is, it is no reason to fail the request at hand
            if str(cause) != self._said:
                log.error("what shadows said is not written, and waits: %s", cause)
            self._said = str(cause)

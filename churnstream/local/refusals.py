"""Where a record goes that a function cannot apply: its dead letters, in the transaction that moves its position past it."""

from collections.abc import Sequence
from typing import Protocol

from churnstream import wiring
from churnstream.records import Delivered
from churnstream.settings import Settings
from churnstream.streams.delivery import LeftOut


class Refusals(Protocol):
    """The dead letters of one function, as its platform writes them."""

    tries: int
    """How often a record may fail before it is looked into."""
    redriven: str
    """The stream of what is handed back to the function; empty when there is none."""

    def refuse(self, record: Delivered, letters: Sequence[LeftOut]) -> None:
        """Pass ``record``: all its rows are invalid, as ``letters`` say. Raises StorageFailed or LeaseLost."""
        ...


class WiredRefusals:
    """Dead letters where the settings say."""

    def __init__(self, function: str, settings: Settings):
        self._function, self._settings = function, settings
        self.tries = settings.tries
        self.redriven = wiring.redriven_stream(function)

    def refuse(self, record: Delivered, letters: Sequence[LeftOut]) -> None:
        """Pass ``record``: all its rows are invalid, as ``letters`` say. Raises StorageFailed or LeaseLost."""
        with wiring.open_unit(self._function, self._settings, record) as unit:
            for each in letters:
                unit.refuse(each.reason, each.payload, each.row, each.original)
            unit.count("invalid", record.rows)

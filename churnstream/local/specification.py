"""A deployed function as its home keeps it, so that it comes back after a restart."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churnstream.errors import InvalidFunction
from churnstream.local.home import Home, write_private
from churnstream.local.triggers import read_triggers, workers
from churnstream.topology import SHARDS

MOST_WORKERS = 64  # of a function that reads no stream


@dataclass(frozen=True, slots=True)
class Specification:
    """``function`` is MLRun's dictionary, ``folder`` where it was deployed from, ``port`` its own on 127.0.0.1.

    ``scaled`` is the number of workers that was chosen while it ran; 0 when the function itself says it.
    """

    project: str
    name: str
    function: dict[str, Any]
    folder: str = ""
    port: int = 0
    deployed_at: str = ""
    scaled: int = 0

    @classmethod
    def load(cls, path: Path) -> "Specification":
        """Read one; raises InvalidFunction when the file is no specification."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError) as cause:
            raise InvalidFunction(f"{path} cannot be read as a deployed function ({cause}); deploy it again") from cause

    def save(self, home: Home) -> None:
        """Keep it in ``home``, readable by its owner only, since environments may hold secrets."""
        write_private(home.spec(self.project, self.name), json.dumps(asdict(self), default=str))

    def at(self, port: int) -> "Specification":
        """The same, answering on ``port``."""
        return replace(self, port=port)

    def at_scale(self, workers: int) -> "Specification":
        """The same, with so many workers; raises InvalidFunction for a number that makes no sense."""
        if not 1 <= workers <= self.most_workers:
            why = ", as many as its streams have shards: another would have nothing to read" if self.reads_streams else ""
            raise InvalidFunction(f"{self.name} takes 1 to {self.most_workers} workers{why}; {workers} is not among them")
        return replace(self, scaled=workers)

    @property
    def reads_streams(self) -> bool:
        """True for a function that is fed by streams; raises InvalidFunction."""
        return bool(read_triggers(self.function).streams)

    @property
    def most_workers(self) -> int:
        """One a shard for who reads streams; raises InvalidFunction."""
        return SHARDS if self.reads_streams else MOST_WORKERS

    @property
    def workers(self) -> int:
        """How many processes serve it, no more than make sense; raises InvalidFunction."""
        return min(self.scaled or workers(self.function), self.most_workers)

    def stamped(self) -> "Specification":
        """The same, deployed now."""
        return replace(self, deployed_at=datetime.now(UTC).isoformat())

    @property
    def environment(self) -> dict[str, str]:
        """The function's own environment; references to a cluster's secrets are left out."""
        given = self.function["spec"].get("env") or []
        return {each["name"]: str(each["value"]) for each in given if each.get("value") is not None}

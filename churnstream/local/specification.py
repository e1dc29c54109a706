"""A deployed function as its home keeps it, so that it comes back after a restart."""

import json
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from churnstream.errors import InvalidFunction
from churnstream.local.home import Home, write_private


@dataclass(frozen=True, slots=True)
class Specification:
    """``function`` is MLRun's dictionary, ``folder`` where it was deployed from, ``port`` its own on 127.0.0.1."""

    project: str
    name: str
    function: dict[str, Any]
    folder: str = ""
    port: int = 0
    deployed_at: str = ""

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

    def stamped(self) -> "Specification":
        """The same, deployed now."""
        return replace(self, deployed_at=datetime.now(UTC).isoformat())

    @property
    def environment(self) -> dict[str, str]:
        """The function's own environment; references to a cluster's secrets are left out."""
        given = self.function["spec"].get("env") or []
        return {each["name"]: str(each["value"]) for each in given if each.get("value") is not None}

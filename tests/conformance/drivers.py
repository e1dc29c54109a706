"""Who may run a function: our worker, Nuclio's Python wrapper, Nuclio's processor."""

import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.conformance.messages import Reply, Request
from tests.conformance.notes import Notes

ROOT = Path(__file__).parents[2]
FUNCTIONS = Path(__file__).parent / "functions"
WRAPPER = "CHURNSTREAM_NUCLIO_WRAPPER"
PROCESSOR = "CHURNSTREAM_NUCLIO_PROCESSOR"
WRAPPER_FILE = "_nuclio_wrapper.py"
BODY_LIMIT = 5 * 2**20  # bytes, of one request; the same for all
STREAM = "generated-stream"
SHARDS = 8


class DidNotStart(Exception):
    """The function did not begin; the text is what its platform said."""


class Running(ABC):
    """One function at work under one driver."""

    notes: Notes

    @abstractmethod
    def ask(self, request: Request) -> Reply:
        """Call it over HTTP."""

    @abstractmethod
    def stop(self) -> None:
        """End it as its platform does; returns when it has ended. A second time nothing happens."""


class Reading(Running):
    """One that reads a stream too."""

    @abstractmethod
    def append(self, shard: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        """Put a record into the stream; the function has been called with it, soon if not now."""

    @abstractmethod
    def drain(self) -> None:
        """Make it flush, as before a rebalance; returns when it has."""

    @abstractmethod
    def acknowledged(self) -> Mapping[int, int]:
        """Shard -> the offset behind the last record that was acknowledged, where any was."""


def own_environment(folder: Path, notes: Path) -> dict[str, str]:
    """What a function under Nuclio is told: where it lies, where it may note things, and a home of its own."""
    return {
        "PYTHONPATH": f"{folder}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "NOTES": str(notes),
        "CHURNSTREAM_HOME": f"{notes}.home",
        "CHURNSTREAM_PROJECT": "conformance",
    }


def wrapper_folder() -> Path:
    """The folder of Nuclio's Python wrapper; without it the test skips."""
    folder = Path(_given(WRAPPER, f"the folder of Nuclio's {WRAPPER_FILE}"))
    assert (folder / WRAPPER_FILE).is_file(), f"{WRAPPER}={folder} holds no {WRAPPER_FILE}"
    return folder


def processor_path() -> Path:
    """Nuclio's processor; without it the test skips."""
    path = Path(_given(PROCESSOR, "the path of Nuclio's processor"))
    assert os.access(path, os.X_OK), f"{PROCESSOR}={path} is no program"
    return path


def _given(name: str, what: str) -> str:
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is unset: {what}; copy it out of Nuclio's processor image")
    return value

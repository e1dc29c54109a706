import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from churnstream.settings import Settings
from churnstream.wiring import Parts, open_parts


def address(adapter: str, folder: Path) -> str:
    """Where an adapter keeps its streams and tables in a test; one that needs a cluster is told where that is, or skips."""
    if adapter == "embedded":
        return f"embedded://{folder}"
    name = f"CHURNSTREAM_TEST_{adapter.upper()}"
    if name not in os.environ:
        pytest.skip(f"{name} is unset: it names the {adapter} to test with, such as {adapter}://host:port")
    return os.environ[name]


@pytest.fixture(params=["embedded"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    """Settings on fresh streams and tables of each adapter."""
    here = address(request.param, tmp_path)
    return Settings("churnstream", "first_day", streams=here, tables=here, archive=tmp_path / "parquet")


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def move(self, span: timedelta) -> None:
        self.at += span


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def function(settings: Settings, clock: Clock) -> Iterator[Callable[[str], Parts]]:
    """``function(name)`` are the parts of that function, opened once more each time."""
    opened: list[Parts] = []

    def parts(name: str) -> Parts:
        opened.append(open_parts(name, settings, clock))
        return opened[-1]

    yield parts
    for each in opened:
        each.close()

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from churnstream.local import Home
from tests.notebooks.river import Executed
from tests.waiting import platform

Opened = tuple[Executed, Home]


@pytest.fixture(scope="session")
def open_river(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """``with open_river(case=…) as (executed, home)``: the notebooks on a home of their own, which is stopped at the end."""

    @contextmanager
    def opened(**given: Any) -> Iterator[Opened]:
        with platform(tmp_path_factory.mktemp("river"), up=False) as client:
            yield Executed(client.home.root, tmp_path_factory.mktemp("executed"), **given), client.home

    return opened


@pytest.fixture(scope="session")
def first_day(open_river: Callable[..., Any]) -> Iterator[Opened]:
    """A small first day; the customers are enough for a model, and no more."""
    with open_river(case="first_day", customers=400, events=8_000, seed=1) as river:
        yield river


@pytest.fixture(scope="session")
def executed(first_day: Opened) -> Executed:
    return first_day[0]


@pytest.fixture(scope="session")
def home(first_day: Opened) -> Path:
    return first_day[1].root

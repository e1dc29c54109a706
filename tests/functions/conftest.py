from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functions.river import River


@pytest.fixture
def river(tmp_path: Path) -> River:
    """A first day of its own."""
    return River(tmp_path / "home", "first_day")


@pytest.fixture
def new_river(tmp_path: Path) -> Callable[..., River]:
    """``new_river(case, **environment)`` is one more river, on a home of its own."""
    made: list[River] = []

    def make(case: str = "first_day", **environment: str) -> River:
        made.append(River(tmp_path / f"home{len(made)}", case, **environment))
        return made[-1]

    return make

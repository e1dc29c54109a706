from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from churnstream.local import Home
from tests import waiting
from tests.deployable import deployable


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], Any]], Any]:
    """``wait_until(question)`` is the first answer that is true; a test that waits too long fails."""
    return waiting.wait_until


@pytest.fixture(scope="session")
def function() -> Callable[..., dict[str, Any]]:
    """``function(code, name=…, triggers=…, env=…)`` is what MLRun hands to a deployer for a function with that code."""

    return deployable


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home in which nothing is left running."""
    with waiting.platform(tmp_path / ".churnstream", up=False) as client:
        yield client.home

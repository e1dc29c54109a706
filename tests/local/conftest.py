import base64
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from churnstream.local import Home, SupervisorClient
from tests import waiting


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], Any]], Any]:
    """``wait_until(question)`` is the first answer that is true; a test that waits too long fails."""
    return waiting.wait_until


@pytest.fixture(scope="session")
def function() -> Callable[..., dict[str, Any]]:
    """``function(code, name=…, triggers=…, env=…)`` is what MLRun hands to a deployer for a function with that code."""

    def make(code: str, name: str = "alpha", kind: str = "remote", triggers: Any = None, env: Any = None) -> dict[str, Any]:
        return {
            "kind": kind,
            "metadata": {"name": name, "project": "shop", "tag": "latest"},
            "spec": {
                "function_handler": f"{name}-nuclio:handler",
                "build": {"functionSourceCode": base64.b64encode(code.encode()).decode()},
                "config": {f"spec.triggers.{key}": given for key, given in (triggers or {}).items()},
                "env": [{"name": key, "value": given} for key, given in (env or {}).items()],
            },
        }

    return make


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisorClient]:
    """A platform of this module's own."""
    with waiting.platform(tmp_path_factory.mktemp("platform")) as client:
        yield client


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home in which nothing is left running."""
    home = Home(tmp_path / ".churnstream")
    yield home
    SupervisorClient(home).down(timedelta(0))

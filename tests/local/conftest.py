import base64
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from churnstream.local import Home, SupervisorClient

DEADLINE_S = 30.0


@pytest.fixture(scope="session")
def wait_until() -> Callable[[Callable[[], Any]], Any]:
    """``wait_until(question)`` is the first answer that is true; a test that waits too long fails."""

    def wait(question: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + DEADLINE_S
        while not (answer := question()):
            assert time.monotonic() < deadline, "this never became true"
            time.sleep(0.01)
        return answer

    return wait


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
    client = SupervisorClient(Home(tmp_path_factory.mktemp("platform")))
    client.up()
    yield client
    client.down(timedelta(0))


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    """A home in which nothing is left running."""
    home = Home(tmp_path / ".churnstream")
    yield home
    SupervisorClient(home).down(timedelta(0))

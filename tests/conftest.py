import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from churnstream.local import SupervisorClient
from tests import waiting
from tests.conformance.differences import DRIVERS

ROOT = Path(__file__).resolve().parents[1]
# What a developer says about the tests themselves, and no function sees.
KEPT = ("CHURNSTREAM_DATA", "CHURNSTREAM_NUCLIO_WRAPPER", "CHURNSTREAM_NUCLIO_PROCESSOR", "CHURNSTREAM_TRITONCLIENT")

# The same examples in every run: a test that fails does so for everyone.
hypothesis.settings.register_profile("churnstream", deadline=None, derandomize=True, database=None)
hypothesis.settings.load_profile("churnstream")


@pytest.fixture(scope="session", autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home of the test run's own, so that no test meets the developer's platform, cluster or settings."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("CHURNSTREAM_", "MLRUN_", "V3IO_")) and name not in KEPT:
                patch.delenv(name)
        patch.setenv("CHURNSTREAM_HOME", str(home))
        yield home


@pytest.fixture(scope="session")
def root() -> Path:
    """The project's folder."""
    return ROOT


@pytest.fixture(scope="session")
def real_data() -> Callable[[str], Path]:
    """``real_data("dodge_mud_plays.parquet")`` is the path of that file; a test skips where it is absent."""

    def find(name: str) -> Path:
        folder = Path(os.environ.get("CHURNSTREAM_DATA") or ROOT / "data")
        path = folder / name
        if not path.is_file():
            pytest.skip(f"{name} is not in CHURNSTREAM_DATA, nor in data/")
        return path

    return find


@pytest.fixture(scope="session")
def shared_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisorClient]:
    """A local platform of this process's own: to start one takes seconds."""
    with waiting.platform(tmp_path_factory.mktemp("platform")) as client:
        yield client


@pytest.fixture(scope="module")
def platform(shared_platform: SupervisorClient) -> Iterator[SupervisorClient]:
    """A local platform on which no function is deployed; what is in the streams of a project, other modules may find there."""
    shared_platform.up()
    yield shared_platform
    shared_platform.up()
    for each in shared_platform.status()["functions"]:
        shared_platform.delete(each["project"], each["name"])


@pytest.fixture(autouse=True)
def event_loop() -> Iterator[None]:
    """MLRun takes the thread's event loop where it tells news, and would make one and leave it open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """How many cases of conformance each driver answered as ours does; who only gathers reports reads no conftest but this."""
    equal: Counter[str] = Counter()
    different: Counter[str] = Counter()
    for report in terminalreporter.stats.get("passed", ()):
        told = dict(report.user_properties)
        if "driver" in told:
            (different if "difference" in told else equal)[told["driver"]] += 1
    for driver in DRIVERS:
        if equal[driver] or different[driver]:
            beside = f", {different[driver]} different as docs/nuclio.md says" if different[driver] else ""
            terminalreporter.write_line(f"conformance: {driver} {equal[driver]} cases equal{beside}")

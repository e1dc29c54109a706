"""The same function files under every driver."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.differences import DIFFERENCES, DRIVERS, OURS, PROCESSOR, WRAPPER, Difference, Driver
from tests.conformance.drivers import Running, processor_path, wrapper_folder
from tests.conformance.processor import NuclioProcessor
from tests.conformance.worker import OurWorker

Start = Callable[..., Any]


@pytest.fixture(scope="module")
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """``start(driver, file, …)`` is the function at work; started once a module, unless ``afresh``."""
    numbers = itertools.count()
    kept: dict[Any, Running] = {}
    everyone: list[Running] = []
    with tempfile.TemporaryDirectory(prefix="c") as short:  # the path of a socket must not be long

        def begin(driver: Driver, file: str, afresh: bool = False, **how: Any) -> Running:
            asked = (driver, file, repr(sorted(how.items())))
            if not afresh and asked in kept:
                return kept[asked]
            number = next(numbers)
            folder, notes = Path(short) / str(number), Path(short) / f"{number}.notes"
            if driver == OURS:
                project = f"{request.module.__name__.rpartition('_')[2]}-{number}"
                function: Running = OurWorker(request.getfixturevalue("platform"), notes, project, file, **how)
            elif driver == WRAPPER:
                pytest.importorskip("msgpack")
                from tests.conformance.wrapper import NuclioWrapper

                function = NuclioWrapper(wrapper_folder(), notes, folder, file, **how)
            else:
                function = NuclioProcessor(processor_path(), wrapper_folder(), notes, folder, file, **how)
            everyone.append(function)
            if not afresh:
                kept[asked] = function
            return function

        yield begin
        for function in everyone:
            function.stop()


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Driver:
    """Each of the three."""
    record_property("driver", request.param)
    return request.param


@pytest.fixture(params=(OURS, WRAPPER))
def reader(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Driver:
    """Those that can be given records of a stream without a broker."""
    record_property("driver", request.param)
    return request.param


@pytest.fixture(params=(OURS, PROCESSOR))
def server(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Driver:
    """Those that speak HTTP themselves."""
    record_property("driver", request.param)
    return request.param


@pytest.fixture
def differs(record_property: Callable[[str, object], None]) -> Callable[[Difference], None]:
    """``differs("traceback")`` says that this case compares with something else than what our worker does, and why."""

    def note(name: Difference) -> None:
        assert name in DIFFERENCES
        record_property("difference", name)

    return note

"""While clients ask without a pause, champions come and go: no request fails, and none is answered by a mixture of the two."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import psutil
import pytest

from churnstream.models.describing import holdout_digest
from churnstream.models.manifest import MODEL_FILE, digest
from churnstream.models.promotion import promote, roll_back
from churnstream.models.registry import Registry
from churnstream.usecases import first_day
from churnstream.wiring import model_keys, open_registry
from tests.functions.river import River, in_root
from tests.functions.signing import change_manifest
from tests.serving import small_models
from tests.serving.deployed import Deployed, Line, deployed, line
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

SHIPPED = in_root("assets/model/first_day")
CLIENTS, WORKERS, SWITCHES = 4, 2, 12
SOON_S = 15.0  # for every worker to follow; they look once a second
ROWS = small_models.vectors(40, seed=6)
ASKED = [[None if value != value else value for value in row] for row in ROWS.tolist()]


@dataclass(frozen=True)
class Models:
    """Two models of one registry, by version: what LightGBM itself says of each of ROWS."""

    registry: Registry
    first: str
    second: str
    expected: dict[str, list[float]]


@pytest.fixture(scope="module")
def river(tmp_path_factory: pytest.TempPathFactory) -> River:
    return River(tmp_path_factory.mktemp("switch") / "home", "first_day")


@pytest.fixture(scope="module")
def models(river: River) -> Models:
    """The first is the champion."""
    other = Path(shutil.copytree(SHIPPED, river.home.with_name("other")))
    text = small_models.text(2)
    (other / MODEL_FILE).write_text(text)
    holdout = pd.DataFrame({"label": [0, 1], "user_id": ["a", "b"], "anchor": pd.to_datetime(["2026-01-01"] * 2, utc=True)})
    change_manifest(river, other, model_sha256=digest(text), version=digest(text)[:12], holdout_digest=holdout_digest(holdout))
    with river.environment():
        registry = open_registry(river.settings)
    first, second = registry.add(SHIPPED, holdout), registry.add(other, holdout)
    promote(registry, first, first_day.FEATURES, model_keys(river.settings), datetime.now(UTC))
    files = {first: SHIPPED / MODEL_FILE, second: other / MODEL_FILE}
    said = {version: lgb.Booster(model_file=str(file)).predict(ROWS, num_threads=1).tolist() for version, file in files.items()}
    assert not set(said[first]) & set(said[second])
    return Models(registry, first, second, said)


@pytest.fixture(scope="module")
def served(river: River, models: Models) -> Iterator[Deployed]:
    with deployed(river, "champion", WORKERS) as found:
        assert len(found.workers()) == WORKERS
        yield found


@dataclass
class Load:
    """What a client has seen: how many answers, by whom in order without repetitions, and what was wrong."""

    answers: int = 0
    versions: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def take(self, told: Any, places: slice, expected: dict[str, list[float]]) -> None:
        """One answer to a question about these of ROWS."""
        self.answers += 1
        if told.status != 200:
            self.wrong.append(f"{told.status} {told.raw[:200]!r}")
            return
        version, outputs = told.body["model_version"], told.body["outputs"]
        if version not in expected or np.array(outputs).tobytes() != np.array(expected[version][places]).tobytes():
            self.wrong.append(f"{version} said {outputs}")
        if self.versions[-1:] != [version]:
            self.versions.append(version)


@contextmanager
def under_load(served: Deployed, models: Models) -> Iterator[list[Load]]:
    """Clients that ask all the time, each on a connection of its own, one row or all of them."""
    stop = threading.Event()
    seen = [Load() for _ in range(CLIENTS)]

    def ask(load: Load) -> None:
        asking = Line(served.address, served.token)
        try:
            while not stop.is_set():
                one = load.answers % (len(ROWS) + 1)
                places = slice(one, one + 1) if one < len(ROWS) else slice(0, len(ROWS))
                load.take(asking.ask({"inputs": ASKED[places]}), places, models.expected)
        except Exception as cause:  # whatever it is, it is a failed request
            load.wrong.append(f"{type(cause).__name__}: {cause}")
        finally:
            asking.close()

    clients = [threading.Thread(target=ask, args=(load,), daemon=True) for load in seen]
    for each in clients:
        each.start()
    try:
        wait_until(lambda: all(each.answers > 10 for each in seen), "the load")
        yield seen
        before = [each.answers for each in seen]
        wait_until(
            lambda: all(each.wrong or each.answers > 10 + past for each, past in zip(seen, before, strict=True)), "more load"
        )
    finally:
        stop.set()
        for each in clients:
            each.join(60)


def line_to(worker: int, served: Deployed, stack: ExitStack) -> Line:
    """A connection that this process answers: workers share an address, and the fastest takes who comes."""

    def found() -> Line | None:
        asking = stack.enter_context(line(served))
        asking.ask(b"", "/v2", method="GET")
        mine = {each.raddr.port for each in psutil.Process(worker).net_connections("tcp") if each.raddr}
        return asking if asking.port in mine else None

    return wait_until(found, f"a connection to {worker}")


def champions(served: Deployed, models: Models) -> Iterator[Callable[[], str]]:
    """What makes the other model the champion, again and again, and says which: the command line, then what is behind it."""
    keys, registry = model_keys(served.river.settings), models.registry

    def command(*words: str) -> None:
        environment = os.environ | {"CHURNSTREAM_HOME": str(served.river.home), "CHURNSTREAM_CASE": "first_day"}
        command = [str(Path(sys.executable).with_name("churnstream")), "models", *words]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def forth() -> str:
        promote(registry, models.second, first_day.FEATURES, keys, datetime.now(UTC), force="a test")
        return models.second

    def back() -> str:
        return roll_back(registry, first_day.FEATURES, keys, datetime.now(UTC), "a test").version

    yield lambda: command("promote", models.second[:8], "--force", "--reason", "a test") or models.second
    yield lambda: command("rollback", "--reason", "a test") or models.first
    for number in range(SWITCHES - 2):
        yield back if number % 2 else forth


def test_champions_come_and_go_and_no_request_fails(served: Deployed, models: Models) -> None:
    processes = served.workers()
    with ExitStack() as stack, under_load(served, models) as seen:
        lines = [line_to(worker, served, stack) for worker in sorted(processes)]
        for switch in champions(served, models):
            version = switch()
            for each in lines:
                wait_until(partial(is_answered_by, version, each), f"{version} from every worker", SOON_S)
            assert all(is_answered_by(version, each) for each in lines)  # and nobody goes back
    assert [each.wrong for each in seen] == [[]] * CLIENTS
    for each in seen:  # a switch is seen once
        assert each.versions == [models.first, *[models.second, models.first] * (SWITCHES // 2)]
    assert served.workers() == processes
    assert [each.version for each in models.registry.history()][-2:] == [models.second, models.first]


def is_answered_by(version: str, asking: Line) -> bool:
    told = asking.ask({"inputs": ASKED[:1]})
    assert told.status == 200
    return bool(told.body["model_version"] == version)

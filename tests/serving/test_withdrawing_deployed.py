"""Real workers: a canary that one of them rolls back is out in both, and out after a kill, a restart and another deployment."""

import os
import shutil
import signal
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from churnstream.cli import app
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, digest, read_manifest
from churnstream.wiring import open_withdrawals
from tests.functions.river import River, in_root
from tests.functions.signing import change_manifest
from tests.serving.deployed import Deployed, deployed, line
from tests.serving.small_models import NAMES, vectors
from tests.serving.test_rollout import place_of
from tests.waiting import standing_still, wait_until

pytestmark = pytest.mark.slow

SHARE = 0.5
MODEL = in_root("assets/model/first_day")
CHAMPION = read_manifest(MODEL / MANIFEST_FILE).version
FEATURES = dict(zip(NAMES, np.nan_to_num(vectors(1)[0]).tolist(), strict=True))
PEOPLE = [name for name in (f"customer {number}" for number in range(1_000)) if place_of(name) < SHARE]  # the canary's
OTHERS = [name for name in (f"customer {number}" for number in range(1_000)) if place_of(name) >= SHARE]


def slow_text() -> str:
    """A model of so many trees that it takes many times as long as the champion."""
    matrix = vectors(500, 3)
    label = np.random.default_rng(3).integers(0, 2, 500)
    parameters = {"objective": "binary", "num_leaves": 15, "min_data_in_leaf": 5, "verbosity": -1, "num_threads": 1, "seed": 3}
    return str(lgb.train(parameters, lgb.Dataset(matrix, label, feature_name=list(NAMES)), 3_000).model_to_string())


def answered_by(served: Deployed, user: str) -> str:
    """The version of the model that answers this customer, on a connection of its own."""
    with line(served) as asking:
        told = asking.ask({"inputs": [{"user_id": user, **FEATURES}]})
    assert told.status == 200, told.raw
    return str(told.body["model_version"])


def told_by_workers(served: Deployed) -> tuple[set[str], dict[str, str]]:
    """How many rollbacks Prometheus is told of, and for each worker whether the canary answers nobody."""
    with line(served) as asking:
        page = asking.ask(b"", "/-/metrics", method="GET").raw.decode()
    found = {
        (sample.name, sample.labels.get("worker", "")): f"{sample.value:g}"
        for family in text_string_to_metric_families(page)
        for sample in family.samples
    }
    withdrawn = {worker: value for (name, worker), value in found.items() if name == "churnstream_candidate_withdrawn"}
    return {value for (name, _), value in found.items() if name == "churnstream_rollbacks_total"}, withdrawn


def is_ready(served: Deployed, before: set[int]) -> bool:
    told = served.client.find("serving")
    return told["state"] == "ready" and len(served.workers()) == 2 and served.workers().isdisjoint(before)


def test_a_canary_that_one_worker_rolls_back_is_out_in_both_and_stays_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    river = River(tmp_path / "home", "first_day")
    monkeypatch.setenv("CHURNSTREAM_HOME", str(river.home))
    slow = Path(shutil.copytree(MODEL, tmp_path / "slow"))
    (slow / MODEL_FILE).write_text(text := slow_text())
    version = digest(text)[:12]
    change_manifest(river, slow, model_sha256=digest(text), version=version)
    candidate = {"role": "canary", "model_path": str(slow), "share": SHARE}
    withdrawals = open_withdrawals(river.settings)

    with deployed(river, MODEL, workers=2) as served:

        def deploy() -> None:
            before = served.workers()
            served.function.add_model("churn", class_name="ChurnModel", model_path=str(MODEL), candidates=[candidate])
            served.function.deploy()
            wait_until(lambda: is_ready(served, before), "the deployment")

        deploy()
        one, other = sorted(served.workers())
        with standing_still(one):
            assert answered_by(served, PEOPLE[0]) == version
            with line(served) as asking:
                for customer, somebody in zip(PEOPLE[:200], OTHERS, strict=False):
                    for user in (somebody, customer):
                        assert asking.ask({"inputs": [{"user_id": user, **FEATURES}]}).status == 200
            wait_until(withdrawals.all, "the withdrawal", seconds=5)
        with standing_still(other):  # which found out; this one has not seen a request of the canary
            wait_until(lambda: answered_by(served, PEOPLE[1]) == CHAMPION, "the rollback in the other worker", seconds=5)
            with line(served) as asking:
                told = asking.ask(b"", "/v2/models/churn/rollout", method="GET").body["arms"][1]
            assert (told["version"], told["rows"]) == (version, told["rows"])
            assert told["rolled_back"] == withdrawals.all()[version].reason
            assert told["rolled_back"].startswith("it takes more than 1.5 times as long as the champion")

        wait_until(lambda: told_by_workers(served) == ({"1"}, {"0": "1", "1": "1"}), "the metrics of both")

        before = served.workers()
        for process in before:
            os.kill(process, signal.SIGKILL)
        wait_until(lambda: is_ready(served, before), "the restart")
        assert {answered_by(served, user) for user in PEOPLE[:20]} == {CHAMPION}
        deploy()
        assert {answered_by(served, user) for user in PEOPLE[:20]} == {CHAMPION}

        done = CliRunner().invoke(app, ["models", "readmit", version[:6], "--reason", "we want to see it once more"])
        assert done.exit_code == 0, done.output
        wait_until(lambda: answered_by(served, PEOPLE[2]) == version, "its return", seconds=5)
    assert [each.deed for each in withdrawals.history()] == ["withdrawn", "readmitted"]

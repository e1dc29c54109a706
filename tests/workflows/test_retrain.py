"""The workflow `retrain`, run by MLRun's engine `local` over our run database: its steps are runs, and the gate decides."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlrun
import pyarrow.parquet as pq
import pytest

from churnstream.local import Home
from churnstream.local.reset import reset
from churnstream.local.rundb import activate, configure_mlrun
from churnstream.models.registry import Registry
from churnstream.topology import INCOMING
from churnstream.wiring import open_registry
from tests.functions.river import River


@pytest.fixture(scope="module")
def river(tmp_path_factory: pytest.TempPathFactory) -> River:
    """400 simulated customers in the archive."""
    river = River(tmp_path_factory.mktemp("retrain"), "first_day")
    river.archive(customers=400, events=8_000)
    return river


@pytest.fixture
def project(river: River, root: Path) -> Iterator[Any]:
    """The project as its files make it, in a run database of the river's own."""
    told = ("dbpath", "artifact_path", "active_project", "log_level")
    before = SimpleNamespace(**{name: getattr(mlrun.mlconf, name) for name in told})
    with river.environment():
        activate(river.home / "run.db")
        configure_mlrun(river.home / "artifacts")
        project = mlrun.load_project(str(root), name="churnstream", parameters={"case": "first_day"}, save=False)
        project.save_to_db()
        yield project
    for name in told:
        setattr(mlrun.mlconf, name, getattr(before, name))
    mlrun.utils.logger.set_logger_level(before.log_level)


@pytest.fixture
def registry(river: River) -> Registry:
    return open_registry(river.settings)


def steps(project: Any, status: Any) -> dict[str, dict[str, Any]]:
    """The results of the workflow's runs, by name."""
    runs = project.list_runs(labels=f"workflow={status.run_id}").to_objects()
    return {run.metadata.name: run.status.results for run in runs}


def test_a_challenger_is_trained_and_becomes_the_first_champion_and_one_no_better_does_not(
    project: Any, registry: Registry
) -> None:
    first = steps(project, project.run("retrain", engine="local"))
    champion = registry.champion()
    assert champion is not None
    assert first["retrain-fit"]["version"] == champion.version == registry.versions()[0].version
    assert first["retrain-fit"]["auc"] == registry.versions()[0].metrics["auc"]
    assert first["retrain-challenge"]["promoted"] is True
    assert first["retrain-challenge"]["verdict"] == f"{champion.version} is the first champion: there was none to beat"

    status = project.run("retrain", arguments={"seed": 2}, engine="local")
    assert status.state == "Succeeded"  # to lose is an outcome
    second = steps(project, status)
    loser = second["retrain-fit"]["version"]
    assert loser != champion.version
    assert (second["retrain-challenge"]["promoted"], second["retrain-challenge"]["champion"]) == (False, champion.version)
    assert second["retrain-challenge"]["verdict"].startswith(f"{loser} does not replace {champion.version}: it is not better")
    assert len(registry.history()) == 1
    assert registry.resolve(loser) == loser  # it stays in the registry


def test_it_trains_without_a_promotion_when_told_so(project: Any, registry: Registry) -> None:
    before = registry.history()
    found = steps(project, project.run("retrain", arguments={"seed": 3, "promote": False}, engine="local"))
    assert set(found) == {"retrain-fit"}
    assert found["retrain-fit"]["version"] == registry.versions()[0].version
    assert registry.history() == before


def test_a_step_that_fails_ends_the_workflow_with_its_sentence(project: Any) -> None:
    status = project.run("retrain", arguments={"case": "casual_game"}, engine="local")
    assert status.state == "Failed"
    assert "there are no Parquet files in" in str(status.exc)
    assert set(steps(project, status)) == {"retrain-fit"}


def naming(folder: Path, customers: set[str]) -> list[str]:
    """The files under ``folder`` that hold one of the ids."""
    found = []
    for path in sorted(each for each in folder.rglob("*") if each.is_file()):
        text = str(pq.read_table(path).to_pylist()) if path.suffix in (".parquet", ".pq") else path.read_bytes().decode("latin-1")
        if any(id_ in text for id_ in customers):
            found.append(path.relative_to(folder).as_posix())
    return found


def test_after_a_reset_nothing_that_training_kept_names_a_customer(river: River, project: Any, registry: Registry) -> None:
    customers = {row["user_id"] for row in river.rows(INCOMING)}
    project.run("retrain", arguments={"seed": 4}, engine="local")
    assert len(customers) == 400
    assert {path.split("/")[0] for path in naming(river.home, customers)} == {"data"}
    reset(Home(river.home), river.settings)
    assert registry.holdout(registry.versions()[0].version).shape[0] > 100  # the models stay, with the rows they were judged on
    assert naming(river.home, customers) == []

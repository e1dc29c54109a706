"""Local runs, their logs and results, and workflows of them."""

import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlrun
import pytest
from mlrun.errors import (
    MLRunNotFoundError,
)
from mlrun.runtimes import RunError

from churnstream.local.rundb import LocalRunDB


def test_a_local_run_gives_results_and_artifacts_that_can_be_opened(project: Any, tmp_path: Path) -> None:
    run = project.run_function("job", params={"users": 4}, local=True)
    assert run.status.state == "completed"
    assert run.outputs["events"] == 8
    assert run.outputs["sample"].startswith("store://datasets/river/")
    assert len(mlrun.get_dataitem(run.outputs["sample"]).as_df()) == 4
    assert len(run.artifact("sample").as_df()) == 4
    file, model, _ = mlrun.artifacts.get_model(run.outputs["model"])
    assert Path(file).read_text() == "tree 4"
    assert model.metrics == {"auc": 0.9}
    assert Path(file).is_relative_to(tmp_path / "artifacts" / "river")


def test_what_a_run_printed_is_its_log(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = project.run_function("job", local=True)
    capsys.readouterr()
    assert run.logs(watch=True) == ("completed", len("made 3\n"))
    assert capsys.readouterr().out == "made 3\n"


def test_a_handler_that_raises_is_a_run_error_and_a_run_in_error(project: Any) -> None:
    with pytest.raises(RunError, match="no such case"):
        project.run_function("job", handler="boom", local=True)
    (run,) = project.list_runs(states=["error"])
    assert "no such case" in run["status"]["error"]
    assert run["status"]["end_time"] >= run["status"]["start_time"]


def test_an_unknown_function_is_an_error(project: Any) -> None:
    with pytest.raises(MLRunNotFoundError, match="nobody"):
        project.run_function("nobody", local=True)


def test_two_runs_keep_two_versions_of_what_they_made(project: Any) -> None:
    first, second = (project.run_function("job", params={"users": n}, local=True) for n in (1, 2))
    assert [len(run.artifact("sample").as_df()) for run in (first, second)] == [1, 2]
    assert len(mlrun.get_dataitem(first.outputs["sample"]).as_df()) == 1
    assert len(mlrun.get_dataitem("store://datasets/river/job-run_sample").as_df()) == 2
    assert len(project.list_artifacts("job-run_sample")) == 2
    assert len(project.list_artifacts("job-run_sample", tag="latest")) == 1
    assert first.refresh().outputs == first.outputs


def test_hyper_parameters_select_the_best_iteration(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    run = project.run_function("job", handler="score", hyperparams={"p": [1, 3, 2]}, selector="max.score", local=True)
    assert run.outputs["best_iteration"] == 2
    assert run.outputs["score"] == 30
    assert run.artifact("drawing").get() == b"3"
    assert project.get_artifact("job-score_drawing", iter=0).iter == 2
    assert project.get_artifact("job-score_drawing", iter=3).to_dataitem().get() == b"2"
    (best,) = project.list_artifacts("job-score_drawing", tree=run.uid(), best_iteration=True)
    assert best["metadata"]["iter"] == 2
    assert [len(project.list_runs("job-score", iter=each)) for each in (False, True)] == [1, 4]


def test_a_local_workflow_runs_its_functions(project: Any) -> None:
    status = project.run("main", arguments={"users": 2}, engine="local")
    assert status.state == "Succeeded"
    runs = project.list_runs(labels=f"workflow={status.run_id}")
    assert {run["metadata"]["name"] for run in runs} == {"job-run", "job-score"}
    made = [run for run in runs.to_objects() if run.metadata.name == "job-run"]
    assert made[0].outputs["events"] == 4
    assert len(made[0].refresh().artifact("sample").as_df()) == 2


def test_runs_are_listed_by_name_label_state_and_time(project: Any, db: LocalRunDB) -> None:
    for name in ("train-a", "train-b", "other"):
        project.run_function("job", handler="score", name=name, local=True)
    names = {run["metadata"]["name"] for run in project.list_runs("~TRAIN")}
    assert names == {"train-a", "train-b"}
    assert project.list_runs("train") == []
    assert len(project.list_runs(labels="kind=local", states=["completed"])) == 3
    assert len(project.list_runs(labels="kind=job")) == 0
    start = mlrun.utils.now_date() + timedelta(hours=1)
    assert project.list_runs(start_time_from=start) == []
    page, token = project.paginated_list_runs("~train", page_size=1)
    rest, end = db.paginated_list_runs(page_token=token)
    assert {run["metadata"]["name"] for run in page + rest} == names
    assert end is None


def test_asked_for_nothing_the_runs_are_the_last_of_each_name(project: Any) -> None:
    last = [project.run_function("job", handler="score", local=True) for _ in range(2)][-1]
    assert [run["metadata"]["uid"] for run in project.list_runs()] == [last.uid()]
    assert len(project.list_runs("job-score")) == 2


def test_deleted_runs_are_gone(project: Any, db: LocalRunDB) -> None:
    run = project.run_function("job", local=True)
    db.del_run(run.uid(), "river")
    with pytest.raises(MLRunNotFoundError, match=run.uid()):
        db.read_run(run.uid(), "river")
    assert db.get_log(run.uid(), "river") == ("unknown", b"")
    project.run_function("job", handler="score", local=True)
    db.del_runs("job-score", "river", state="completed")
    assert project.list_runs("~") == []


def test_a_local_run_leaves_no_address_in_the_environment(project: Any) -> None:
    project.run_function("job", local=True)
    assert "MLRUN_DBPATH" not in os.environ

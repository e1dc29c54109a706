"""What MLRun's basic tutorials do beyond the notebooks: notifications, artifacts that travel, models that change."""

from pathlib import Path
from typing import Any

import mlrun
import pytest
from mlrun.datastore.datastore_profile import DatastoreProfileS3
from mlrun.errors import MLRunInvalidArgumentError
from mlrun.model import Notification

from churnstream.errors import NeedsCluster

CHILD = """
import mlrun


def count(context, data: mlrun.DataItem, p: int = 1):
    context.set_label("framework", "none")
    context.log_results({"rows": len(data.as_df()), "p": context.get_param("p")})
    context.commit("counted")
"""


def test_a_function_from_a_file_takes_what_another_run_made(project: Any, context: Path) -> None:
    made = project.run_function("job", params={"users": 5}, local=True)
    (context / "child.py").write_text(CHILD)
    function = mlrun.code_to_function(
        "child", filename=str(context / "child.py"), kind="job", handler="count", image="mlrun/mlrun"
    )
    task = mlrun.new_task(name="counting").set_label("x", "y")
    run = function.run(task, inputs={"data": made.outputs["sample"]}, params={"p": 3}, local=True)
    assert run.outputs == {"rows": 5, "p": 3}
    assert {"framework": "none", "x": "y"}.items() <= run.metadata.labels.items()
    assert [each["metadata"]["uid"] for each in project.list_runs(labels="x=y")] == [run.uid()]


def test_a_notification_is_sent_from_here_when_the_run_ends(project: Any, capsys: pytest.CaptureFixture[str]) -> None:
    told = Notification(kind="console", name="tell", when=["completed"], message="it is done", severity="info", condition="")
    project.run_function("job", local=True, notifications=[told])
    assert "it is done" in capsys.readouterr().out


def test_without_a_place_to_send_it_to_a_run_is_local(project: Any) -> None:
    assert project.run_function("job").outputs["events"] == 6
    with pytest.raises(MLRunInvalidArgumentError, match="schedule"):
        project.run_function("job", schedule="0 * * * *")


def test_an_artifact_travels_in_a_file(project: Any, tmp_path: Path) -> None:
    note = project.log_artifact("note", body=b"hello", format="txt")
    note.export(str(tmp_path / "note.yaml"))
    project.import_artifact(str(tmp_path / "note.yaml"), new_key="copy")
    assert project.get_artifact("copy").to_dataitem().get() == b"hello"


def test_a_model_is_changed_and_found_by_what_it_is(project: Any) -> None:
    model = project.log_model("model", body=b"x", model_file="m.txt", parameters={"depth": 3}, metrics={"auc": 0.7}, tag="v1")
    mlrun.artifacts.update_model(model, parameters={"seed": 1}, metrics={"loss": 0.1})
    found = project.get_artifact("model")
    assert (found.spec.parameters, found.spec.metrics) == ({"depth": 3, "seed": 1}, {"auc": 0.7, "loss": 0.1})


def test_a_project_travels_as_an_archive(project: Any, tmp_path: Path) -> None:
    project.export(str(tmp_path / "river.zip"))
    again = mlrun.load_project(str(tmp_path / "elsewhere"), str(tmp_path / "river.zip"), save=False)
    assert again.name == "river"
    assert (tmp_path / "elsewhere" / "job.py").is_file()


def test_what_needs_a_cluster_says_so_where_a_tutorial_calls_it(project: Any) -> None:
    for call, instead in (
        (lambda: project.set_secrets({"KEY": "value"}), "environment"),
        (lambda: project.register_datastore_profile(DatastoreProfileS3(name="s3", bucket="b")), "temporary_client"),
        (lambda: project.build_function("job"), "no image"),
        (lambda: project.list_model_endpoints(), "inference stream"),
        (lambda: project.list_alerts_configs(), "Prometheus"),
        (lambda: mlrun.import_function("hub://auto-trainer"), "as a file"),
        (lambda: project.run_function("job", local=True).abort(), "interrupt"),
    ):
        with pytest.raises(NeedsCluster, match=instead):
            call()

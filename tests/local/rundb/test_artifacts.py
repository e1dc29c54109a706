"""Artifacts, models and datasets: versions, tags, addresses, deleting."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import mlrun
import pandas as pd
import pytest
from mlrun.errors import (
    MLRunInvalidArgumentError,
    MLRunNotFoundError,
)

from churnstream.local.rundb import LocalRunDB


def test_models_are_read_by_tag_version_and_uri(project: Any) -> None:
    old = project.log_model("model", body=b"old", model_file="old.txt", tag="v1", labels={"kind": "lgbm"})
    new = project.log_model("model", body=b"new", model_file="new.txt", tag="v2")
    assert project.get_artifact("model").uid == new.uid != old.uid
    assert project.get_artifact("model", tag="v1").uid == old.uid
    assert project.get_artifact("model", uid=old.uid).uid == old.uid
    assert project.get_artifact_uri("model", category="model", tag="v1") == "store://models/river/model:v1"
    for uri in ("store://models/river/model:v1", old.uri, project.get_artifact_uri("model", "model", "v1")):
        assert mlrun.datastore.get_store_resource(uri).uid == old.uid
    assert [(m.uid, m.tag) for m in project.list_models("model")] == [
        (new.uid, "latest"),
        (new.uid, "v2"),
        (old.uid, "v1"),
    ]
    assert [m.uid for m in project.list_models(tag="latest", labels="kind=lgbm")] == []
    assert project.list_artifacts(category="dataset") == []
    with pytest.raises(MLRunNotFoundError, match="v3"):
        project.get_artifact("model", tag="v3")


def test_datasets_and_files_are_read_by_their_uris(project: Any) -> None:
    project.log_dataset("people", df=pd.DataFrame({"age": [30, 40]}))
    project.log_artifact("note", body=b"hello", format="txt", tag="first")
    assert list(mlrun.get_dataitem("store://datasets/river/people").as_df()["age"]) == [30, 40]
    assert mlrun.get_dataitem("store://artifacts/river/note:first").get() == b"hello"
    assert {a["metadata"]["key"] for a in project.list_artifacts("~O")} == {"people", "note"}


def test_artifacts_are_listed_by_when_they_were_stored(project: Any) -> None:
    note = project.log_artifact("note", body=b"1", format="txt")
    stored = mlrun.utils.datetime_from_iso(project.get_artifact("note").metadata.updated)
    second = timedelta(seconds=1)
    assert [a["metadata"]["uid"] for a in project.list_artifacts(tag="latest", since=stored - second)] == [note.uid]
    assert project.list_artifacts(since=stored + second) == []
    assert project.list_artifacts(until=stored - second) == []


def test_tags_are_put_on_and_taken_off(project: Any, db: LocalRunDB) -> None:
    model = project.log_model("model", body=b"x", model_file="m.txt")
    db.tag_artifacts(model, "river", "prod")
    assert project.get_artifact("model", tag="prod").uid == model.uid
    assert db.list_artifact_tags("river") == ["latest", "prod"]
    db.delete_artifacts_tags(model, "river", "prod")
    with pytest.raises(MLRunNotFoundError):
        project.get_artifact("model", tag="prod")
    db.tag_artifacts(model, "river", "only", replace=True)
    assert db.list_artifact_tags("river") == ["only"]


def test_deleting_an_artifact_keeps_other_versions_and_its_data_unless_asked(project: Any) -> None:
    old = project.log_artifact("note", body=b"old", format="txt", tag="v1", artifact_path="+/old")
    new = project.log_artifact("note", body=b"new", format="txt", tag="v2", artifact_path="+/new")
    project.delete_artifact(new)
    assert [a["metadata"]["uid"] for a in project.list_artifacts("note")] == [old.uid]
    assert Path(new.target_path).is_file()
    project.delete_artifact(old, deletion_strategy="data-force")
    assert project.list_artifacts() == []
    assert not Path(old.target_path).exists()


def test_data_that_is_not_deleted_keeps_its_artifact_only_when_forced(project: Any) -> None:
    model = project.log_model("model", body=b"x", model_file="m.txt")  # its data is a folder
    with pytest.raises(MLRunInvalidArgumentError, match="whole folder"):
        project.delete_artifact(model, deletion_strategy="data-force")
    assert [each.uid for each in project.list_models(tag="latest")] == [model.uid]
    project.delete_artifact(model, deletion_strategy="data-optional")
    assert project.list_models() == []
    assert (Path(model.target_path) / "m.txt").is_file()

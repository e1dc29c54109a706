"""Projects, as notebooks create, load and delete them."""

from pathlib import Path
from typing import Any

import mlrun
import pytest
from mlrun.errors import (
    MLRunConflictError,
    MLRunNotFoundError,
    MLRunPreconditionFailedError,
)

from churnstream.local.rundb import LocalRunDB
from tests.local.rundb.conftest import PROJECT, Deployed


def test_loading_without_save_registers_the_project_and_leaves_its_file_alone(
    project: Any, context: Path, db: LocalRunDB
) -> None:
    assert (context / "project.yaml").read_text() == PROJECT
    assert db.list_projects() == ["river"]
    again = mlrun.get_or_create_project("river", context=str(context))
    assert again.spec.params == {"case": "first_day"}
    assert again.get_function("graph").spec.graph is not None
    assert (context / "project.yaml").read_text() == PROJECT


def test_a_new_project_is_created_once(db: LocalRunDB, tmp_path: Path) -> None:
    mlrun.new_project("fresh", context=str(tmp_path / "fresh"))
    with pytest.raises(MLRunConflictError):
        mlrun.new_project("fresh", context=str(tmp_path / "fresh"))
    assert mlrun.get_or_create_project("fresh", context=str(tmp_path / "fresh")).name == "fresh"


def test_an_unknown_project_is_an_error(db: LocalRunDB) -> None:
    with pytest.raises(MLRunNotFoundError, match="nowhere"):
        db.get_project("nowhere")


def test_a_project_that_holds_something_is_deleted_only_in_cascade(project: Any, deployed: Deployed, db: LocalRunDB) -> None:
    project.get_function("door").deploy()
    project.run_function("job", local=True)
    with pytest.raises(MLRunPreconditionFailedError, match="cascade"):
        db.delete_project("river")
    db.delete_project("river", "cascade")
    assert db.list_projects() == []
    assert db.list_runs("~", project="river") == []
    assert deployed.functions == {}

"""Where MLRun finds the run database, and that it says nothing about it."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlrun
import pytest

from churnstream.errors import NeedsCluster
from churnstream.local.rundb import activate
from churnstream.local.rundb_address import ADDRESS, cluster_address


def test_another_file_replaces_the_first_one_even_after_use(project: Any, tmp_path: Path) -> None:
    assert mlrun.get_run_db().list_projects() == ["river"]
    activate(tmp_path / "other.db")
    assert mlrun.get_run_db().list_projects() == []
    with pytest.raises(NeedsCluster, match="inside a function"):
        project.get_function("door").deploy()
    activate(tmp_path / "run.db")
    assert mlrun.get_run_db().list_projects() == ["river"]


def test_only_a_foreign_address_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLRUN_DBPATH", ADDRESS)
    assert cluster_address() is None
    assert "MLRUN_DBPATH" not in os.environ
    monkeypatch.setenv("MLRUN_DBPATH", " http://mlrun-api:8080 ")
    assert cluster_address() == "http://mlrun-api:8080"


QUIET = """
import sys
from pathlib import Path
home, context = Path(sys.argv[1]), sys.argv[2]
import mlrun
mlrun.get_run_db  # MLRun is there before the database is
from churnstream.local.rundb import activate, configure_mlrun
activate(home / "run.db")
configure_mlrun(home / "artifacts")
project = mlrun.load_project(context, parameters={"case": "x"}, save=False)
project.save_to_db()
project = mlrun.get_or_create_project("river", context=context)
run = project.run_function("job", local=True)
assert run.outputs["events"] == 6
model = project.log_model("model", body=b"x", model_file="m.txt", tag="v1")
assert mlrun.get_dataitem(run.outputs["sample"]).as_df().shape == (3, 1)
assert project.get_artifact("model", tag="v1").uid == model.uid
project.list_runs().to_df(), project.list_artifacts().to_df(), project.list_models(), project.list_functions()
server = project.get_function("graph").to_mock_server()
assert server.test("/", body={"x": 1}) == {"x": 2}
server.wait_for_completion()
"""


def test_a_notebooks_calls_print_nothing_of_their_own(tmp_path: Path, context: Path) -> None:
    script = tmp_path / "notebook.py"
    script.write_text(QUIET)
    command = [
        sys.executable,
        "-W",
        "error::DeprecationWarning:__main__",
        str(script),
        str(tmp_path),
        str(context),
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "made 3\n"

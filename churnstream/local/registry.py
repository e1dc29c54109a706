"""What the run database knows of runs and trained models, for those who do not speak MLRun."""

from collections.abc import Mapping
from typing import Any

from churnstream.local.home import Home
from churnstream.local.rundb_runs import RUN
from churnstream.local.rundb_store import LATEST, ObjectStore
from churnstream.local.rundb_tags import ARTIFACT


def newest_metrics(home: Home, project: str, case: str) -> Mapping[str, float] | None:
    """The metrics of the model that was trained last for ``case``; None when none was."""
    for row in _rows(home, ARTIFACT, project, tag=LATEST):
        labels = row["metadata"].get("labels") or {}
        if row.get("kind") == "model" and labels.get("case") == case:
            return row["spec"].get("metrics") or {}
    return None


def newest_results(home: Home, project: str, function: str, case: str) -> Mapping[str, Any] | None:
    """What the last completed run of a job logged as its results; None when none completed for ``case``."""
    for row in _rows(home, RUN, project):
        named = (row["spec"].get("function") or "").partition("@")[0]
        given = row["spec"].get("parameters") or {}
        done = row["status"].get("state") == "completed"
        if done and named == f"{project}/{function}" and given.get("case", case) in ("", case):
            return row["status"].get("results") or {}
    return None


def _rows(home: Home, kind: str, project: str, **columns: Any) -> list[dict[str, Any]]:
    return [row.body for row in ObjectStore(home.run_db).find(kind, project, **columns)] if home.run_db.exists() else []

"""Projects in the local run database."""

from typing import Any

import mlrun
from mlrun.common.formatters import ProjectFormat
from mlrun.common.schemas import DeletionStrategy, PatchMode
from mlrun.errors import (
    MLRunConflictError,
    MLRunInvalidArgumentError,
    MLRunNotFoundError,
    MLRunPreconditionFailedError,
)

from churnstream.local.rundb_filters import Labels, labels_match
from churnstream.local.rundb_functions import FUNCTION, Functions
from churnstream.local.rundb_store import Row, merged, plain

PROJECT = "project"
BELONGINGS = (FUNCTION, "run", "artifact", "feature-set", "feature-vector")


class Projects(Functions):
    """What MLRun asks about projects; one person owns the database, so that every right is granted."""

    def store_project(self, name: str, project: Any) -> Any:
        """Write a project over the one of this name; returns what is stored."""
        body = plain(project)
        with self.store.transaction():
            rows = self.store.find(PROJECT, name=name)
            created = rows[0].body["metadata"].get("created") if rows else None
            metadata = body.setdefault("metadata", {})
            metadata["name"] = name
            metadata["created"] = created or metadata.get("created") or mlrun.utils.now_date().isoformat()
            body.setdefault("status", {})["state"] = "online"
            self.store.put(PROJECT, name, name, body)
        return self.get_project(name)

    def create_project(self, project: Any) -> Any:
        """Write a new project; raises MLRunConflictError when the name is taken."""
        body = plain(project)
        name = body["metadata"]["name"]
        with self.store.transaction():
            if self.store.find(PROJECT, name=name):
                raise MLRunConflictError(f"project {name} already exists")
            return self.store_project(name, body)

    def patch_project(self, name: str, project: dict[str, Any], patch_mode: Any = PatchMode.replace) -> Any:
        """Merge changes into a project; returns what is stored."""
        with self.store.transaction():
            body = self._project(name).body
            return self.store_project(name, merged(body, project, patch_mode == PatchMode.additive))

    def get_project(self, name: str) -> Any:
        """The project of this name; raises MLRunNotFoundError when there is none."""
        if not name:
            raise MLRunInvalidArgumentError("a project's name is needed to get it")
        return mlrun.projects.MlrunProject.from_dict(self._project(name).body)

    def list_projects(
        self,
        owner: str | None = None,
        format_: Any = ProjectFormat.name_only,
        labels: Labels = None,
        state: str | None = None,
    ) -> list[Any]:
        """Names of the projects, or the projects themselves (`format_` "full" or "minimal"), by name."""
        bodies = [
            row.body
            for row in sorted(self.store.find(PROJECT), key=lambda row: row.name)
            if labels_match(row.body["metadata"].get("labels"), labels)
            and owner in (None, row.body.get("spec", {}).get("owner"))
            and state in (None, row.body["status"]["state"])
        ]
        if format_ == ProjectFormat.name_only:
            return [body["metadata"]["name"] for body in bodies]
        if format_ == ProjectFormat.minimal:
            for body in bodies:
                body["spec"] = {k: v for k, v in body["spec"].items() if k not in ("functions", "workflows", "artifacts")}
        return [mlrun.projects.MlrunProject.from_dict(body) for body in bodies]

    def delete_project(self, name: str, deletion_strategy: Any = DeletionStrategy.restricted) -> None:
        """Delete a project; with "cascade" all it holds goes too, and its deployed functions stop.

        Raises MLRunPreconditionFailedError when it holds anything and the strategy is the default.
        """
        strategy = DeletionStrategy(deletion_strategy)
        held = [row for kind in BELONGINGS for row in self.store.find(kind, name)]
        if held and strategy.strategy_to_check():
            counts = {kind: sum(row.kind == kind for row in held) for kind in BELONGINGS}
            found = ", ".join(f"{count} {kind} versions" for kind, count in counts.items() if count)
            raise MLRunPreconditionFailedError(f'project {name} still holds {found}; delete it with "cascade"')
        if strategy == DeletionStrategy.check:
            return
        for function in {row.name for row in held if row.kind == FUNCTION}:
            self.delete_function(function, name)
        with self.store.transaction():
            self.store.remove([*held, *self.store.find(PROJECT, name=name)])
            self.store.remove_logs(name)

    def verify_authorization(self, authorization_verification_input: Any) -> None:
        """Grants everything: whoever can open the file may use it."""

    def _project(self, name: str) -> Row:
        rows = self.store.find(PROJECT, name=name)
        if not rows:
            raise MLRunNotFoundError(f"project {name} is not in the run database; create or load it first")
        return rows[0]

"""Tags of artifacts in the local run database: a tag moves, and a version may carry many."""

from typing import Any

import mlrun
from mlrun.errors import MLRunInvalidArgumentError

from churnstream.local.rundb_store import ObjectStore, Row, active, plain

ARTIFACT = "artifact"


class ArtifactTags:
    """What MLRun asks when it puts tags on artifacts, or takes them off."""

    store: ObjectStore

    def tag_objects(self, project: str, tag_name: str, objects: Any, replace: bool = False) -> None:
        """Tag artifacts by their identifiers; `replace` takes their other tags off."""
        with self.store.transaction():
            for row in self._identified(project, plain(objects)):
                if replace:
                    self.store.untag(row)
                self.store.tag(ARTIFACT, project, row.name, row.uid, row.iter, tag_name)

    def delete_objects_tag(self, project: str, tag_name: str, tag_objects: Any) -> None:
        """Take a tag off artifacts by their identifiers."""
        with self.store.transaction():
            for row in self._identified(project, plain(tag_objects)):
                self.store.untag(row, tag_name)

    def tag_artifacts(self, artifacts: Any, project: str, tag_name: str, replace: bool = False) -> None:
        """Tag one artifact or a list of them; `replace` takes their other tags off."""
        self.tag_objects(project, tag_name, self._resolve_artifacts_to_tag_objects(artifacts), replace)

    def delete_artifacts_tags(self, artifacts: Any, project: str, tag_name: str) -> None:
        """Take a tag off one artifact or a list of them."""
        self.delete_objects_tag(project, tag_name, self._resolve_artifacts_to_tag_objects(artifacts))

    def _resolve_artifacts_to_tag_objects(self, artifacts: Any) -> Any:
        return mlrun.db.base.RunDBInterface._resolve_artifacts_to_tag_objects(artifacts)

    def _identified(self, project: str, objects: dict[str, Any]) -> list[Row]:
        if objects["kind"] != ARTIFACT:
            raise MLRunInvalidArgumentError(f"only artifacts carry tags of this kind, not {objects['kind']}")
        rows: list[Row] = []
        for each in objects["identifiers"]:
            columns = {
                "uid": each.get("uid") or None,
                "iter": each.get("iter"),
                "tree": each.get("producer_id") or None,
            }
            rows += self.store.find(ARTIFACT, active(project), each["key"], **columns)
        return rows

"""Feature sets and feature vectors in the local run database."""

from typing import Any

import mlrun
import mlrun.feature_store as fstore
from mlrun.common.schemas import PatchMode
from mlrun.errors import MLRunConflictError, MLRunInvalidArgumentError, MLRunNotFoundError

from churnstream.local.rundb_filters import Labels, labels_match, name_matches, partition
from churnstream.local.rundb_store import LATEST, ObjectStore, Row, active, merged, plain

SET = "feature-set"
VECTOR = "feature-vector"


class Features:
    """What MLRun's feature store asks; a version's uid is the hash of its content."""

    store: ObjectStore

    def create_feature_set(self, feature_set: Any, project: str = "", versioned: bool = True) -> dict[str, Any]:
        """Write a new feature set; raises MLRunConflictError when the name is taken."""
        return self._create(SET, feature_set, project, versioned)

    def store_feature_set(
        self,
        feature_set: Any,
        name: str | None = None,
        project: str = "",
        tag: str | None = None,
        uid: str | None = None,
        versioned: bool = True,
    ) -> dict[str, Any]:
        """Write a feature set under a tag, "latest" by default; unversioned, it replaces the last."""
        return self._store(SET, feature_set, name, project, tag, uid, versioned)

    def get_feature_set(self, name: str, project: str = "", tag: str | None = None, uid: str | None = None) -> Any:
        """One feature set by its tag (or the latest) or uid; raises MLRunNotFoundError."""
        return fstore.FeatureSet.from_dict(_body(self._one(SET, name, project, tag, uid), tag))

    def list_feature_sets(
        self,
        project: str | None = None,
        name: str | None = None,
        tag: str | None = None,
        state: str | None = None,
        entities: list[str] | None = None,
        features: list[str] | None = None,
        labels: Labels = None,
        partition_by: str | None = None,
        rows_per_partition: int = 1,
        partition_sort_by: str | None = None,
        partition_order: str = "desc",
        format_: Any = None,
    ) -> list[Any]:
        """Feature sets that match, newest first; those with any of the entities and any of the features."""

        def has(body: dict[str, Any], field: str, asked: list[str] | None) -> bool:
            names = {each["name"] for each in body.get("spec", {}).get(field) or []}
            return not asked or bool(names & set(asked))

        found = self._list(SET, project, name, tag, state, labels, partition_by, rows_per_partition, partition_order)
        return [
            fstore.FeatureSet.from_dict(body)
            for body in found
            if has(body, "entities", entities) and has(body, "features", features)
        ]

    def patch_feature_set(
        self,
        name: str,
        feature_set_update: dict[str, Any],
        project: str = "",
        tag: str | None = None,
        uid: str | None = None,
        patch_mode: Any = PatchMode.replace,
    ) -> None:
        """Merge changes into a stored feature set."""
        self._patch(SET, name, feature_set_update, project, tag, uid, patch_mode)

    def delete_feature_set(self, name: str, project: str = "", tag: str | None = None, uid: str | None = None) -> None:
        """Delete the version of a tag or uid, or every version."""
        self._delete(SET, name, project, tag, uid)

    def create_feature_vector(self, feature_vector: Any, project: str = "", versioned: bool = True) -> dict[str, Any]:
        """Write a new feature vector; raises MLRunConflictError when the name is taken."""
        return self._create(VECTOR, feature_vector, project, versioned)

    def store_feature_vector(
        self,
        feature_vector: Any,
        name: str | None = None,
        project: str = "",
        tag: str | None = None,
        uid: str | None = None,
        versioned: bool = True,
    ) -> dict[str, Any]:
        """Write a feature vector under a tag, "latest" by default; unversioned, it replaces the last."""
        return self._store(VECTOR, feature_vector, name, project, tag, uid, versioned)

    def get_feature_vector(self, name: str, project: str = "", tag: str | None = None, uid: str | None = None) -> Any:
        """One feature vector by its tag (or the latest) or uid; raises MLRunNotFoundError."""
        return fstore.FeatureVector.from_dict(_body(self._one(VECTOR, name, project, tag, uid), tag))

    def list_feature_vectors(
        self,
        project: str = "",
        name: str | None = None,
        tag: str | None = None,
        state: str | None = None,
        labels: Labels = None,
        partition_by: str | None = None,
        rows_per_partition: int = 1,
        partition_sort_by: str | None = None,
        partition_order: str = "desc",
    ) -> list[Any]:
        """Feature vectors that match, newest first."""
        found = self._list(VECTOR, project, name, tag, state, labels, partition_by, rows_per_partition, partition_order)
        return [fstore.FeatureVector.from_dict(body) for body in found]

    def patch_feature_vector(
        self,
        name: str,
        feature_vector_update: dict[str, Any],
        project: str = "",
        tag: str | None = None,
        uid: str | None = None,
        patch_mode: Any = PatchMode.replace,
    ) -> None:
        """Merge changes into a stored feature vector."""
        self._patch(VECTOR, name, feature_vector_update, project, tag, uid, patch_mode)

    def delete_feature_vector(self, name: str, project: str = "", tag: str | None = None, uid: str | None = None) -> None:
        """Delete the version of a tag or uid, or every version."""
        self._delete(VECTOR, name, project, tag, uid)

    def _create(self, kind: str, thing: Any, project: str, versioned: bool) -> dict[str, Any]:
        body = plain(thing)
        name, project = body["metadata"]["name"], active(project or body["metadata"].get("project"))
        with self.store.transaction():
            if self.store.find(kind, project, name):
                raise MLRunConflictError(f"{kind} {project}/{name} already exists")
            return self._store(kind, body, name, project, body["metadata"].get("tag"), None, versioned)

    def _store(
        self,
        kind: str,
        thing: Any,
        name: str | None,
        project: str,
        tag: str | None,
        uid: str | None,
        versioned: bool,
    ) -> dict[str, Any]:
        body = plain(thing)
        metadata = body["metadata"]
        name, project = name or metadata["name"], active(project or metadata.get("project"))
        metadata["project"] = project
        made = mlrun.utils.fill_object_hash(body, "uid", tag or LATEST) if versioned else f"unversioned-{tag or LATEST}"
        if uid and uid != made:
            raise MLRunInvalidArgumentError(f"{kind} {project}/{name} with other content cannot keep the uid {uid}")
        self.store.put(kind, project, name, body, uid=made, tags=() if uid else {tag or LATEST, LATEST})
        return _body(self._one(kind, name, project, None, made), tag)

    def _list(
        self,
        kind: str,
        project: str | None,
        name: str | None,
        tag: str | None,
        state: str | None,
        labels: Labels,
        partition_by: str | None,
        rows_per_partition: int,
        partition_order: str,
    ) -> list[dict[str, Any]]:
        one_tag = None if tag in (None, "", "*") else tag
        rows = [
            row
            for row in self.store.find(kind, active(project), tag=one_tag)
            if name_matches(row.name, name, like=True)
            and state in (None, (row.body.get("status") or {}).get("state"))
            and labels_match(row.body["metadata"].get("labels"), labels)
        ]
        if partition_by:
            rows = partition(
                rows,
                key=lambda row: row.name,
                order=lambda row: row.updated,
                rows=rows_per_partition,
                descending=partition_order == "desc",
            )
        return [_body(row, each) for row in rows for each in ([one_tag] if one_tag else row.tags or ("",))]

    def _patch(
        self,
        kind: str,
        name: str,
        changes: dict[str, Any],
        project: str,
        tag: str | None,
        uid: str | None,
        mode: Any,
    ) -> None:
        with self.store.transaction():
            row = self._one(kind, name, project, tag, uid)
            body = merged(row.body, changes, mode == PatchMode.additive)
            self.store.put(kind, row.project, row.name, body, uid=row.uid)

    def _delete(self, kind: str, name: str, project: str, tag: str | None, uid: str | None) -> None:
        self.store.remove(self.store.find(kind, active(project), name, tag=tag or None, uid=uid or None))

    def _one(self, kind: str, name: str, project: str, tag: str | None, uid: str | None) -> Row:
        tag = None if uid else tag or LATEST
        rows = self.store.find(kind, active(project), name, tag=tag, uid=uid or None)
        if not rows:
            raise MLRunNotFoundError(f"{kind} {active(project)}/{name}:{tag or uid} is not in the run database")
        return rows[0]


def _body(row: Row, tag: str | None) -> dict[str, Any]:
    tag = tag or LATEST
    known = {"uid": row.uid, "updated": row.updated, "tag": tag if tag in row.tags else ""}
    return row.body | {"metadata": row.body["metadata"] | known}

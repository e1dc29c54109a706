"""Artifacts in the local run database: every version by its uid, tags that move, best iterations."""

from datetime import datetime
from typing import Any

import mlrun
from mlrun.artifacts.base import fill_artifact_object_hash
from mlrun.common.formatters import ArtifactFormat
from mlrun.common.schemas import ArtifactCategories
from mlrun.common.schemas.artifact import ArtifactsDeletionStrategies
from mlrun.errors import MLRunInvalidArgumentError, MLRunNotFoundError
from mlrun.lists import ArtifactList
from mlrun.utils import get_in

from churnstream.local.rundb_filters import Labels, labels_match, name_matches, one_page, partition, within
from churnstream.local.rundb_store import LATEST, Row, active, plain
from churnstream.local.rundb_tags import ARTIFACT, ArtifactTags

LINK = "link"


class Artifacts(ArtifactTags):
    """What MLRun asks about artifacts, models and datasets."""

    def store_artifact(
        self,
        key: str,
        artifact: Any,
        iter: int | None = None,
        tag: str | None = None,
        project: str = "",
        tree: Any = None,
    ) -> dict[str, Any]:
        """Write a version of an artifact and tag it "latest" and `tag`; returns it with its uid.

        Equal content of one run has one uid and is written over. A link marks the best iteration of a run.
        """
        body, project = plain(artifact), active(project)
        metadata = body.setdefault("metadata", {})
        metadata.setdefault("key", key)
        metadata["project"] = project
        metadata["tree"] = tree = metadata.get("tree") or tree
        iter = iter or metadata.get("iter") or 0
        if body.get("kind") == LINK:
            return self._mark_best(key, body, project, tree)
        body.setdefault("spec", {})["db_key"] = key
        tags = {LATEST, tag or metadata.get("tag") or LATEST}
        uid = fill_artifact_object_hash(body, iter, tree)
        metadata["tag"] = ""  # a tag moves; which ones a version has is asked at reading
        self.store.put(ARTIFACT, project, key, body, uid=uid, iter=iter, tree=str(tree or ""), tags=tags)
        row = self.store.find(ARTIFACT, project, key, uid=uid, iter=iter)[0]
        return _artifact(row, tag or LATEST)

    def read_artifact(
        self,
        key: str,
        tag: str | None = None,
        iter: int | None = None,
        project: str = "",
        tree: str | None = None,
        uid: str | None = None,
        format_: Any = ArtifactFormat.full,
    ) -> dict[str, Any]:
        """One version of an artifact; without a tag, tree or uid the latest. Raises MLRunNotFoundError.

        Iteration 0 of a run with iterations is its best one.
        """
        project, tag = active(project), tag or LATEST
        rows = self.store.find(ARTIFACT, project, key, tree=tree or None, uid=uid or None)
        tagged = [row for row in rows if tag in row.tags]
        # MLRun says "latest" when nobody asked for a tag; it must not hide a version that is named otherwise.
        rows = tagged or (rows if tag == LATEST and (tree or uid) else [])
        exact = [row for row in rows if iter is None or row.iter == iter]
        best = [row for row in rows if row.best] if not iter else []
        found = best if best and iter is None else exact or best
        if not found:
            asked = mlrun.utils.generate_artifact_uri(project, key, tag, iter, tree, uid)
            raise MLRunNotFoundError(f"artifact {asked} is not in the run database; list_artifacts() shows what is")
        return dict(ArtifactFormat.format_obj(_artifact(found[0], tag), format_))

    def list_artifacts(
        self,
        name: str | None = None,
        project: str | None = None,
        tag: str | None = None,
        labels: Labels = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        iter: int | None = None,
        best_iteration: bool = False,
        kind: str | None = None,
        category: str | None = None,
        tree: str | None = None,
        producer_uri: str | None = None,
        parent: str | None = None,
        format_: Any = ArtifactFormat.full,
        partition_by: str | None = None,
        rows_per_partition: int = 1,
        partition_sort_by: str | None = "updated",
        partition_order: str = "desc",
    ) -> ArtifactList:
        """Artifacts that match, newest first; without a tag every version, once for each of its tags."""
        if best_iteration and iter is not None:
            raise MLRunInvalidArgumentError("ask either for the best iteration or for one iteration, not for both")
        kinds, others = ArtifactCategories(category).to_kinds_filter() if category else ([], True)
        one_tag = None if tag in (None, "", "*") else tag
        rows = self.store.find(ARTIFACT, active(project), tag=one_tag, iter=iter, tree=tree or None)
        first = {(row.name, row.tree): row.iter for row in sorted(rows, key=lambda row: (row.best, -row.iter))}

        def matches(row: Row) -> bool:
            return (
                name_matches(row.name, name)
                and (not kind or row.body.get("kind") == kind)
                and (row.body.get("kind") in kinds) is not others
                and labels_match(row.body["metadata"].get("labels"), labels)
                and within(row.updated, since, until)
                and (not producer_uri or get_in(row.body, "spec.producer.uri") == producer_uri)
                and (not parent or str(get_in(row.body, "spec.parent_uri") or "").endswith(parent))
                and (not best_iteration or row.iter == first[row.name, row.tree])
            )

        rows = [row for row in rows if matches(row)]
        if partition_by:
            rows = partition(
                rows,
                key=lambda row: (row.project, row.name),
                order=lambda row: row.created if partition_sort_by == "created" else row.updated,
                rows=rows_per_partition,
                descending=partition_order == "desc",
            )
        found = ArtifactList(
            ArtifactFormat.format_obj(_artifact(row, each), format_)
            for row in rows
            for each in ([one_tag] if one_tag else row.tags or ("",))
        )
        found.tag = tag
        return found

    def paginated_list_artifacts(
        self,
        *args: Any,
        page: int | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        **asked: Any,
    ) -> tuple[ArtifactList, str | None]:
        """One page of list_artifacts, and the token of the next page or None."""
        asked |= dict(zip(("name", "project", "tag", "labels", "since", "until"), args, strict=False))
        artifacts, token = one_page(self.list_artifacts, asked, page, page_size, page_token)
        return ArtifactList(artifacts), token

    def del_artifact(
        self,
        key: str,
        tag: str | None = None,
        project: str = "",
        tree: str | None = None,
        uid: str | None = None,
        deletion_strategy: Any = ArtifactsDeletionStrategies.metadata_only,
        secrets: dict[str, Any] | None = None,
        iter: int | None = None,
    ) -> None:
        """Delete the versions that match, all of the key when only the key is given; their data when asked.

        With "data-force" a failure to delete the data is raised and the version stays.
        """
        columns = {"tree": tree or None, "uid": uid or None, "iter": iter}
        rows = self.store.find(ARTIFACT, active(project), key, tag=tag or None, **columns)
        strategy = ArtifactsDeletionStrategies(deletion_strategy)
        if strategy != ArtifactsDeletionStrategies.metadata_only:
            for row in rows:
                _delete_data(row, secrets, must=strategy == ArtifactsDeletionStrategies.data_force)
        self.store.remove(rows)

    def del_artifacts(
        self,
        name: str | None = None,
        project: str | None = None,
        tag: str | None = None,
        labels: Labels = None,
        days_ago: int = 0,
        tree: str | None = None,
    ) -> None:
        """Delete every artifact that matches; the name is a part of the key in any case."""
        one_tag = None if tag in (None, "", "*") else tag
        rows = self.store.find(ARTIFACT, active(project), tag=one_tag, tree=tree or None)
        self.store.remove(
            row
            for row in rows
            if name_matches(row.name, name, like=True) and labels_match(row.body["metadata"].get("labels"), labels)
        )

    def list_artifact_tags(self, project: str | None = None, category: str | None = None) -> list[str]:
        """The tags that artifacts of a project carry, in order."""
        return sorted({a["metadata"]["tag"] for a in self.list_artifacts(project=project, category=category)} - {""})

    def _mark_best(self, key: str, link: dict[str, Any], project: str, tree: str | None) -> dict[str, Any]:
        spec = link["spec"]
        names = (key, spec.get("link_key") or key)
        rows = self.store.find(
            ARTIFACT,
            project,
            tree=spec.get("link_tree") or tree or None,
            iter=spec.get("link_iteration") or 0,
        )
        for row in rows:
            if row.name in names:
                self.store.mark_best(row)
                return _artifact(row, LATEST)
        raise MLRunNotFoundError(f"iteration {spec.get('link_iteration')} of artifact {project}/{key} is not stored")


def _artifact(row: Row, tag: str) -> dict[str, Any]:
    known = {"uid": row.uid, "created": row.created, "updated": row.updated}
    return row.body | {"metadata": row.body["metadata"] | known | {"tag": tag if tag in row.tags else ""}}


def _delete_data(row: Row, secrets: dict[str, Any] | None, must: bool) -> None:
    target = get_in(row.body, "spec.target_path")
    if not target:
        return
    try:
        if target.endswith("/"):  # as MLRun marks a folder; it may hold what is not this artifact's
            raise MLRunInvalidArgumentError(f"artifact {row.name} is a whole folder, {target}; delete it by hand")
        mlrun.get_dataitem(target, secrets=secrets).delete()
    except Exception as cause:
        if must:
            raise
        mlrun.utils.logger.warning(f"the data of artifact {row.name} stays at {target}: {cause}")

"""MLRun's objects in one SQLite file: versions, tags and logs."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import mlrun
from mlrun.utils import dict_to_json

from churnstream.local.rundb_file import RunFile

LATEST = "latest"

SELECT = """select kind, project, name, uid, iter, tree, best, created, updated, body,
    coalesce((select json_group_array(tag) from tags t where t.kind = o.kind and t.project = o.project
              and t.name = o.name and t.uid = o.uid and t.iter = o.iter), '[]') from objects o"""


# It leaves the tag on versions of the same tree, except on the one of the same iteration.
MOVE_TAG = """delete from tags where kind = ? and project = ? and name = ? and tag = ?
    and (iter = ? or (uid, iter) not in (
        select other.uid, other.iter from objects other join objects new using (kind, project, name, tree)
        where kind = tags.kind and project = tags.project and name = tags.name and tree <> ''
          and new.uid = ? and new.iter = ?))"""


@dataclass(frozen=True, slots=True)
class Row:
    """One stored version of an object; its times are ISO 8601 in UTC, its body is the caller's own copy."""

    kind: str
    project: str
    name: str
    uid: str
    iter: int
    tree: str
    best: bool
    created: str
    updated: str
    body: dict[str, Any]
    tags: tuple[str, ...]


def plain(thing: Any) -> dict[str, Any]:
    """The dictionary of an MLRun object, of a schema, or a dictionary itself."""
    if isinstance(thing, dict):
        return thing
    return dict(thing.to_dict() if hasattr(thing, "to_dict") else thing.dict())


def merged(body: dict[str, Any], changes: dict[str, Any], additive: bool = False) -> dict[str, Any]:
    """The dictionary with changes in it, level by level; `additive` joins lists instead of replacing them."""
    result = dict(body)
    for key, change in changes.items():
        kept = result.get(key)
        if isinstance(kept, dict) and isinstance(change, dict):
            result[key] = merged(kept, change, additive)
        elif additive and isinstance(kept, list) and isinstance(change, list):
            result[key] = kept + change
        else:
            result[key] = change
    return result


def active(project: str | None) -> str:
    """The project asked for, or MLRun's active one."""
    return project or str(mlrun.mlconf.active_project)


def now() -> str:
    """This instant, ISO 8601 in UTC to the microsecond."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class ObjectStore(RunFile):
    """Objects by (kind, project, name, uid, iteration), newest first, each with its tags."""

    def put(
        self,
        kind: str,
        project: str,
        name: str,
        body: dict[str, Any],
        *,
        uid: str = "",
        iter: int = 0,
        tree: str = "",
        tags: Iterable[str] = (),
    ) -> None:
        """Write one version, replacing the one of the same uid and iteration, and move the tags to it."""
        at = now()
        with self.transaction() as db:
            db.execute(
                "insert into objects values(?,?,?,?,?,?,0,?,?,?) on conflict do update set"
                " tree = excluded.tree, updated = excluded.updated, body = excluded.body",
                (kind, project, name, uid, iter, tree, at, at, dict_to_json(body)),
            )
            for tag in tags:
                self.tag(kind, project, name, uid, iter, tag)

    def find(
        self,
        kind: str,
        project: str = "*",
        name: str | None = None,
        *,
        tag: str | None = None,
        **columns: Any,
    ) -> list[Row]:
        """The versions with these values of uid, iter, tree and best, newest first; None matches any."""
        terms: dict[str, Any] = {"kind": kind, "name": name, **columns}
        if project != "*":
            terms["project"] = project
        terms = {column: value for column, value in terms.items() if value is not None}
        where = " and ".join(f"o.{column} = ?" for column in terms)
        values = list(terms.values())
        if tag is not None:
            where += (
                " and exists (select 1 from tags t where t.kind = o.kind and t.project = o.project"
                " and t.name = o.name and t.uid = o.uid and t.iter = o.iter and t.tag = ?)"
            )
            values.append(tag)
        rows = self.connection().execute(f"{SELECT} where {where} order by updated desc, rowid desc", values)
        return [_row(*columns) for columns in rows.fetchall()]

    def remove(self, rows: Iterable[Row]) -> None:
        """Delete these versions and their tags."""
        with self.transaction() as db:
            for row in rows:
                version = (row.kind, row.project, row.name, row.uid, row.iter)
                for table in ("objects", "tags"):
                    db.execute(
                        f"delete from {table} where kind=? and project=? and name=? and uid=? and iter=?",
                        version,
                    )

    def tag(self, kind: str, project: str, name: str, uid: str, iter: int, tag: str) -> None:
        """Move a tag to this version; the iterations of one run (one tree) may share it."""
        with self.transaction() as db:
            db.execute(MOVE_TAG, (kind, project, name, tag, iter, uid, iter))
            db.execute("insert into tags values(?,?,?,?,?,?)", (kind, project, name, tag, uid, iter))

    def untag(self, row: Row, tag: str | None = None) -> None:
        """Take one tag off a version, or all of them."""
        with self.transaction() as db:
            version = "kind=? and project=? and name=? and uid=? and iter=?"
            values = (row.kind, row.project, row.name, row.uid, row.iter, tag)
            db.execute(f"delete from tags where {version} and tag = coalesce(?, tag)", values)

    def mark_best(self, row: Row) -> None:
        """Make this the best iteration of its run (its tree)."""
        with self.transaction() as db:
            run = "kind=? and project=? and name=? and tree=?"
            values = (row.uid, row.iter, row.kind, row.project, row.name, row.tree)
            db.execute(f"update objects set best = (uid = ? and iter = ?) where {run}", values)

    def append_log(self, project: str, uid: str, body: bytes, afresh: bool) -> None:
        """Add to the log of a run, or begin it afresh."""
        with self.transaction() as db:
            if afresh:
                db.execute("delete from logs where project=? and uid=?", (project, uid))
            part = "select coalesce(max(part), 0) + 1 from logs where project=? and uid=?"
            db.execute(f"insert into logs values(?,?,({part}),?)", (project, uid, project, uid, body))

    def read_log(self, project: str, uid: str) -> bytes:
        """The whole log of a run; empty when it wrote none."""
        parts = self.connection().execute("select body from logs where project=? and uid=? order by part", (project, uid))
        return b"".join(body for (body,) in parts.fetchall())

    def remove_logs(self, project: str, uid: str | None = None) -> None:
        """Delete the log of one run, or every log of the project."""
        with self.transaction() as db:
            db.execute("delete from logs where project=? and uid = coalesce(?, uid)", (project, uid))


def _row(
    kind: str,
    project: str,
    name: str,
    uid: str,
    iter: int,
    tree: str,
    best: int,
    created: str,
    updated: str,
    body: str,
    tags: str,
) -> Row:
    version = (kind, project, name, uid, iter, tree, bool(best), created, updated)
    return Row(*version, json.loads(body), tuple(json.loads(tags)))

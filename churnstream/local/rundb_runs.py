"""Runs and their logs in the local run database."""

import sys
import time
from datetime import datetime, timedelta
from typing import Any

import mlrun
from mlrun.common.formatters import RunFormat
from mlrun.common.runtimes.constants import RunStates
from mlrun.errors import MLRunNotFoundError
from mlrun.lists import RunList
from mlrun.utils import get_in, now_date, update_in

from churnstream.local.rundb_address import forget_own_address
from churnstream.local.rundb_artifacts import Artifacts
from churnstream.local.rundb_filters import (
    Labels,
    labels_match,
    name_matches,
    one_page,
    partition,
    utc,
    within,
)
from churnstream.local.rundb_store import Row, active, plain

RUN = "run"
RECENT = timedelta(days=7)  # MLRun's documented default when a listing asks for nothing


class Runs(Artifacts):
    """What MLRun asks about runs."""

    def store_run(self, struct: Any, uid: str, project: str = "", iter: int = 0) -> None:
        """Write one iteration of a run over what is stored."""
        self._put(plain(struct), uid, active(project), iter)

    def update_run(self, updates: dict[str, Any], uid: str, project: str = "", iter: int = 0, timeout: int = 45) -> None:
        """Change fields of a run by their dotted paths; raises MLRunNotFoundError when it is not stored."""
        forget_own_address()
        with self.store.transaction():
            body = self._run(uid, active(project), iter).body
            for path, value in updates.items():
                update_in(body, path, value)
            self._put(body, uid, active(project), iter)

    def read_run(self, uid: str, project: str = "", iter: int = 0, format_: Any = RunFormat.full) -> dict[str, Any]:
        """One run; in the full format with its artifacts. Raises MLRunNotFoundError."""
        body = self._run(uid, active(project), iter).body
        if format_ == RunFormat.full:
            tree = get_in(body, "metadata.labels.workflow") or uid
            uri = f"{active(project)}/{uid}" + (f"-{iter}" if iter else "")
            found = self.list_artifacts(project=project, tree=tree, iter=iter or None, best_iteration=not iter)
            mine = [a for a in found if tree == uid or get_in(a, "spec.producer.uri") in (None, uri)]
            body.setdefault("status", {})["artifacts"] = mine
        return body

    def list_runs(
        self,
        name: str | None = None,
        uid: str | list[str] | None = None,
        project: str | None = None,
        labels: Labels = None,
        states: list[str] | None = None,
        sort: bool = True,
        iter: bool = False,
        start_time_from: datetime | str | None = None,
        start_time_to: datetime | str | None = None,
        last_update_time_from: datetime | str | None = None,
        last_update_time_to: datetime | str | None = None,
        end_time_from: datetime | str | None = None,
        end_time_to: datetime | str | None = None,
        partition_by: str | None = None,
        rows_per_partition: int = 1,
        partition_sort_by: str | None = None,
        partition_order: str = "desc",
        max_partitions: int = 0,
        with_notifications: bool = False,
    ) -> RunList:
        """Runs that match, newest start first; asked for nothing, the last of each name within seven days."""
        limits = (
            start_time_from,
            start_time_to,
            last_update_time_from,
            last_update_time_to,
            end_time_from,
            end_time_to,
        )
        if not any((name, uid, labels, states, iter, partition_by, partition_sort_by, *limits)):
            start_time_from = now_date() - RECENT
            partition_by = "project_and_name"
        uids = [uid] if isinstance(uid, str) and uid else uid

        def matches(run: Row) -> bool:
            status = run.body.get("status", {})
            return (
                (iter or run.iter == 0)
                and (not uids or run.name in uids)
                and (not states or status.get("state") in states)
                and name_matches(run.body["metadata"].get("name", ""), name)
                and labels_match(run.body["metadata"].get("labels"), labels)
                and within(status.get("start_time"), start_time_from, start_time_to)
                and within(run.updated, last_update_time_from, last_update_time_to)
                and within(status.get("end_time"), end_time_from, end_time_to)
            )

        runs = [run for run in self.store.find(RUN, active(project)) if matches(run)]
        if partition_by:
            runs = partition(
                runs,
                key=lambda run: (run.project, run.body["metadata"].get("name")),
                order=_started if partition_sort_by == "created" else lambda run: run.updated,
                rows=rows_per_partition,
                descending=partition_order == "desc",
                most=max_partitions,
            )
        if sort:
            runs.sort(key=_started, reverse=True)
        return RunList([run.body for run in runs])

    def paginated_list_runs(
        self,
        *args: Any,
        page: int | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        **asked: Any,
    ) -> tuple[RunList, str | None]:
        """One page of list_runs, and the token of the next page or None."""
        asked |= dict(zip(("name", "uid", "project", "labels", "states"), args, strict=False))
        runs, token = one_page(self.list_runs, asked, page, page_size, page_token)
        return RunList(runs), token

    def del_run(self, uid: str, project: str = "", iter: int = 0) -> None:
        """Delete one iteration of a run and, with iteration 0, its log."""
        self.store.remove(self.store.find(RUN, active(project), uid, iter=iter))
        if not iter:
            self.store.remove_logs(active(project), uid)

    def del_runs(
        self,
        name: str | None = None,
        project: str | None = None,
        labels: Labels = None,
        state: str | None = None,
        days_ago: int = 0,
    ) -> None:
        """Delete the runs that match with all iterations; `days_ago` above 0 spares older ones."""
        since = now_date() - timedelta(days=days_ago) if days_ago else None
        states = [state] if state else None
        for run in self.list_runs(name, None, project, labels, states, iter=True, start_time_from=since):
            self.del_run(run["metadata"]["uid"], active(project), get_in(run, "metadata.iteration") or 0)

    def store_log(self, uid: str, project: str = "", body: bytes | str | None = None, append: bool = False) -> None:
        """Keep what a run printed; without `append` it replaces what is kept."""
        text = body.encode() if isinstance(body, str) else body or b""
        self.store.append_log(active(project), uid, text, afresh=not append)

    def get_log(
        self,
        uid: str,
        project: str = "",
        offset: int = 0,
        size: int | None = None,
        attempt: int | None = None,
    ) -> tuple[str, bytes]:
        """The run's state, "unknown" when it is not stored, and its log from the offset on."""
        runs = self.store.find(RUN, active(project), uid, iter=0)
        state = get_in(runs[0].body, "status.state", "unknown") if runs else "unknown"
        end = None if size in (None, -1) else offset + int(size or 0)
        return state, self.store.read_log(active(project), uid)[offset:end]

    def get_log_size(self, uid: str, project: str = "") -> int:
        """Bytes of log that a run has written."""
        return len(self.store.read_log(active(project), uid))

    def watch_log(
        self, uid: str, project: str = "", watch: bool = True, offset: int = 0, attempt: int | None = None
    ) -> tuple[str, int]:
        """Print a run's log, to its end when `watch` is set; returns the state and the offset after it."""
        while True:
            state, text = self.get_log(uid, project, offset)
            if text:
                sys.stdout.write(text.decode(errors="replace"))
            offset += len(text)
            if not watch or state == "unknown" or state in RunStates.terminal_states():
                return state, offset
            time.sleep(int(mlrun.mlconf.httpdb.logs.pull_logs_default_interval))

    def _put(self, body: dict[str, Any], uid: str, project: str, iter: int) -> None:
        status = body.setdefault("status", {})
        status.pop("artifacts", None)  # they are stored on their own, and read back with the run
        if status.get("state") in RunStates.terminal_states():
            status.setdefault("end_time", now_date().isoformat())
        self.store.put(RUN, project, uid, body, iter=iter)

    def _run(self, uid: str, project: str, iter: int) -> Row:
        rows = self.store.find(RUN, project, uid, iter=iter)
        if not rows:
            raise MLRunNotFoundError(f"run {uid} (iteration {iter}) of project {project} is not in the run database")
        return rows[0]


def _started(run: Row) -> datetime:
    started = utc(get_in(run.body, "status.start_time") or run.created)
    assert started is not None
    return started

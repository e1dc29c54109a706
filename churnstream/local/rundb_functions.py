"""Functions in the local run database, and their deployment through whoever runs processes."""

import copy
import json
import time
from datetime import datetime
from typing import Any, Protocol

import mlrun
from mlrun.common.formatters import FunctionFormat
from mlrun.common.schemas.background_task import (
    BackgroundTask,
    BackgroundTaskMetadata,
    BackgroundTaskSpec,
    BackgroundTaskState,
    BackgroundTaskStatus,
)
from mlrun.errors import MLRunNotFoundError
from mlrun.runtimes import RunError, RuntimeKinds
from mlrun.utils import normalize_name

from churnstream.errors import UnknownFunction
from churnstream.local.rundb_filters import Labels, labels_match, name_matches, one_page, within
from churnstream.local.rundb_store import LATEST, ObjectStore, Row, active, plain

FUNCTION = "function"
READY = "ready"
FAILED = ("error", "unhealthy")
POLL_S = 0.02


class Deployer(Protocol):
    """Whoever runs functions as processes.

    A state is `{"state": "ready"|"error"|..., "address": "host:port", "message": a sentence}`.
    """

    def deploy(self, project: str, name: str, function: dict[str, Any]) -> dict[str, Any]:
        """Start a function from MLRun's dictionary of it, replacing the running one; returns its state."""
        ...

    def state(self, project: str, name: str) -> dict[str, Any]:
        """The state of a deployed function; raises UnknownFunction."""
        ...

    def delete(self, project: str, name: str) -> None:
        """Stop and forget the function; raises UnknownFunction."""
        ...

    def logs(self, project: str, name: str, offset: int) -> tuple[bytes, int]:
        """What the function logged from the offset on, and the next offset; raises UnknownFunction."""
        ...


def deployed_name(name: str, tag: str | None = None) -> str:
    """The name a function runs under: its own, with the tag behind it when that is not "latest"."""
    return normalize_name(name) if tag in (None, "", LATEST) else f"{normalize_name(name)}-{tag}"


class Functions:
    """What MLRun asks about functions and their deployment."""

    store: ObjectStore
    deployer: Deployer

    def store_function(self, function: Any, name: str, project: str = "", tag: str | None = None, versioned: bool = False) -> str:
        """Write a function under a tag; versioned ones stay readable by the hash returned."""
        body = copy.deepcopy(plain(function))
        tag = tag or body["metadata"].get("tag") or LATEST
        key = str(mlrun.utils.fill_function_hash(body, tag))
        body["metadata"] |= {"tag": "", "project": active(project)}
        uid = key if versioned else f"unversioned-{tag}"
        self.store.put(FUNCTION, active(project), normalize_name(name), body, uid=uid, tags={tag})
        return key

    def get_function(self, name: str, project: str = "", tag: str | None = None, hash_key: str = "") -> dict[str, Any]:
        """One function by its tag (or the latest) or hash; raises MLRunNotFoundError."""
        name, tag = normalize_name(name), None if hash_key and not tag else tag or LATEST
        rows = self.store.find(FUNCTION, active(project), name, tag=tag, uid=hash_key or None)
        if not rows:
            asked = mlrun.utils.generate_object_uri(active(project), name, tag, hash_key)
            raise MLRunNotFoundError(f"function {asked} is not in the run database; save, run or deploy it first")
        return _function(rows[0], tag or "")

    def list_functions(
        self,
        name: str | None = None,
        project: str | None = None,
        tag: str | None = None,
        labels: Labels = None,
        since: datetime | str | None = None,
        until: datetime | str | None = None,
        kind: str | None = None,
        format_: Any = FunctionFormat.full,
        states: list[str] | None = None,
    ) -> list[dict[str, Any]]:
        """Functions that match, newest first; without a tag every version, with "*" every tagged one."""
        one_tag = None if tag in (None, "", "*") else tag
        return [
            FunctionFormat.format_obj(_function(row, each), format_)
            for row in self.store.find(FUNCTION, active(project), tag=one_tag)
            if name_matches(row.name, name)
            and kind in (None, row.body.get("kind"))
            and labels_match(row.body["metadata"].get("labels"), labels)
            and within(row.updated, since, until)
            and (not states or (row.body.get("status") or {}).get("state") in states)
            for each in ([one_tag] if one_tag else row.tags or (() if tag == "*" else ("",)))
        ]

    def paginated_list_functions(
        self,
        *args: Any,
        page: int | None = None,
        page_size: int | None = None,
        page_token: str | None = None,
        **asked: Any,
    ) -> tuple[list[dict[str, Any]], str | None]:
        """One page of list_functions, and the token of the next page or None."""
        asked |= dict(zip(("name", "project", "tag", "labels", "since", "until", "kind"), args, strict=False))
        return one_page(self.list_functions, asked, page, page_size, page_token)

    def delete_function(self, name: str, project: str = "") -> None:
        """Stop a function wherever it is deployed and delete all its versions."""
        rows = self.store.find(FUNCTION, active(project), normalize_name(name))
        deployable = [row for row in rows if row.body.get("kind") in RuntimeKinds.nuclio_runtimes()]
        for tag in {tag for row in deployable for tag in row.tags}:
            try:
                self.deployer.delete(active(project), deployed_name(name, tag))
            except UnknownFunction:
                continue  # stored, never deployed: there is nothing to stop
        self.store.remove(rows)

    def get_project_background_task(self, project: str, name: str) -> BackgroundTask:
        """A task that failed: a model server asks before its first answer whether it has model endpoints; none are here."""
        return BackgroundTask(
            metadata=BackgroundTaskMetadata(name=name or "model-endpoints", project=active(project)),
            spec=BackgroundTaskSpec(),
            status=BackgroundTaskStatus(state=BackgroundTaskState.failed, error="one machine has no model endpoints"),
        )

    def deploy_nuclio_function(self, func: Any, builder_env: dict[str, Any] | None = None) -> dict[str, Any]:
        """Store a function and start it; `builder_env` is for building images, which one machine does not do.

        Raises RunError with the deployer's message when it did not start.
        """
        func.metadata.project = project = active(func.metadata.project)
        name = deployed_name(func.metadata.name, func.metadata.tag)
        running = json.loads(mlrun.utils.dict_to_json(func.to_dict()))
        running["spec"]["env"] = [*(running["spec"].get("env") or []), *_environment(func)]
        self._settle(func, name, self.deployer.deploy(project, name, running))
        self.store_function(func, func.metadata.name, project, func.metadata.tag)
        return {"data": func.to_dict()}

    def get_nuclio_deploy_status(self, func: Any, last_log_timestamp: float = 0.0, verbose: bool = False) -> tuple[str, float]:
        """Refresh a function's status; returns its new log text when `verbose`, and where to go on reading.

        Raises RunError with the deployer's message when it failed, UnknownFunction when it is not deployed.
        """
        project, name = active(func.metadata.project), deployed_name(func.metadata.name, func.metadata.tag)
        self._settle(func, name, self.deployer.state(project, name))
        if func.status.state != READY:
            time.sleep(POLL_S)  # MLRun asks again at once: its own pause counts whole seconds, and is set to none
        if not verbose:
            return "", last_log_timestamp
        offset = 0 if last_log_timestamp <= 1 else int(last_log_timestamp)  # MLRun's first question says 1
        text, offset = self.deployer.logs(project, name, offset)
        return text.decode(errors="replace"), float(offset)

    def _settle(self, func: Any, name: str, seen: dict[str, Any]) -> None:
        address = seen.get("address") or ""
        func.status.state = seen["state"]
        func.status.nuclio_name = name
        func.status.address = address
        func.status.external_invocation_urls = [address] if address else []
        if seen["state"] in FAILED:
            self.store_function(func, func.metadata.name, func.metadata.project, func.metadata.tag)
            reason = seen.get("message") or "the deployer gave no reason"
            raise RunError(f"function {func.metadata.project}/{name} is not running: {reason}")


def _environment(func: Any) -> list[dict[str, str]]:
    """What MLRun's API server would put into the environment of the function's pod."""
    env = {"MLRUN_ACTIVE_PROJECT": func.metadata.project}
    if serving := func._get_serving_spec():
        env["SERVING_SPEC_ENV"] = serving
    return [{"name": name, "value": value} for name, value in env.items()]


def _function(row: Row, tag: str) -> dict[str, Any]:
    return row.body | {"metadata": row.body["metadata"] | {"tag": tag, "updated": row.updated}}

"""MLRun without an API server: a run database in one file, put where MLRun looks for its own."""

from pathlib import Path
from typing import Any

import mlrun
import mlrun.db
import mlrun.db.factory
from dependency_injector import providers
from mlrun.db.base import RunDBInterface

from churnstream.errors import NeedsCluster
from churnstream.local.rundb_address import ADDRESS
from churnstream.local.rundb_features import Features
from churnstream.local.rundb_functions import Deployer
from churnstream.local.rundb_projects import Projects
from churnstream.local.rundb_refusals import refuse_the_rest
from churnstream.local.rundb_runs import Runs
from churnstream.local.rundb_store import ObjectStore

__all__ = ["Deployer", "LocalRunDB", "NoDeployer", "activate", "configure_mlrun"]


@refuse_the_rest
class LocalRunDB(Projects, Runs, Features, RunDBInterface):
    """MLRun's run database over one SQLite file; a call that only a cluster can serve raises NeedsCluster."""

    kind = "sqlite"

    def __init__(self, url: str, store: ObjectStore, deployer: Deployer):
        self.url = url
        self.store = store
        self.deployer = deployer

    def connect(self, secrets: Any = None) -> "LocalRunDB":
        """Itself; there is nothing to connect to."""
        return self


class NoDeployer:
    """Stands where nothing can be deployed, such as inside a deployed function; every call says so."""

    def deploy(self, project: str, name: str, function: dict[str, Any]) -> dict[str, Any]:
        """Raises NeedsCluster."""
        raise NeedsCluster("deploying from inside a function", "deploy from a notebook after churnstream.connect()")

    def state(self, project: str, name: str) -> dict[str, Any]:
        """Raises NeedsCluster."""
        raise NeedsCluster("the state of functions from inside a function", "ask `churnstream status`")

    def delete(self, project: str, name: str) -> None:
        """Raises NeedsCluster."""
        raise NeedsCluster("deleting functions from inside a function", "delete from a notebook")

    def logs(self, project: str, name: str, offset: int) -> tuple[bytes, int]:
        """Raises NeedsCluster."""
        raise NeedsCluster("logs of functions from inside a function", "ask `churnstream logs NAME`")


def activate(path: Path, deployer: Deployer | None = None) -> None:
    """Make this file MLRun's run database in this process, and the deployer what `fn.deploy()` reaches.

    It may be called again with another file or deployer. Raises StorageFailed and UnknownVersion.
    """
    store = ObjectStore(path)

    def open_database(url: str) -> LocalRunDB:
        return LocalRunDB(url, store, deployer or NoDeployer())

    mlrun.mlconf.dbpath = ADDRESS
    # The factory's own container: it is copied from the class at the first use of MLRun, maybe before this call.
    database = mlrun.db.factory.RunDBFactory()._rundb_container.run_db
    database.reset_override()
    database.override(providers.Factory(open_database))
    # Data items ask the database that was there when the first one was opened.
    mlrun.datastore.store_manager._db = mlrun.db.get_run_db(ADDRESS, force_reconnect=True)


def configure_mlrun(artifacts: Path, log_level: str = "WARNING") -> None:
    """Set MLRun up for one machine: quiet, offline, deployments polled without pauses.

    Artifacts go to `<artifacts>/<project>/<uid of the run>`, so that no run overwrites a file of another one;
    what a project logs outside of any run goes to `<artifacts>/<project>/project`.
    """
    settings = mlrun.mlconf
    settings.artifact_path = f"{artifacts}/{{{{project}}}}/{{{{run.uid}}}}"
    settings.log_level = log_level
    mlrun.utils.logger.set_logger_level(log_level)
    settings.httpdb.logs.nuclio.pull_deploy_status_default_interval = 0
    settings.httpdb.nuclio.default_service_type = "NodePort"  # addresses of functions are then plain http
    settings.force_run_local = "auto"
    settings.mock_nuclio_deployment = ""

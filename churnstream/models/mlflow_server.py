"""Speaking to an MLflow server: which one is meant, with whose password, and how patiently.

MLflow's client comes with the extra ``mlflow``. Passwords never come into an address that is kept or said: the client takes them
from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, where they stand while it is spoken to.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from churnstream.errors import InvalidSetting, MissingExtra, TrackingFailed

EXTRA = "mlflow"
ENVIRONMENT = "env"
ADDRESS, USER, PASSWORD = "MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
# By itself MLflow asks a server that is away for four minutes, and tells others that it is used.
MANNERS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


def tracking_address(given: str) -> str:
    """The address of the MLflow server that is meant, as it may be kept and said; empty for an empty one.

    ``env`` means that of MLFLOW_TRACKING_URI, which may hold a user and a password. Raises InvalidSetting for what is no address
    of a server, or holds a password and is kept with the run; MissingExtra without MLflow's client.
    """
    if not given:
        return ""
    meant = os.environ.get(ADDRESS, "") if given == ENVIRONMENT else given
    plain, user, password = _taken_apart(meant)
    if not plain:
        where = f"{ADDRESS} (mlflow={ENVIRONMENT!r})" if given == ENVIRONMENT else "mlflow"
        raise InvalidSetting(f"{where} is no address of an MLflow server; one reads http://127.0.0.1:5000")
    if given != ENVIRONMENT and (user or password):
        raise InvalidSetting(
            f"the address of MLflow at {plain} came with a user or a password, and parameters of a run are kept and shown: change"
            f" that password, give the bare address, and set {USER} and {PASSWORD}"
        )
    with _manners(plain):
        _client(plain)
    return plain


@contextmanager
def speaking_to(address: str) -> Iterator[Any]:
    """MLflow's client for ``address``; what goes wrong with it in the block is raised as TrackingFailed."""
    with _manners(address):
        client = _client(address)
        import requests
        from mlflow.exceptions import MlflowException

        try:
            yield client
        except (MlflowException, requests.RequestException, OSError, ImportError) as cause:
            raise TrackingFailed(f"MLflow at {address} {_reason(cause)}") from cause


def _reason(cause: BaseException) -> str:
    import requests

    below: BaseException | None = cause
    while below is not None:
        if isinstance(below, requests.ConnectionError | requests.Timeout):
            return "does not answer"
        below = below.__cause__ or below.__context__
    return f"refuses: {' '.join(str(cause).split())[:300]}"


def _client(address: str) -> Any:
    try:
        from mlflow import MlflowClient
    except ImportError as cause:
        raise MissingExtra("telling MLflow", EXTRA) from cause
    return MlflowClient(address, address)


@contextmanager
def _manners(address: str) -> Iterator[None]:
    """MLflow's own variables as ``address`` needs them; what was set before stands above our manners, and is back afterwards."""
    wanted = {name: value for name, value in MANNERS.items() if name not in os.environ}
    plain, user, password = _taken_apart(os.environ.get(ADDRESS, ""))
    if plain == address and (user or password):
        wanted |= {USER: user, PASSWORD: password}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _taken_apart(uri: str) -> tuple[str, str, str]:
    """The address without user and password, the user, the password; three empty ones for what is no address of a server."""
    try:
        parts = urlsplit(uri.strip())
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "", "", ""
    if parts.scheme not in ("http", "https") or not host:
        return "", "", ""
    host = f"[{host}]" if ":" in host else host
    plain = urlunsplit((parts.scheme, host + port, parts.path.rstrip("/"), "", ""))
    return plain, unquote(parts.username or ""), unquote(parts.password or "")

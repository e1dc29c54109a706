"""The serving function, deployed on a platform of its own, and asked over HTTP on connections that stay."""

import http.client
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import mlrun

import churnstream
import project_setup
from churnstream.local import Home, SupervisorClient
from tests.functions.river import River

PROJECT, NAME = "churnstream", "serving"
INFER = "/v2/models/churn/infer"
HEAD_LENGTH = "Inference-Header-Content-Length"
PATIENCE_S = 30.0


@dataclass(frozen=True)
class Deployed:
    """``address`` is host:port, ``function`` MLRun's object, to be changed and deployed again."""

    river: River
    client: SupervisorClient
    address: str
    function: Any

    @property
    def token(self) -> str:
        """Opens its door."""
        return self.client.home.token()

    def workers(self) -> set[int]:
        """The processes that serve it."""
        return {each["pid"] for each in self.client.find(NAME)["workers"]}


@contextmanager
def deployed(river: River, model: Path | str | None = None, workers: int = 1, **environment: str) -> Iterator[Deployed]:
    """Serving over ``river``, with the model that comes with its case or another one; gone when the block ends."""
    home = Home(river.home)
    client = SupervisorClient(home)
    try:
        with river.environment():
            churnstream.connect(home.root)
            case = {"case": river.case.name}
            project = mlrun.load_project(str(project_setup.HERE), name=PROJECT, parameters=case, save=False)
            project.save_to_db()
            function = project.get_function(NAME)
            if model is not None:
                function.add_model("churn", class_name="ChurnModel", model_path=str(model))
            function.spec.min_replicas = workers
            for name, value in environment.items():
                function.set_env(name, value)
            function.deploy()
            yield Deployed(river, client, str(client.find(NAME)["address"]), function)
    finally:
        client.down(timedelta(0))
        for name in ("MLRUN_DBPATH", "NETRC"):  # which connecting has set
            os.environ.pop(name, None)


@dataclass(frozen=True, slots=True)
class Told:
    """An answer: ``raw`` are the bytes of its body, ``head`` how many of them are JSON."""

    status: int
    raw: bytes
    head: int

    @property
    def body(self) -> Any:
        """Its JSON."""
        return json.loads(self.raw[: self.head])

    @property
    def rest(self) -> bytes:
        """What follows the JSON."""
        return self.raw[self.head :]


class Line:
    """One connection to a function, kept alive: whoever answers first answers on it until it ends."""

    def __init__(self, address: str, token: str):
        host, port = address.split(":")
        self._connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE_S)
        self._headers = {"Authorization": f"Bearer {token}"}

    def ask(self, body: Any, path: str = INFER, headers: Mapping[str, str] | None = None, method: str = "POST") -> Told:
        """One request; ``body`` is JSON's, or bytes. Raises what the connection raises."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", **self._headers, **(headers or {})}
        self._connection.request(method, path, raw, given)
        response = self._connection.getresponse()
        told = response.read()
        return Told(response.status, told, int(response.headers.get(HEAD_LENGTH, len(told))))

    @property
    def port(self) -> int:
        """Its own end, once it has asked."""
        return int(self._connection.sock.getsockname()[1])

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@contextmanager
def line(served: Deployed) -> Iterator[Line]:
    """A connection, closed when the block ends."""
    with closing(Line(served.address, served.token)) as opened:
        yield opened

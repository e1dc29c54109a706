"""Nuclio's own processor, which serves HTTP and runs the wrapper."""

import http.client
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.conformance.drivers import BODY_LIMIT, FUNCTIONS, WRAPPER_FILE, DidNotStart, Running, own_environment
from tests.conformance.messages import Connection, Reply, Request
from tests.conformance.notes import Notes
from tests.waiting import wait_until

LAST_S = 60.0


class NuclioProcessor(Running):
    """One worker behind an HTTP trigger; a ``cron`` is a second trigger, with a worker of its own."""

    def __init__(
        self,
        program: Path,
        wrapper: Path,
        notes: Path,
        place: Path,
        file: str,
        handler: str = "handler",
        cron: Mapping[str, Any] | None = None,
        folder: Path = FUNCTIONS,
    ):
        self.notes = Notes(notes)
        place.mkdir()
        self.address = f"127.0.0.1:{free_port()}"
        for name, told in (("processor", self._function(file, handler, cron)), ("platform", _platform())):
            (place / f"{name}.yaml").write_text(yaml.safe_dump(told))
        command = [str(program), "--config", str(place / "processor.yaml"), "--platform-config", str(place / "platform.yaml")]
        environment = {
            **os.environ,
            "NUCLIO_PYTHON_WRAPPER_PATH": str(wrapper / WRAPPER_FILE),
            "NUCLIO_PYTHON_EXE_PATH": sys.executable,
            "NUCLIO_PYTHON_PATH": str(folder),
            **own_environment(folder, notes),
        }
        self.output = place / "output"
        with self.output.open("wb") as output:
            # a group of its own: the wrapper is its child, and goes when it is killed
            self._process = subprocess.Popen(
                command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
            )
        self._door = Connection(self.address)
        wait_until(lambda: self._process.poll() is not None or self._answers(), "the processor")
        if self._process.poll() is not None:
            raise DidNotStart(self.output.read_text())

    @property
    def pid(self) -> int:
        """Of the processor itself."""
        return self._process.pid

    def ask(self, request: Request) -> Reply:
        return self._door.ask(request)

    def terminate(self) -> None:
        """SIGTERM, which tells the workers before it ends."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        self._end(LAST_S)

    def stop(self) -> None:
        self._end(0)

    def _end(self, patience_s: float) -> None:
        self._door.close()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        else:
            try:
                os.killpg(self._process.pid, signal.SIGKILL)
            except ProcessLookupError:
                return  # nothing is left of it

    def _answers(self) -> bool:
        try:
            return self._door.ask(Request("/__internal/health", method="GET")).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def _function(self, file: str, handler: str, cron: Mapping[str, Any] | None) -> dict[str, Any]:
        web = {"kind": "http", "url": self.address, "attributes": {"maxRequestBodySize": BODY_LIMIT}}
        triggers: dict[str, Any] = {"web": web} | ({"sweep": {"kind": "cron", "attributes": dict(cron)}} if cron else {})
        for trigger in triggers.values():
            trigger |= {"numWorkers": 1, "workerTerminationTimeout": "1s"}  # which is waited for, whether it is needed or not
        return {
            "apiVersion": "nuclio.io/v1",
            "kind": "NuclioFunction",
            "metadata": {"name": file.replace("_", "-"), "namespace": "nuclio"},
            "spec": {"runtime": "python:3.11", "handler": f"{file}:{handler}", "triggers": triggers},
        }


def _platform() -> dict[str, Any]:
    quiet = [{"level": "warn", "sink": "stdout"}]
    return {
        "kind": "local",
        "healthCheck": {"enabled": False},
        "webAdmin": {"enabled": True, "listenAddress": f"127.0.0.1:{free_port()}"},
        "logger": {
            "sinks": {"stdout": {"kind": "stdout", "attributes": {"encoding": "json"}}},
            "system": quiet,
            "functions": quiet,
        },
    }


def free_port() -> int:
    """A port on which nobody listens now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])

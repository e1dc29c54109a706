"""Speaks to the supervisor of a home, and starts one where none runs."""

import fcntl
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from churnstream import failpoints
from churnstream.errors import NotDrained, PlatformFailed, UnknownFunction
from churnstream.local.control_port import VARIABLE as PORT
from churnstream.local.home import Home
from churnstream.local.logs import FORMAT

START_S = 30.0
DEPLOY_S = 300.0
ANSWER_S = 30.0
LOOK_S = 0.02
OURS = (
    "MLRUN_",
    "CHURNSTREAM_",
    "SERVING_",
)  # a function gets these from its specification, not from a notebook's kernel


class SupervisorClient:
    """The supervisor of ``home``, wherever it runs; MLRun's run database deploys through it."""

    def __init__(self, home: Home):
        self.home = home

    def running(self) -> bool:
        """True while a supervisor serves the home."""
        if not self.home.supervisor_lock.exists():
            return False
        handle = os.open(self.home.supervisor_lock, os.O_RDONLY)  # a home that cannot be written can be looked at
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            return False
        except BlockingIOError:
            return True
        finally:
            os.close(handle)

    def up(self) -> bool:
        """Make sure that a supervisor answers; True when it was started now. Raises PlatformFailed."""
        self.home.ensure()
        started = not self.running()
        if started:
            self._start()
        deadline = time.monotonic() + START_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise PlatformFailed(f"the supervisor did not answer within {START_S:g} s; see {self.home.supervisor_log}")
            time.sleep(LOOK_S)
        return started

    def deploy(self, project: str, name: str, function: dict[str, Any]) -> dict[str, Any]:
        """Start a function, or replace the running one; returns its state once it is ready or in error."""
        self.up()
        body = {"function": function, "folder": str(Path.cwd())}
        return self._ask("PUT", _path(project, name), body, DEPLOY_S)

    def state(self, project: str, name: str) -> dict[str, Any]:
        """{"state", "address", "message", …} of a function; raises UnknownFunction."""
        return self._ask("GET", _path(project, name))

    def scale(self, name: str, workers: int, project: str | None = None) -> dict[str, Any]:
        """Serve a function with so many workers from now on; returns its state when they share its shards.

        Raises UnknownFunction as ``find`` does, and PlatformFailed for a number that makes no sense.
        """
        path = _path(self.find(name, project)["project"], name)
        return self._ask("PUT", f"{path}/workers", {"workers": workers}, DEPLOY_S)

    def delete(self, project: str, name: str) -> None:
        """Stop and forget a function; its streams and its log stay. Raises UnknownFunction."""
        if self.running():
            self._ask("DELETE", _path(project, name))
            return
        try:
            self.home.spec(project, name).unlink()
        except FileNotFoundError as cause:
            raise UnknownFunction(f"no function {name!r} of the project {project!r} is deployed here") from cause

    def logs(self, project: str, name: str, offset: int = 0) -> tuple[bytes, int]:
        """The function's log from ``offset`` on, and where to go on; raises UnknownFunction."""
        try:
            with self.home.log(project, name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(offset if offset <= size else 0)  # a smaller file is a new one
                text = file.read()
                return text, file.tell()
        except FileNotFoundError as cause:
            raise UnknownFunction(f"the function {name!r} of the project {project!r} has no log here") from cause

    def status(self) -> dict[str, Any]:
        """The supervisor and its functions; without one, what the home would start."""
        if self.running():
            return self._ask("GET", "/status")
        stopped = [{"project": project, "name": name, "state": "stopped", "streams": []} for project, name in self.home.specs()]
        return {"running": False, "home": str(self.home.root), "functions": stopped}

    def down(self, drain: timedelta) -> list[str] | None:
        """Stop everything; returns sentences about what is unfinished, None when nothing ran.

        Functions have ``drain`` to read what is there; what they leave stays in the streams.
        """
        if not self.running():
            self.home.supervisor_file.unlink(missing_ok=True)
            return None
        seconds = drain.total_seconds()
        unfinished = self._ask("POST", f"/down?deadline={seconds:g}", seconds=seconds + 2 * ANSWER_S)["unfinished"]
        deadline = time.monotonic() + ANSWER_S
        while self.running():
            if time.monotonic() > deadline:
                raise PlatformFailed(f"the supervisor did not end within {ANSWER_S:g} s; see {self.home.supervisor_log}")
            time.sleep(LOOK_S)
        return list(unfinished)

    def drain(self, name: str, deadline: timedelta, project: str | None = None) -> dict[str, Any]:
        """Wait until a function has read and flushed all that is there; returns its positions by shard.

        Raises NotDrained at the deadline, and UnknownFunction as ``find`` does.
        """
        state = self.find(name, project)
        seconds = deadline.total_seconds()
        status, answered = self._request(state["address"], "POST", f"/-/drain?deadline={seconds:g}", seconds=seconds + ANSWER_S)
        if status != 200:
            raise NotDrained(answered.decode(errors="replace"))
        return json.loads(answered)

    def find(self, name: str, project: str | None = None) -> dict[str, Any]:
        """The state of the function called ``name``; raises UnknownFunction for none, or several."""
        named = [each for each in self.status()["functions"] if each["name"] == name]
        found = [each for each in named if project in (None, each["project"])]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UnknownFunction(f"no function {name!r} is deployed here; `churnstream status` lists those that are")
        projects = ", ".join(each["project"] for each in found)
        raise UnknownFunction(f"several projects have a function {name!r} ({projects}); say which one")

    def _start(self) -> None:
        command = [sys.executable, "-m", "churnstream.local.supervisor", "--home", str(self.home.root), "--detach"]
        kept = (failpoints.VARIABLE, FORMAT, PORT)  # said for the whole platform by whoever starts it
        environment = {name: given for name, given in os.environ.items() if name in kept or not name.startswith(OURS)}
        environment |= requests_environment(self.home, environment)
        done = subprocess.run(
            command,
            env=environment,
            cwd=self.home.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=START_S,
            check=False,
        )
        if done.returncode and not self.running():
            raise PlatformFailed(f"the supervisor did not start: {done.stderr.strip()}")

    def _answers(self) -> bool:
        try:
            return self._request(self._address(), "GET", "/-/live", seconds=ANSWER_S)[0] == 200
        except (OSError, PlatformFailed):
            return False

    def _address(self) -> str:
        try:
            return f"127.0.0.1:{json.loads(self.home.supervisor_file.read_text())['port']}"
        except FileNotFoundError as cause:
            raise PlatformFailed(f"nothing runs for {self.home.root}; `churnstream up` starts it") from cause

    def _ask(self, method: str, path: str, body: object = None, seconds: float = ANSWER_S) -> dict[str, Any]:
        if not self.running():
            raise PlatformFailed(f"nothing runs for {self.home.root}; `churnstream up` starts it")
        try:
            status, answered = self._request(self._address(), method, path, body, seconds)
        except OSError as cause:
            raise PlatformFailed(f"the supervisor does not answer ({cause}); see {self.home.supervisor_log}") from cause
        if status == 200:
            return json.loads(answered)
        sentence = _message(answered)
        raise UnknownFunction(sentence) if status == 404 else PlatformFailed(sentence)

    def _request(self, address: str, method: str, path: str, body: object = None, seconds: float = ANSWER_S) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(address, timeout=seconds)
        try:
            text = None if body is None else json.dumps(body, default=str)
            connection.request(method, path, text, {"Authorization": f"Bearer {self.home.token()}"})
            answered = connection.getresponse()
            return answered.status, answered.read()
        finally:
            connection.close()


def requests_environment(home: Home, environment: Mapping[str, str]) -> dict[str, str]:
    """What makes ``requests``, and so ``fn.invoke()``, carry the home's token, past any proxy."""
    direct = [each for each in environment.get("NO_PROXY", "").split(",") if each]
    if "127.0.0.1" not in direct:
        direct.append("127.0.0.1")
    return {"NETRC": str(home.netrc_file), "NO_PROXY": ",".join(direct), "no_proxy": ",".join(direct)}


def _path(project: str, name: str) -> str:
    return f"/functions/{quote(project, safe='')}/{quote(name, safe='')}"


def _message(answered: bytes) -> str:
    try:
        return json.loads(answered)["message"]
    except (ValueError, KeyError, TypeError):
        return answered.decode(errors="replace")

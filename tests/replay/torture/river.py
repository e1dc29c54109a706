"""The local platform under test: started with its failpoints in reach, and helped up as a user would when it was hit."""

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from churnstream import failpoints, topology
from churnstream.errors import ChurnstreamError
from churnstream.local import Home, SupervisorClient
from churnstream.local.specification import Specification
from churnstream.settings import Settings, read_settings
from tests.replay.notebook import ROOT, deploy
from tests.waiting import wait_until

PROJECT = "churnstream"
RIVER = tuple(each.name for each in topology.FUNCTIONS if each.kind != "job")
LONGEST_S = 120.0  # for anything that is waited for; beyond it the run has failed
FAILED = (ChurnstreamError, OSError, http.client.HTTPException)  # what a client sees when the other side is killed


class River:
    """The functions of the first day over a home in ``folder``; its failpoints are armed in ``failpoints``."""

    def __init__(self, folder: Path):
        self.home = Home(folder / "home")
        self.failpoints = folder / "failpoints"
        self.failpoints.mkdir(parents=True, exist_ok=True)
        self.settings: Settings = read_settings({"CHURNSTREAM_HOME": str(self.home.root)})
        self.client = SupervisorClient(self.home)
        self.revived = 0

    def deploy(self, workers: int, flush_seconds: float) -> None:
        """Deploy every function, as the notebooks do, and fill the enrichment table."""
        self.start()
        deploy(self.home.root, RIVER, workers, env={"CHURNSTREAM_FLUSH_SECONDS": str(flush_seconds)})

    def start(self) -> None:
        """As ``churnstream up``, with failpoints in reach of the supervisor, and of all that it starts."""
        os.environ[failpoints.VARIABLE] = str(self.failpoints)
        self.client.up()

    def heal(self) -> None:
        """Start the supervisor when it is gone, and deploy again what it has given up."""
        if not self.client.running():
            self.start()
        for name in RIVER:
            if self.state(name)["state"] == "error":
                self.revived += 1
                self.redeploy(name)

    def redeploy(self, name: str) -> None:
        """Deploy a function once more, as it was; when anyone ends in the middle of it, that is that."""
        function = Specification.load(self.home.spec(PROJECT, name)).function
        with contextlib.suppress(*FAILED):
            self.client.deploy(PROJECT, name, function)

    def state(self, name: str) -> dict[str, Any]:
        """How a function is; all that nobody knows is left out."""
        try:
            return self.client.state(PROJECT, name)
        except FAILED:
            return {"state": "unknown", "workers": []}

    def workers(self, name: str, ready: bool = True) -> list[int]:
        """The process ids of a function's workers; of those only that are at work when ``ready``."""
        return [each["pid"] for each in self.state(name)["workers"] if each["pid"] and (not ready or each["state"] == "ready")]

    def supervisor(self) -> int | None:
        """Its process id."""
        with contextlib.suppress(*FAILED, ValueError):
            return json.loads(self.home.supervisor_file.read_text())["pid"] if self.client.running() else None
        return None

    def nursery(self) -> int | None:
        """Its process id, once it is ready to fork."""
        with contextlib.suppress(psutil.Error):
            found = [
                each for each in psutil.Process(self.supervisor()).children() if "churnstream.local.nursery" in each.cmdline()
            ]
            return found[0].pid if found else None
        return None

    def finish(self) -> None:
        """Return when everything that was fed has gone through every function; raises NotDrained."""
        for name in RIVER:
            wait_until(lambda name=name: (self.heal(), self.state(name)["state"] == "ready")[1], f"{name}'s return", LONGEST_S)
            self.client.drain(name, timedelta(seconds=10 * LONGEST_S))

    def down(self) -> None:
        """Stop everything; no process stays."""
        for name in failpoints.NAMES:
            failpoints.disarm(self.failpoints, name)
        with contextlib.suppress(*FAILED):
            self.client.down(timedelta(seconds=10))


class Producer:
    """The feeding process, started again when it was killed."""

    def __init__(self, river: River, seed: int, customers: int, count: int, piece: int):
        self._command = [sys.executable, "-m", "tests.replay.torture.feed", str(river.home.root)]
        self._command += [str(each) for each in (seed, customers, count, piece)]
        self._environment = os.environ | {
            failpoints.VARIABLE: str(river.failpoints),
            "CHURNSTREAM_FUNCTION": "event-generator",
        }
        self._target = 0
        self._told: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.fed = 0
        self._begin()

    @property
    def pid(self) -> int:
        return self._process.pid

    def feed(self, target: int) -> None:
        """Have at least ``target`` events in the stream, in the end."""
        self._target = max(target, self._target)
        self.heal()
        with contextlib.suppress(BrokenPipeError):  # it is started again at the next look
            self._process.stdin.write(f"{self._target}\n")
            self._process.stdin.flush()

    def heal(self) -> None:
        """Start it again when it was killed; raises RuntimeError when it ended by itself."""
        code = self._process.poll()
        if code not in (None, -signal.SIGKILL):
            raise RuntimeError(f"the producer ended with exit code {code}")
        if code is not None:
            self._begin()
            self.feed(self._target)

    def finish(self, total: int) -> None:
        """Return when all events are in the stream."""
        self.feed(total)
        deadline = time.monotonic() + 10 * LONGEST_S
        while self.fed < total:
            self.heal()
            with contextlib.suppress(queue.Empty):
                self.fed = self._told.get(timeout=1.0)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the producer stands at {self.fed} of {total}")

    def close(self) -> None:
        """End it."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process.stdin.close()
        self._reading.join()
        self._process.stdout.close()

    def _begin(self) -> None:
        if hasattr(self, "_process"):
            self.close()
        self.fed = 0
        self._process: Any = subprocess.Popen(
            self._command, cwd=ROOT, env=self._environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._reading = threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True)
        self._reading.start()

    def _read(self, lines: Iterator[str]) -> None:
        for line in lines:
            self._told.put(int(line))

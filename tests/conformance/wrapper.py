"""Nuclio's own Python wrapper: a process that takes events from a socket, as the processor sends them."""

import base64
import contextlib
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any
from urllib.parse import parse_qsl, unquote

import msgpack

from tests.conformance.drivers import FUNCTIONS, SHARDS, STREAM, WRAPPER_FILE, DidNotStart, Reading, own_environment
from tests.conformance.messages import Reply, Request
from tests.conformance.notes import Notes
from tests.waiting import wait_until

ACK = "streamMessageAck"
START_S = 30.0
WAKE_S = 0.5


class NuclioWrapper(Reading):
    """``reads`` makes it the worker of a Kafka trigger."""

    def __init__(
        self,
        wrapper: Path,
        notes: Path,
        sockets: Path,
        file: str,
        handler: str = "handler",
        reads: bool = False,
        folder: Path = FUNCTIONS,
    ):
        self.notes = Notes(notes)
        self.log: list[dict[str, Any]] = []
        self._kind, self._name = ("kafka-cluster", "records") if reads else ("http", "web")
        self._acknowledged: dict[int, int] = {}
        self._listening: threading.Thread | None = None
        self._ends = dict.fromkeys(range(SHARDS), 0)
        sockets.mkdir()
        listening = [_listen(sockets / name) for name in ("events", "control")]
        command = [
            *(sys.executable, "-u", str(wrapper / WRAPPER_FILE), "--handler", f"{file}:{handler}"),
            *("--event-socket-path", str(sockets / "events"), "--control-socket-path", str(sockets / "control")),
            *("--platform-kind", "local", "--namespace", "nuclio", "--worker-id", "0", "--decode-event-strings"),
            *("--trigger-kind", self._kind, "--trigger-name", self._name),
        ]
        environment = {**os.environ, **own_environment(folder, notes)}
        self._output = sockets / "output"
        with self._output.open("wb") as output:
            self._process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        self._open = contextlib.ExitStack()
        try:
            self._events, control = (self._accepted(each) for each in listening)
            self._answers: IO[str] = self._open.enter_context(self._events.makefile("r", newline="\n"))
            self._until("s")
        except BaseException:
            self.stop()
            raise
        finally:
            for each in listening:
                each.close()
        self._listening = threading.Thread(target=self._hear, args=(control,), name="control")
        self._listening.start()

    def ask(self, request: Request) -> Reply:
        path, _, query = request.path.partition("?")
        event = _event(
            body=request.body,
            content_type=next((each for name, each in request.headers.items() if name.lower() == "content-type"), ""),
            trigger={"kind": self._kind, "name": self._name},
            fields=dict(parse_qsl(query, keep_blank_values=True)),
            headers={_canonical(name): value for name, value in request.headers.items()},
            method=request.method,
            path=unquote(path),
        )
        return self._send(event)

    def append(self, shard: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        offset, self._ends[shard] = self._ends[shard], self._ends[shard] + 1
        # as Nuclio's Kafka trigger does: the values of headers are bytes, and nothing says the body's type
        named = {name: value.encode() for name, value in (headers or {}).items()}
        self._send(
            _event(
                body=body,
                trigger={"kind": self._kind, "name": self._name},
                headers=named,
                path=STREAM,
                shard_id=shard,
                offset=offset,
                topic=STREAM,
            )
        )

    def drain(self) -> None:
        """Drain, and go on, as at a rebalance that leaves the worker its shards."""
        before = len(self.notes.lines())
        self._signal(signal.SIGUSR2, lambda: any(line.startswith("drain") for line in self.notes.lines()[before:]))
        if "drain begins" in self.notes.lines()[before:]:
            wait_until(lambda: "drain ends" in self.notes.lines()[before:], "the end of the drain callback")
        self._process.send_signal(signal.SIGCONT)
        # signals are taken before the next event, whose answer says that they were
        self._send(_event(body=b"", path="/seen", trigger={"kind": "http", "name": "web"}), tries=50)

    def ask_and_drain(self, request: Request, note: str) -> Reply:
        """Ask, drain once the note is there, and return the answer."""
        draining = threading.Thread(target=lambda: (self.notes.wait_for(note), self._process.send_signal(signal.SIGUSR2)))
        draining.start()
        reply = self.ask(request)
        draining.join()
        self.notes.wait_for("drain ends")
        return reply

    def acknowledged(self) -> Mapping[int, int]:
        return dict(self._acknowledged)

    def terminate(self) -> None:
        """Tell the worker that it ends, as the processor does at SIGTERM."""
        before = len(self.notes.lines())
        self._signal(signal.SIGUSR1, lambda: self.notes.lines()[before:])
        wait_until(lambda: not self.notes.lines()[-1].endswith("begins"), "the end of the termination callback")

    def stop(self) -> None:
        """The processor kills its wrappers once they were told."""
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        if self._listening is not None:
            self._listening.join()
        self._open.close()

    def _accepted(self, listening: socket.socket) -> socket.socket:
        listening.settimeout(0.05)
        deadline = time.monotonic() + START_S
        while True:
            try:
                return self._open.enter_context(listening.accept()[0])
            except TimeoutError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise DidNotStart(self._output.read_text()) from None

    def _signal(self, number: signal.Signals, taken: Callable[[], Any]) -> None:
        """A signal that comes while the wrapper is between two events is taken at the next one, which it throws away."""
        self._process.send_signal(number)
        deadline = time.monotonic() + WAKE_S
        while not taken() and time.monotonic() < deadline:
            time.sleep(0.005)
        if not taken():
            packed = msgpack.packb(_event(body=b"", trigger={"kind": self._kind, "name": self._name}))
            self._events.sendall(struct.pack(">I", len(packed)) + packed)
            wait_until(taken, f"what {number.name} calls")

    def _send(self, event: Mapping[str, Any], tries: int = 1) -> Reply:
        packed = msgpack.packb(event)
        for each in range(tries):
            self._events.sendall(struct.pack(">I", len(packed)) + packed)
            self._events.settimeout(0.1 if each + 1 < tries else 30)
            try:
                return _reply(json.loads(self._until("r")))
            except TimeoutError:  # it was thrown away: the worker had not gone on yet
                self._answers = self._open.enter_context(self._events.makefile("r", newline="\n"))
        raise AssertionError("the wrapper did not answer")

    def _until(self, kind: str) -> str:
        """The next line of this kind; logs on the way are kept."""
        while line := self._answers.readline():
            if line[0] == kind:
                return line[1:]
            if line[0] == "l":
                self.log.append(json.loads(line[1:]))
        raise DidNotStart(self._output.read_text() + "\n".join(str(each) for each in self.log))

    def _hear(self, control: socket.socket) -> None:
        with control.makefile("r") as lines:
            for line in lines:
                message = json.loads(line)
                if message["kind"] == ACK:
                    place = message["attributes"]
                    assert place["topic"] == STREAM
                    self._acknowledged[place["partition"]] = place["offset"] + 1


def _event(**given: Any) -> dict[str, Any]:
    body = given["body"]
    nothing = {"content_type": "", "fields": {}, "headers": {}, "method": "", "url": "", "shard_id": -1, "num_shards": 0}
    more = {"type": "", "type_version": "", "version": "", "offset": 0, "topic": "", "timestamp": int(time.time())}
    return {**nothing, **more, "id": str(uuid.uuid4()), "size": len(body), **given}


def _reply(said: Any) -> Reply:
    answer = said[0] if isinstance(said, list) else said  # the processor, too, takes the first of several
    raw = answer["body"].encode() if answer["body_encoding"] == "text" else base64.b64decode(answer["body"])
    headers = {name.lower(): value for name, value in (answer.get("headers") or {}).items() if isinstance(value, str)}
    return Reply(answer["status_code"], raw, answer["content_type"], headers)


def _listen(path: Path) -> socket.socket:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen(1)
    return listening


def _canonical(name: str) -> str:
    return "-".join(part.capitalize() for part in name.split("-"))

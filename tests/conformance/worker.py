"""Our own worker, deployed on a platform of the test's own."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from churnstream.journal import Changes
from churnstream.local import SupervisorClient
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.wiring import Parts, open_parts
from tests.conformance.drivers import BODY_LIMIT, FUNCTIONS, STREAM, DidNotStart, Reading
from tests.conformance.messages import Connection, Reply, Request
from tests.conformance.notes import Notes
from tests.deployable import deployable

READER = "incoming-event-handler"  # a name that the topology knows as a reader of the stream
SOURCE = "event-generator"
HTTP = {"kind": "http", "attributes": {"maxRequestBodySize": BODY_LIMIT}}
EXPLICIT = {"kind": "embedded-stream", "attributes": {"stream": STREAM, "consumerGroup": "g"}, "explicitAckMode": "explicitOnly"}


class OurWorker(Reading):
    """``reads`` gives it a stream; a ``cron`` is an interval, as Go writes it."""

    def __init__(
        self,
        platform: SupervisorClient,
        notes: Path,
        project: str,
        file: str,
        handler: str = "handler",
        reads: bool = False,
        cron: Mapping[str, Any] | None = None,
        folder: Path = FUNCTIONS,
    ):
        self._platform, self._project, self._name = platform, project, READER if reads else file.replace("_", "-")
        self.notes = Notes(notes)
        self._source: Parts | None = None
        self._door: Connection | None = None
        triggers = {"web": HTTP} | ({"records": EXPLICIT} if reads else {})
        if cron:
            triggers["sweep"] = {"kind": "cron", "attributes": cron}
        code = (folder / f"{file}.py").read_bytes()
        function = deployable(
            code,
            self._name,
            project,
            handler=f"{file}:{handler}",
            triggers=triggers,
            env={"NOTES": str(notes)},
            origin_filename=f"{file}.py",
        )
        state = platform.deploy(project, self._name, function)
        if state["state"] != "ready":
            self.stop()
            raise DidNotStart(state["message"])
        self._door = Connection(state["address"], {"Authorization": f"Bearer {platform.home.token()}"})

    def ask(self, request: Request) -> Reply:
        assert self._door is not None
        return self._door.ask(request)

    def append(self, shard: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        if self._source is None:
            home = str(self._platform.home.root)
            self._source = open_parts(SOURCE, read_settings({"CHURNSTREAM_HOME": home, "CHURNSTREAM_PROJECT": self._project}))
        record = Record(body, 1, headers=dict(headers or {}))
        self._source.journal(shard).write(Changes(appends=[(STREAM, record)]), datetime.now(UTC))

    def drain(self) -> None:
        self._platform.drain(self._name, timedelta(seconds=30), self._project)

    def acknowledged(self) -> Mapping[int, int]:
        functions = self._platform.status()["functions"]
        streams = next(each for each in functions if each["project"] == self._project)["streams"]
        return {shard: position for shard, position in enumerate(streams[0]["positions"]) if position}

    def stop(self) -> None:
        if self._door is not None:
            self._door.close()
        if any(each["name"] == self._name for each in self._platform.status()["functions"] if each["project"] == self._project):
            self._platform.delete(self._project, self._name)

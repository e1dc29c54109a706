"""Runs the files in functions/ as a platform would, in one process and without one: init_context, then handler per record."""

import asyncio
import importlib.util
import inspect
import io
import itertools
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import nuclio_sdk
from nuclio.build import mlrun_footer

from churnstream import topology
from churnstream.settings import Settings
from churnstream.wiring import open_positions, open_stream

ROOT = Path(__file__).parents[1]


def load_function(name: str) -> ModuleType:
    """The module of functions/<name>.py, freshly executed; a serving function gets the footer that MLRun appends to it."""
    function = topology.function(name)
    path = ROOT / function.file
    spec = importlib.util.spec_from_file_location(f"door_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    if function.kind == "serving":
        exec(compile(mlrun_footer.format("serving_v2"), "footer", "exec"), module.__dict__)
    return module


class Door:
    """One function, opened; ``with`` starts and ends it."""

    def __init__(self, name: str, settings: Settings, before: Callable[[nuclio_sdk.Context], None] | None = None):
        self.name, self._settings, self._before = name, settings, before
        self.acknowledged: list[dict[str, Any]] = []

    def __enter__(self) -> "Door":
        self._loop = asyncio.new_event_loop()
        logger = nuclio_sdk.Logger(logging.WARNING)
        self.log = io.StringIO()
        logger.set_handler("default", self.log, nuclio_sdk.logger.HumanReadableFormatter())
        platform = nuclio_sdk.Platform("test", on_control_callback=self._note)
        self.context = nuclio_sdk.Context(logger, platform, 0, nuclio_sdk.TriggerInfo("embedded-stream", "test"))
        if self._before:
            self._before(self.context)
        self.module = load_function(self.name)
        try:
            self.run(self._start())
        except BaseException:
            self._loop.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.run(self._signal("termination"))
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def run(self, work: Any) -> Any:
        return self._loop.run_until_complete(work)

    async def _start(self) -> None:
        begun = self.module.init_context(self.context)
        if inspect.isawaitable(begun):
            await begun

    async def _signal(self, kind: str) -> None:
        answer = self.context.platform._on_signal(kind)
        if inspect.isawaitable(answer):
            await answer

    async def _note(self, message: dict[str, Any]) -> None:
        self.acknowledged.append(message["attributes"])

    async def _call(self, event: nuclio_sdk.Event) -> Any:
        named = (getattr(self.module, name, None) for name in ("apply_record", "answer"))  # what spec.function_handler names
        handler = next(filter(None, named), self.module.handler)
        answer = handler(self.context, event)
        return await answer if inspect.isawaitable(answer) else answer

    def drain(self) -> None:
        self.run(self._signal("drain"))

    def post(
        self, body: Any, path: str = "/", content_type: str = "application/json", method: str = "POST", **headers: str
    ) -> Any:
        """An HTTP request; ``body`` as the platform hands it over. Underscores in the names of ``headers`` stand for hyphens."""
        event = nuclio_sdk.Event(
            body=body,
            content_type=content_type,
            trigger=nuclio_sdk.TriggerInfo("http", "http"),
            path=path,
            method=method,
            _id="1",
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )
        return self.run(self._call(event))

    def apply(self, stream: str, shard: int, record: Any) -> Any:
        """One record of a stream."""
        event = nuclio_sdk.Event(
            body=record.payload,
            content_type=record.headers.get("content-type"),
            headers=dict(record.headers),
            trigger=nuclio_sdk.TriggerInfo("embedded-stream", stream),
            shard_id=shard,
            offset=record.offset,
            topic=stream,
            timestamp=datetime.now(UTC),
            method="POST",
            path="/",
            _id=f"{shard}-{record.offset}",
        )
        return self.run(self._call(event))

    def pump(self) -> int:
        """Apply every record that waits in the streams that the function reads; returns how many."""
        count = 0
        for stream in topology.function(self.name).reads:
            reader = open_stream(stream, self._settings)
            positions = open_positions(self.name, self._settings)
            for shard in range(reader.shards):
                offset = positions.get(stream, shard)
                while batch := reader.read(shard, offset):
                    for record in batch:
                        self.apply(stream, shard, record)
                        offset = record.offset + 1
                        count += 1
            reader.close()
            positions.close()
        return count


def serving_environment(function: Any, set_env: Callable[[str, str], None]) -> None:
    """What MLRun's API server puts into the environment of a serving function's pod."""
    set_env("SERVING_SPEC_ENV", function._get_serving_spec())
    set_env("SERVING_CURRENT_FUNCTION", "")


def take(rows: Any, count: int) -> list[Any]:
    return list(itertools.islice(rows, count))

"""A river of one's own: the functions of a case over one home, run by hand, one after another, in one process."""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import mlrun
import pytest

import churnstream.wiring as wiring
import project_setup
from churnstream import topology
from churnstream.codecs import ARROW, decode_batch, encode_json
from churnstream.features.reference import Observed
from churnstream.local.rundb import activate
from churnstream.operations.ledger import Line
from churnstream.reading import totals
from churnstream.records import Delivered, Record, shard_of
from churnstream.usecases import load
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase
from tests.doors import Door, load_function, serving_environment

STEPS = ("incoming-event-handler", "stream-to-parquet", "enrich-stream", "stream-to-features", "serving")


class Job:
    """Stands in for MLRun's context of a run, and remembers what was logged."""

    project = "churnstream"

    def __init__(self, folder: Path) -> None:
        self.outputs: dict[str, Any] = {}
        self.said: list[str] = []
        self.logged: list[str] = []
        self.frames: dict[str, Any] = {}
        self.logger = self
        self.folder = folder

    def info(self, sentence: str) -> None:
        self.said.append(sentence)

    def log_result(self, name: str, value: Any) -> None:
        self.outputs[name] = value

    def log_artifact(self, artifact: Any) -> None:
        self.logged.append(artifact.metadata.key)

    def log_dataset(self, name: str, df: Any, format: str) -> None:
        self.frames[name] = df

    def log_model(self, name: str, model_dir: str, **told: Any) -> None:
        self.logged.append(name)
        shutil.copytree(model_dir, self.folder / name, dirs_exist_ok=True)


class River:
    """The functions of ``case`` over ``home``."""

    def __init__(self, home: Path, case: str, **environment: str):
        self.home = home
        self._environment = {"CHURNSTREAM_HOME": str(home), "CHURNSTREAM_CASE": case} | environment
        with self.environment():
            self.settings = wiring.settings_from_env()
        self.case: UseCase = load(case)

    @contextmanager
    def environment(self, **more: str) -> Iterator[pytest.MonkeyPatch]:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in (self._environment | more).items():
                patch.setenv(name, value)
            yield patch

    def job(self, name: str, handler: str, **params: Any) -> Job:
        """Run a job to its end."""
        with self.environment():
            job = Job(self.home / "models")
            getattr(load_function(name), handler)(job, **params)
        return job

    def generate(self, **params: Any) -> Job:
        return self.job("event-generator", "generate", **{"progress": False} | params)

    def archive(self, **params: Any) -> None:
        """Simulated customers, as far as the archive."""
        self.job("enrichment-table", "build")
        self.generate(**params)
        self.flow("incoming-event-handler", "stream-to-parquet")

    @contextmanager
    def door(
        self, name: str, model: Path | str | None = None, clock: Callable[[], datetime] | None = None, **served: Any
    ) -> Iterator[Door]:
        """The function, opened. ``model`` is the folder of the model to serve, by default the one that comes with the case;
        ``served`` is what else the model is told."""
        with self.environment() as patch:
            if clock is not None:
                patch.setattr(wiring, "open_parts", partial(wiring.open_parts, clock=clock))
            if topology.function(name).kind == "serving":
                activate(self.home / "run.db")
                serving_environment(self._graph(name, model, served), patch.setenv)
            with Door(name, self.settings) as door:
                yield door

    def _graph(self, name: str, model: Path | str | None, served: Mapping[str, Any]) -> Any:
        function = mlrun.new_function(name, kind="serving", image="mlrun/mlrun")
        if name == "serving":
            project_setup.build_serving_graph(function, self.case.name, str(model) if model else None, **served)
        else:
            project_setup.build_features_graph(function)
        return function

    def flow(self, *names: str, model: Path | None = None) -> None:
        """Let everything that waits flow through these functions, in this order."""
        for name in names:
            with self.door(name, model) as door:
                door.pump()
                door.drain()

    def send(self, events: Sequence[Mapping[str, Any]], rows: int = 50) -> None:
        """Put events into the generated stream as they stand, ``rows`` a record, each customer in their shard."""
        shards: dict[int, list[Mapping[str, Any]]] = {}
        for event in events:
            shards.setdefault(shard_of(event[KEY], topology.SHARDS), []).append(event)
        with self.environment():
            parts = wiring.open_parts("event-generator")
            for waiting in shards.values():
                for start in range(0, len(waiting), rows):
                    part = waiting[start : start + rows]
                    with parts.begin() as unit:
                        unit.append(topology.GENERATED, Record(encode_json(part), len(part), part[0][KEY]))
            parts.close()

    def records(self, stream: str, writer: str | None = None) -> list[Delivered]:
        """Every record of a stream, shard by shard."""
        found: list[Delivered] = []
        for name in [writer] if writer else topology.writers(stream):
            reader = wiring.open_stream(stream, self.settings, name)
            for shard in range(reader.shards):
                found += reader.read(shard, 0, max_records=10**9, max_bytes=10**12)
            reader.close()
        return found

    def rows(self, stream: str, writer: str | None = None) -> list[dict[str, Any]]:
        """Every row of a stream, shard by shard."""
        found: list[dict[str, Any]] = []
        for record in self.records(stream, writer):
            if record.headers.get("content-type") == ARROW:
                found += decode_batch(record.payload).to_pylist()
            else:
                found += [json.loads(line) for line in record.payload.splitlines()]
        return found

    def lines(self) -> dict[tuple[str, str], Line]:
        """The ledger over all shards, by (function, source)."""
        return {(line.function, line.source): line for line in totals(self.settings)}

    def observed(self, stream: str = topology.ENRICHED) -> dict[str, list[Observed]]:
        """What a stream tells about each customer, in order of arrival, as the reference wants it."""
        numbers = {each.field for each in self.case.features.features if each.field is not None}
        found: dict[str, list[Observed]] = {}
        for row in self.rows(stream):
            values = {name: float(row[name]) for name in numbers if row[name] is not None}
            found.setdefault(row[KEY], []).append(Observed(row[EVENT_TYPE], row[EVENT_TIME], values))
        return found


def assert_conserved(river: River, *functions: str) -> None:
    """Everything that these functions were given has been read, and accounted for."""
    lines = [line for line in river.lines().values() if line.function in (functions or STEPS)]
    assert lines
    for line in lines:
        assert line.unaccounted == 0, line.sentence()
        assert line.waiting == 0, line.sentence()


def in_root(path: str) -> Path:
    """A path of the project."""
    return project_setup.HERE / path

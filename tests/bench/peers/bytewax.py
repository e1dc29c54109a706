"""Bytewax: one worker in this process, the windows as the state of a stateful map."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import bytewax.operators as op
from bytewax.dataflow import Dataflow
from bytewax.inputs import DynamicSource, StatelessSourcePartition
from bytewax.outputs import DynamicSink, StatelessSinkPartition
from bytewax.testing import run_main

from tests.bench.common import Meter
from tests.bench.features_expected import Sample
from tests.bench.peers.windows import Event, State, newcomer, parse, step

AT_ONCE = 4096

Numbered = tuple[int, bytes]
Row = tuple[str, tuple[int, list[float]]]


class Lines(DynamicSource[Numbered], StatelessSourcePartition[Numbered]):
    def __init__(self, lines: Iterator[Numbered]):
        self._lines = lines

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "Lines":
        return self

    def next_batch(self) -> list[Numbered]:
        batch = list(islice(self._lines, AT_ONCE))
        if not batch:
            raise StopIteration
        return batch


class Rows(DynamicSink[Row], StatelessSinkPartition[Row]):
    def __init__(self, sample: Sample):
        self._sample = sample
        self.rows = 0

    def build(self, step_id: str, worker_index: int, worker_count: int) -> "Rows":
        return self

    def write_batch(self, items: list[Row]) -> None:
        self.rows += len(items)
        for _, (number, row) in items:
            if number in self._sample.wanted:
                self._sample.taken[number] = row


def keyed(numbered: Numbered) -> tuple[str, tuple[int, Event]]:
    number, line = numbered
    who, event = parse(line)
    return who, (number, event)


def stateful(state: State | None, item: tuple[int, Event]) -> tuple[State, tuple[int, list[float]]]:
    state = newcomer() if state is None else state
    number, event = item
    return state, (number, step(state, event))


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    with ndjson.open("rb") as lines:
        flow, sink = Dataflow("windows"), Rows(sample)
        stream = op.input("events", flow, Lines(enumerate(islice(lines, events))))
        rows = op.stateful_map("windows", op.map("key", stream, keyed), stateful)
        op.output("rows", rows, sink)
        with meter:
            run_main(flow)
    assert sink.rows == events

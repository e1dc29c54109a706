"""Churnstream's own runs, one a process: `python -m tests.bench.features_churnstream WHAT EVENTS CUSTOMERS` prints its figures.

What is timed is the storey flow of stream-to-features: a source that emits batches, the step that updates the features, and a
step that takes the rows. It runs on one core, after a batch to warm up; then rows of the timed run are compared with the slow
exact answer.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import storey

from churnstream.codecs import EventDecoder
from churnstream.graph.engine import Applied, WindowEngine
from churnstream.graph.steps import UpdateFeatures
from churnstream.graph.work import Work
from churnstream.usecases import first_day
from churnstream.usecases.case import UseCase
from tests.bench.common import FOLDER, Figures, Meter, pin, say, since_start_s
from tests.bench.features_case import AMOUNTS, CASE, OPS, sliding_case
from tests.bench.features_data import Files, expected_of, first_day_files, read_batches, read_blocks, sliding_files
from tests.bench.features_expected import WIDTH, Sample, WrongAnswer, load


class DecodeEvents(storey.Flow):
    """NDJSON -> a batch of rows: parsing and validation as at the door."""

    def __init__(self, case: UseCase):
        super().__init__(full_event=True)
        self._decoder = EventDecoder(case)

    async def _do(self, event: Any) -> Any:
        if event is not storey.flow._termination_obj:
            event.body = everything(self._decoder, event.body)
        return await self._do_downstream(event)


def everything(decoder: EventDecoder, block: bytes) -> pa.RecordBatch:
    """The batch of a block in which nothing may be refused."""
    found = decoder.decode(block)
    if found.refused:
        raise WrongAnswer(f"an event was refused: {found.refused[0].reason}")
    return found.batch


class TakeRows(storey.Flow):
    """Stands where the features are delivered: takes the rows, and keeps those that will be compared."""

    def __init__(self, sample: Sample, states: bool = False, columns: Sequence[int] | None = None):
        super().__init__(full_event=True)
        self._kept = Kept(sample, columns)
        self._states = states
        self.rows = 0
        self.state_bytes = 0

    async def _do(self, event: Any) -> Any:
        if event is storey.flow._termination_obj:
            return self
        batch, applied = event.body
        if bool(applied.states) != self._states:
            raise WrongAnswer("states were packed" if applied.states else "no state was packed")
        self.rows += len(applied.vectors)
        self.state_bytes += sum(map(len, applied.states.values()))
        self._kept.look(batch.num_rows, applied)
        event.body = None  # as the delivering step does: storey's events refer to themselves, and outlive their use
        event.work.done.set_result(None)
        return None


class Kept:
    """Copies the rows that a sample wants out of what batch after batch did; of a row, ``columns``, or all of it."""

    def __init__(self, sample: Sample, columns: Sequence[int] | None = None):
        self._sample = sample
        self._columns = slice(None) if columns is None else np.array(columns)
        self._wanted = np.sort(np.fromiter(sample.wanted, np.int64))
        self._seen = 0

    def look(self, rows: int, applied: Applied) -> None:
        low, high = np.searchsorted(self._wanted, [self._seen, self._seen + rows])
        for number in self._wanted[low:high].tolist():
            place = int(np.searchsorted(applied.emitted, number - self._seen))
            if place < len(applied.emitted) and applied.emitted[place] == number - self._seen:
                self._sample.taken[number] = applied.vectors[place][self._columns].tolist()
        self._seen += rows


async def through(case: UseCase, bodies: Iterable[Any], steps: Sequence[storey.Flow], sink: TakeRows) -> TakeRows:
    """Send every body through the flow, as a worker sends records; raises what a step raises."""
    flow = storey.build_flow([storey.AsyncEmitSource(), *steps, sink]).run()
    loop = asyncio.get_running_loop()
    for offset, body in enumerate(bodies):
        event = storey.Event(body)
        event.work = Work(case, None, 0, offset, lambda table: (), loop.create_future())  # type: ignore[arg-type] # stores nothing
        await flow.emit(event)
    await flow.terminate()
    return await flow.await_termination()


# -- what is measured -----------------------------------------------------------------------------------------------------------

Run = Callable[[Files], Figures]
NOTHING = Sample([], 0)


def flow_run(case: UseCase, from_json: bool = False, states: bool = False) -> Run:
    """The flow over a file, from Arrow batches or from JSON, with or without the states that would be stored."""

    def steps() -> list[storey.Flow]:
        update = UpdateFeatures(states)
        return [DecodeEvents(case), update] if from_json else [update]

    def run(files: Files) -> Figures:
        def bodies() -> Iterator[Any]:
            return read_blocks(files.ndjson, files.events) if from_json else read_batches(files.arrow)

        meter, sample = Meter(), load(files.expected, files.events)
        asyncio.run(through(case, islice(bodies(), 1), steps(), TakeRows(NOTHING, states)))
        with meter:
            sink = asyncio.run(through(case, bodies(), steps(), TakeRows(sample, states)))
        figures: Figures = {"rows": sink.rows}
        if states:
            figures["state_mb"] = round(sink.state_bytes / 1e6)
        return {**meter.figures(files.events), **figures, "compared": sample.check()}

    return run


def update_run(files: Files) -> Figures:
    """The engine alone, on batches that lie in memory: what is left when decoding and the flow cost nothing."""
    batches = list(read_batches(files.arrow))
    WindowEngine(CASE).apply(batches[0], states=False)
    meter, sample = Meter(), load(files.expected, files.events)
    engine, kept = WindowEngine(CASE), Kept(sample)
    with meter:
        for batch in batches:
            kept.look(batch.num_rows, engine.apply(batch, states=False))
    return {**meter.figures(files.events), "compared": sample.check()}


def decode_run(files: Files) -> Figures:
    """The door alone: from JSON to batches, everything validated."""
    meter, decoder, rows = Meter(), EventDecoder(CASE), 0
    everything(decoder, next(read_blocks(files.ndjson, files.events)))
    with meter:
        for block in read_blocks(files.ndjson, files.events):
            rows += everything(decoder, block).num_rows
    if rows != files.events:
        raise WrongAnswer(f"{rows} events were decoded of {files.events}")
    return meter.figures(files.events)


def start_run(files: Files) -> Figures:
    """From the start of the process to the features after one event, which comes as JSON; compiled kernels lie on disk."""
    with files.ndjson.open("rb") as file:
        first = file.readline()
    meter, sample = Meter(as_it_is=True), Sample([expected_of(first)], 1)
    with meter:
        asyncio.run(through(CASE, [first], [DecodeEvents(CASE), UpdateFeatures()], TakeRows(sample, states=True)))
        seconds = since_start_s()
    return {**meter.figures(1), "events_per_s": None, "seconds": round(seconds, 2), "compared": sample.check()}


@dataclass(frozen=True, slots=True)
class What:
    """One thing that is measured; ``title`` is its name in the results.

    ``run`` measures it in this process, and raises WrongAnswer rather than give the figures of a run that was wrong.
    """

    title: str
    run: Run
    on_first_day: bool = False
    needs_ndjson: bool = False

    def files(self, events: int, customers: int, folder: Path = FOLDER) -> Files:
        """The file that it reads, made if it is not there yet."""
        if self.on_first_day:
            return first_day_files(events, customers, folder)
        return sliding_files(events, customers, self.needs_ndjson, folder)


WHATS = {
    "arrow": What("24 sliding features, from Arrow batches", flow_run(CASE)),
    "json": What("24 sliding features, from JSON, decoded and validated", flow_run(CASE, from_json=True), needs_ndjson=True),
    "states": What("24 sliding features, from Arrow batches, with the states that are stored", flow_run(CASE, states=True)),
    "first-day": What("13 first-day features, from Arrow batches", flow_run(first_day.CASE), on_first_day=True),
    "update": What("floor: 24 sliding features, the update alone", update_run),
    "decode": What("floor: JSON, decoding and validation alone", decode_run, needs_ndjson=True),
    "start": What("start of a process to the first features", start_run, needs_ndjson=True),
}


def windows_run(files: Files, windows: int) -> Figures:
    """The flow with ``windows`` windows an amount, evenly spread up to 24 hours; of its rows, those 24 hours are compared."""
    case = sliding_case([timedelta(hours=24) * (place + 1) / windows for place in range(windows)])
    longest = [len(OPS) * (windows * amount + windows - 1) + op for amount in range(len(AMOUNTS)) for op in range(len(OPS))]
    theirs = [WIDTH * amount + len(OPS) + op for amount in range(len(AMOUNTS)) for op in range(len(OPS))]
    columns = np.zeros(WIDTH * len(AMOUNTS), int)
    columns[theirs] = longest
    meter, sample = Meter(), load(files.expected, files.events)
    asyncio.run(through(case, islice(read_batches(files.arrow), 1), [UpdateFeatures(states=False)], TakeRows(NOTHING)))
    with meter:
        asyncio.run(
            through(case, read_batches(files.arrow), [UpdateFeatures(states=False)], TakeRows(sample, columns=columns.tolist()))
        )
    return {**meter.figures(files.events), "compared": sample.check(places=theirs)}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure one thing, here, on one core.")
    parser.add_argument("what", choices=[*WHATS, "windows"])
    parser.add_argument("events", type=int)
    parser.add_argument("customers", type=int)
    parser.add_argument("--windows", type=int, default=2, help="how many an amount, where windows are counted")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the files lie, or are made")
    given = parser.parse_args(arguments)
    pin()
    if given.what == "windows":
        say(**windows_run(sliding_files(given.events, given.customers, False, given.folder), given.windows))
    else:
        what = WHATS[given.what]
        say(**what.run(what.files(given.events, given.customers, given.folder)))
    return 0


if __name__ == "__main__":
    sys.exit(main())

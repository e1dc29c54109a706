"""The storey steps of the features graph; MLRun builds them by class name.

Each takes a whole batch, keeps the Event object it was given, and hands it on. ``Fail`` is the graph's error handler: whatever
any step raises ends in the record's promise, so that the worker tries the record again instead of passing it.
"""

import json
from typing import Any

import numpy as np
import pyarrow as pa
import storey

from churnstream.codecs import ARROW, decode_batch, encode_batch
from churnstream.graph.desk import Desk
from churnstream.graph.engine import Applied, WindowEngine
from churnstream.graph.work import Work
from churnstream.records import Record
from churnstream.streams.delivery import places_in_record
from churnstream.topology import FEATURES, SERVING
from churnstream.usecases.case import EVENT_TIME, KEY, spell


class DecodeBatch:
    """Arrow IPC bytes -> a batch of rows."""

    def do(self, event: bytes) -> pa.RecordBatch:
        return decode_batch(event)


class UpdateFeatures(storey.Flow):
    """A batch of rows -> (the batch, what it did to the features), with the ``states`` that changed unless nobody stores them.

    One engine a shard, restored from the feature table when a record comes that is not the one after its last: the first, and the
    first after another worker had the shard. It is dropped when a record fails: memory never runs ahead of what is durable.
    """

    def __init__(self, states: bool = True, **kwargs: Any):
        super().__init__(**{**kwargs, "full_event": True})
        self._states = states
        self._desk = Desk()
        self._engines: dict[int, tuple[WindowEngine, int]] = {}  # shard -> its engine, and the offset that it waits for

    async def _do(self, event: Any) -> Any:
        if event is storey.flow._termination_obj:  # a flush as well, after which what is durable is still what is here
            return await self._do_downstream(event)
        work: Work = event.work
        work.done.add_done_callback(lambda done: self._forget_if_failed(work, done))
        event.body = (event.body, self._engine(work).apply(event.body, self._states))
        return await self._do_downstream(event)

    def _engine(self, work: Work) -> WindowEngine:
        engine, waits_for = self._engines.get(work.shard, (None, -1))
        if engine is None or work.aside or work.offset != waits_for:
            engine = WindowEngine(work.case, self._desk)
            engine.restore(work.stored(FEATURES))
        self._engines[work.shard] = engine, work.offset + 1
        return engine

    def _forget_if_failed(self, work: Work, done: Any) -> None:
        if work.aside or done.cancelled() or done.exception() is not None:
            self._engines.pop(work.shard, None)


class DeliverFeatures(storey.Flow):
    """Makes a batch's effects durable: states to the table, vectors to the serving stream, late rows to the dead letters."""

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "full_event": True})

    async def _do(self, event: Any) -> Any:
        if event is storey.flow._termination_obj:
            return await self._do_downstream(event)
        batch, applied = event.body
        work: Work = event.work
        deliver(batch, applied, work)
        event.body = {"applied": batch.num_rows - len(applied.late), "late": len(applied.late), "vectors": len(applied.vectors)}
        await self._do_downstream(event)
        work.done.set_result(event.body)
        return None


class Fail(storey.Flow):
    """The error handler of the graph: keeps the record's promise by breaking it."""

    def __init__(self, **kwargs: Any):
        super().__init__(**{**kwargs, "full_event": True})

    async def _do(self, event: Any) -> Any:
        if event is storey.flow._termination_obj:
            return await self._do_downstream(event)
        if not event.work.done.done():
            event.work.done.set_exception(_cause(event.error))
        return None


def _cause(error: Any) -> BaseException:
    """What the step raised; MLRun hands some errors on by their name and message only."""
    return error if isinstance(error, BaseException) else RuntimeError(str(error))


def deliver(batch: pa.RecordBatch, applied: Applied, work: Work) -> None:
    """Commit one batch's effects as one unit; raises StorageFailed, after which nothing of them is there."""
    unit = work.unit
    for key, state in applied.states.items():
        unit.put(FEATURES, key, state)
    if len(applied.vectors):
        vectors = vector_batch(batch, applied, work)
        unit.append(SERVING, Record(encode_batch(vectors), vectors.num_rows, headers={"content-type": ARROW}))
    for row in applied.late.tolist():
        sentence = f"the event is late: more than {spell(work.case.features.lateness)} behind the newest event of its customer"
        unit.refuse(sentence, json.dumps(batch.slice(row, 1).to_pylist()[0], default=str).encode(), row)
    unit.count("applied", batch.num_rows - len(applied.late))
    unit.count("late", len(applied.late))
    unit.commit()


def vector_batch(batch: pa.RecordBatch, applied: Applied, work: Work) -> pa.RecordBatch:
    """What serving reads: user_id, event_time, the features in order, and where the event stood in its stream."""
    rows = pa.array(applied.emitted)
    columns = {
        KEY: batch.column(batch.schema.get_field_index(KEY)).take(rows),
        EVENT_TIME: batch.column(batch.schema.get_field_index(EVENT_TIME)).take(rows),
    }
    columns |= {name: pa.array(applied.vectors[:, place]) for place, name in enumerate(work.case.features.names)}
    columns["origin_offset"] = pa.array(np.full(len(rows), work.offset, np.int64))
    columns["origin_row"] = pa.array(places_in_record(applied.emitted, work.left_out).astype(np.int32))
    return pa.RecordBatch.from_pydict(columns)

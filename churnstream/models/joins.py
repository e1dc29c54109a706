"""The join with the lookup table as it was when each event came by, so that training learns from what the stream has told.

A lookup table changes: who joins the archive with it today may get another number than the customer's features hold. So
enrich-stream writes down what it joins (``stages.enrich.joins``). An event that it has not joined yet, or that it joined before
it wrote such things down, gets what the table says today.
"""

from collections.abc import Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from churnstream.codecs import schema
from churnstream.stages.enrich import decode_number, enrich, split_join
from churnstream.tables.base import TableReader
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

AS_JOINED = "as_joined"
BATCH_ROWS = 65_536


def with_joins(archive: pa.Table, case: UseCase, joined: TableReader) -> pa.Table:
    """``archive`` with the column ``as_joined``: the number that enrich-stream joined, null where none was written down.

    A case without a lookup table has no such column.
    """
    if case.enrichment is None:
        return archive
    told = [(*split_join(key), decode_number(value)) for key, value in joined.items()]
    known = pd.DataFrame(told, columns=[EVENT_TIME, KEY, AS_JOINED]).astype({KEY: object, AS_JOINED: float})
    known = known.drop_duplicates([EVENT_TIME, KEY], keep="last")
    instants = archive.column(EVENT_TIME).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
    events = pd.DataFrame({EVENT_TIME: instants.to_numpy(), KEY: archive.column(KEY).to_pandas().astype(object)})
    found = events.merge(known.astype({EVENT_TIME: "int64"}), how="left", on=[EVENT_TIME, KEY])[AS_JOINED]
    joins = pc.equal(archive.column(EVENT_TYPE).cast(pa.string()), case.enrichment.event)
    values = pc.if_else(joins, pa.array(found.to_numpy(), from_pandas=True), pa.scalar(None, pa.float64()))
    return archive.append_column(AS_JOINED, values)


def joined_today(archive: pa.Table, case: UseCase) -> int:
    """How many events of an archive ``with_joins`` get what the lookup table says today."""
    if case.enrichment is None:
        return 0
    events = archive.filter(pc.equal(archive.column(EVENT_TYPE).cast(pa.string()), case.enrichment.event))
    return int(events.column(AS_JOINED).null_count)


def enriched(archive: pa.Table, case: UseCase, lookup: TableReader | None) -> Iterator[pa.RecordBatch]:
    """The archive's events in their order as enrich-stream passes them on: as it has where that is known, else by ``lookup``."""
    columns, told = schema(case), AS_JOINED in archive.column_names
    if told:
        columns = columns.append(pa.field(AS_JOINED, pa.float64()))
    for batch in archive.select(columns.names).cast(columns).combine_chunks().to_batches(BATCH_ROWS):
        events = enrich(batch.drop_columns([AS_JOINED]) if told else batch, case, lookup)[0]
        if told and case.enrichment is not None and case.enrichment.column in events.schema.names:
            place = events.schema.get_field_index(case.enrichment.column)
            values = pc.coalesce(batch.column(AS_JOINED), events.column(place))
            events = events.set_column(place, case.enrichment.column, values)
        yield events

"""enrich-stream: joins each batch with the lookup table, passes every event on, and writes down what it has joined."""

from churnstream.codecs import ARROW, decode_batch, encode_batch
from churnstream.records import Record
from churnstream.stages.enrich import enrich, joins
from churnstream.topology import ENRICHED, JOINED
from churnstream.wiring import open_parts


def init_context(context):
    parts = open_parts("enrich-stream")
    context.user_data.parts = parts
    context.user_data.lookup = parts.table(parts.case.enrichment.table) if parts.case.enrichment else None


def handler(context, event):
    parts = context.user_data.parts
    with parts.begin(event) as unit:
        if unit.replayed:
            return {"replayed": True}
        batch, unknown = enrich(decode_batch(event.body), parts.case, context.user_data.lookup)
        unit.append(ENRICHED, Record(encode_batch(batch), batch.num_rows, headers={"content-type": ARROW}))
        for key, value in joins(batch, parts.case).items():
            unit.put(JOINED, key, value, owner="")  # beside the position, so that it is written once
        unit.count("applied", batch.num_rows)
        unit.count("unknown", unknown)
    return {"enriched": batch.num_rows, "unknown": unknown}

"""Bytes to events and back; the only room that knows both.

Outside, JSON: one event, an array of events, or one event a line. Inside, Arrow IPC: a batch of rows with one column a field, so
that only the first hop pays for JSON.
"""

from churnstream.codecs.batches import ARROW, ARROW_TYPES, JSON, NDJSON, decode_batch, encode_batch, encode_json, schema
from churnstream.codecs.decoder import Decoded, EventDecoder
from churnstream.codecs.judge import Refused

__all__ = [
    "ARROW",
    "ARROW_TYPES",
    "JSON",
    "NDJSON",
    "Decoded",
    "EventDecoder",
    "Refused",
    "decode_batch",
    "encode_batch",
    "encode_json",
    "schema",
]

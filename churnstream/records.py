"""A stream's record, and the one rule that gives a customer a shard."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache


@dataclass(frozen=True, slots=True)
class Record:
    """What a producer hands over: ``rows`` events in ``payload``; ``headers`` tell its content type."""

    payload: bytes
    rows: int = 1
    key: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Delivered:
    """A record as it is read: where it stands, and when it was appended (aware, UTC)."""

    stream: str
    shard: int
    offset: int
    appended_at: datetime
    payload: bytes
    rows: int
    key: str
    headers: Mapping[str, str]


@lru_cache(maxsize=4_096)  # a unit of work asks again and again for the few keys that it is about
def shard_of(key: str, shards: int) -> int:
    """The shard of a key: Kafka's own partition for it (murmur2 of the UTF-8 bytes, sign dropped, modulo the shards).

    Java clients, Kafka Connect and Debezium choose the same; librdkafka with ``partitioner=murmur2_random``.
    Source: ``org.apache.kafka.common.utils.Utils.murmur2``, Austin Appleby's MurmurHash2, 32 bits, seed 0x9747b28c.

    >>> [shard_of(key, 8) for key in ("", "21", "foobar")]
    [1, 4, 6]
    """
    return (_murmur2(key.encode()) & 0x7FFFFFFF) % shards


def _murmur2(data: bytes) -> int:
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    length = len(data)
    result = 0x9747B28C ^ length
    whole = length - length % 4
    for start in range(0, whole, 4):
        word = int.from_bytes(data[start : start + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        result = (result * multiplier & mask) ^ word
    rest = data[whole:]
    if rest:
        result = (result ^ int.from_bytes(rest, "little")) * multiplier & mask
    result = (result ^ result >> 13) * multiplier & mask
    return result ^ result >> 15

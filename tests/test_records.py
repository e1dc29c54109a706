"""The shard of a customer is Kafka's partition of the same key."""

import pytest

from churnstream.records import shard_of

# Apache Kafka, clients/src/test/java/org/apache/kafka/common/utils/UtilsTest.java, testMurmur2
PUBLISHED = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}


@pytest.mark.parametrize(("key", "hashed"), PUBLISHED.items())
@pytest.mark.parametrize("shards", [1, 8, 12, 2**31])
def test_a_key_has_the_partition_that_kafka_gives_it(key: str, hashed: int, shards: int) -> None:
    assert shard_of(key, shards) == (hashed & 0x7FFFFFFF) % shards


def test_keys_are_hashed_by_their_utf8_bytes() -> None:
    assert shard_of("\u00e9", 2**31) != shard_of("e\u0301", 2**31)


def test_customers_are_spread_evenly() -> None:
    counts = [0] * 8
    for number in range(8_000):
        counts[shard_of(f"s1-u{number:06d}", 8)] += 1
    assert min(counts) > 900
    assert max(counts) < 1_100

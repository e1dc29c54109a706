"""Quix Streams: a stateful function over a topic, the windows kept as JSON in its RocksDB state.

It reads from Kafka only, so librdkafka's own mock broker stands in, in this process; the events are on it before the clock
starts. It keeps few megabytes, and does not answer every question that Quix asks of a topic, so those answers are given here.
"""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from quixstreams import Application
from quixstreams.models.topics import TopicConfig
from quixstreams.models.topics.admin import TopicAdmin

from tests.bench.common import Meter
from tests.bench.features_expected import Sample
from tests.bench.peers.windows import newcomer, parse, step

TOPIC = "events"
SETTINGS = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "message.timestamp.type": "CreateTime"}


def broker(ndjson: Path, events: int) -> tuple[Producer, str]:
    """A mock broker that holds the events, alive as long as the producer is, and where it listens."""
    producer = Producer(
        {"test.mock.num.brokers": 1, "bootstrap.servers": "mock", "compression.type": "zstd", "linger.ms": 20, "log_level": 0}
    )
    found = producer.list_topics(timeout=10).brokers.values()
    producer.list_topics(TOPIC, timeout=10)  # asking for a topic creates it
    with ndjson.open("rb") as lines:
        for line in islice(lines, events):
            producer.produce(TOPIC, line, key=line[12 : line.index(b'"', 12)], partition=0)
            producer.poll(0)
    producer.flush(60)
    return producer, ",".join(f"{each.host}:{each.port}" for each in found)


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    producer, address = broker(ndjson, events)
    TopicAdmin.inspect_topics = lambda self, names, **options: {name: TopicConfig(1, 1, SETTINGS) for name in names}
    seen = 0

    def windows(line: bytes, state: Any) -> list[float]:
        _, event = parse(line)
        customer = state.get("windows") or newcomer()
        row = step(customer, event)
        state.set("windows", customer)
        return row

    def take(row: list[float]) -> None:
        nonlocal seen
        if seen in sample.wanted:
            sample.taken[seen] = row
        seen += 1
        if seen == events:
            meter.__exit__()
            application.stop()

    def begin(line: bytes) -> None:
        if seen == 0:
            meter.__enter__()

    with tempfile.TemporaryDirectory() as folder:
        application = Application(
            broker_address=address,
            consumer_group="bench",
            auto_offset_reset="earliest",
            auto_create_topics=False,
            use_changelog_topics=False,
            state_dir=folder,
            loglevel="ERROR",
        )
        topic = application.topic(TOPIC, value_deserializer="bytes", key_deserializer="str")
        frame = application.dataframe(topic).update(begin).apply(windows, stateful=True)
        frame.update(take)
        application.run()
    producer.flush()

"""event-generator: puts a case's events into the generated stream, simulated or replayed from a file."""

import sys
import time
from pathlib import Path

from tqdm import tqdm

from churnstream.errors import InvalidSetting
from churnstream.stages.pressure import Pressure
from churnstream.stages.produce import Producer, file_digest, head, producer_name, replay
from churnstream.topology import GENERATED
from churnstream.wiring import open_parts, settings_from_env


def generate(
    context,
    case: str = "",
    customers: int = 1_000,
    events: int = 0,
    seed: int = 1,
    data: str = "",
    rate: float = 0.0,
    progress: bool = True,
):
    """Simulate ``customers`` with ``events`` in all (0: 1,000 each) beside their registrations, or replay the file ``data``.

    ``events`` also bounds how much of a file is replayed; ``rate`` is a target in events per second, 0 for flat out. The same
    arguments give the same events, and running again adds none that are there. Logs ``produced``, ``already_there``,
    ``events_per_s`` and ``seconds``.
    """
    parts = open_parts("event-generator", settings_from_env(context.project, case))
    source, simulate = parts.case.source, parts.case.simulate
    if data:
        if source is None:
            raise InvalidSetting(
                f"the case {parts.case.name} says of no file how it becomes events; leave data empty to simulate"
            )
        path = Path(data)
        total, stream = replay(path, source)
        total, stream = (min(total, events), head(stream, events)) if events else (total, stream)
        name = producer_name(parts.case.name, file=file_digest(path), events=events)
    else:
        if simulate is None:
            raise InvalidSetting(f"the case {parts.case.name} has no simulation; name a file with data=...")
        events = events or customers * 1_000
        total, stream = customers + events, simulate(seed, customers, events)
        world = f"{parts.case.name}/seed {seed}"
        name = producer_name(world, customers=customers, events=events)
        if any(
            each.startswith(f"{world}/") and each != name
            for shard in range(parts.shards)
            for each in parts.journal(shard).producers()
        ):
            raise InvalidSetting(
                f"the stream holds the people of seed {seed} already, in another number or with another number of events:"
                " choose another seed, or empty the streams (churnstream reset)"
            )
    pressure = Pressure(GENERATED, lambda: parts.unread(GENERATED), parts.settings.backlog_rows)
    producer = Producer(name, parts.begin, lambda shard, producer: parts.journal(shard).sequence(producer), wait=pressure.wait)
    began = time.perf_counter()
    with tqdm(total=total, unit=" events", disable=not progress, mininterval=0.5, file=sys.stdout) as bar:
        for place, event in enumerate(stream, start=1):
            producer.add(event)
            if rate and place % 64 == 0:
                producer.flush()
                time.sleep(max(0.0, place / rate - (time.perf_counter() - began)))
            if place % 1_024 == 0:
                bar.update(1_024)
        producer.flush()
        bar.update(total - bar.n)
    seconds = time.perf_counter() - began
    context.log_result("produced", producer.sent)
    context.log_result("already_there", producer.passed_over)
    context.log_result("seconds", round(seconds, 3))
    context.log_result("events_per_s", round(total / seconds) if seconds else 0)

"""No framework: a loop, a dict of customers, and lists."""

from itertools import islice
from pathlib import Path

from tests.bench.common import Meter
from tests.bench.features_expected import Sample
from tests.bench.peers.windows import State, newcomer, parse, step


def run(ndjson: Path, events: int, meter: Meter, sample: Sample) -> None:
    customers: dict[str, State] = {}
    with ndjson.open("rb") as lines, meter:
        for number, line in enumerate(islice(lines, events)):
            who, event = parse(line)
            state = customers.get(who)
            if state is None:
                state = customers[who] = newcomer()
            row = step(state, event)
            if number in sample.wanted:
                sample.taken[number] = row

"""One peer's run: `python -m tests.bench.peers.run NAME NDJSON EXPECTED EVENTS` prints its figures, or fails with a sentence."""

import sys
from importlib import import_module
from pathlib import Path

from tests.bench.common import Figures, Meter, pin, say
from tests.bench.features_expected import load
from tests.bench.features_peers import Peer, peer


def measure(chosen: Peer, ndjson: Path, expected: Path, events: int) -> Figures:
    """Run a peer over the first ``events`` events; raises WrongAnswer rather than give the figures of a run that was wrong."""
    meter, sample = Meter(), load(expected, events)
    import_module(chosen.module).run(ndjson, events, meter, sample)
    return {**meter.figures(events), "compared": sample.check(**chosen.held_to)}


if __name__ == "__main__":
    pin()
    name, ndjson, expected, events = sys.argv[1:]
    say(**measure(peer(name), Path(ndjson), Path(expected), int(events)))

"""The peers: who they are, what each computes, and of how many events at most. The standard library only."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.bench.common import ROOT

ENVIRONMENTS = ROOT / "build" / "peers"  # one a peer, made by scripts/set-up-peers
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "PATHWAY_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, slots=True)
class Peer:
    """One peer. The slow ones read the first ``events`` of the file only; ``held_to`` is what ``Sample.check`` is told."""

    name: str
    what: str
    events: int
    held_to: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False  # it stands in the project's own environment

    @property
    def module(self) -> str:
        """Where its ``run(ndjson, events, meter, sample)`` stands."""
        return f"tests.bench.peers.{self.name}"


LOOSE = 1e-6  # who subtracts what leaves a window, or takes one large square from another, is not held to more
EVERY = 10**9

PEERS = (
    Peer(
        "storey",
        "AggregateByKey, a row an event; it moves the windows of the event's own amount only, and those are compared",
        50_000,
        {"own": True, "tolerance": LOOSE},
        ours=True,
    ),
    Peer("python", "a loop over dicts and lists, a row an event", 1_000_000, {"tolerance": LOOSE}, ours=True),
    Peer("bytewax", "stateful_map around the plain Python, a row an event", 500_000, {"tolerance": LOOSE}),
    Peer(
        "river",
        "TimeRolling of Sum, Mean and Var, windows of exactly 1 h and 24 h, a row an event; own amount only, as storey",
        50_000,
        {"own": True, "exact": True, "tolerance": LOOSE},
    ),
    Peer("quixstreams", "stateful apply around the plain Python, state in RocksDB, a row an event", 20_000, {"tolerance": LOOSE}),
    Peer("pathway", "windowby sliding, a row a customer and window, at the end", 5_000, {"closing": True, "tolerance": LOOSE}),
    Peer("polars", "one batch on one thread, a row a customer and pane", EVERY, {"closing": True, "tolerance": LOOSE}),
    Peer("duckdb", "one batch on one thread, a row a customer and pane", EVERY, {"closing": True, "tolerance": LOOSE}),
)


def peer(name: str) -> Peer:
    """The peer of that name; raises KeyError."""
    return {each.name: each for each in PEERS}[name]

"""kill -9 in the middle of the river: what comes out is what would have come out anyway."""

import contextlib
import hashlib
import os
import random
import signal
import time
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds
import pytest

from churnstream import topology
from churnstream.local import Home, SupervisorClient
from churnstream.operations.ledger import Line
from churnstream.reading import peek, totals
from churnstream.settings import Settings, read_settings
from churnstream.wiring import open_table
from tests.replay.notebook import deploy, generate
from tests.waiting import wait_until

pytestmark = pytest.mark.slow

RIVER = [each.name for each in topology.FUNCTIONS if each.kind != "job"]
KILLS = 12
CUSTOMERS, EVENTS = 200, 60_000
RATE = 12_000  # events a second, while functions are killed


def run_river(home: Path, kills: int) -> tuple[Settings, list[Line]]:
    """The whole river over the same seeded events, its processes killed ``kills`` times at seeded random moments."""
    client = SupervisorClient(Home(home))
    rng = random.Random(kills)
    try:
        deploy(home, RIVER)
        with generate(home, CUSTOMERS, EVENTS, RATE if kills else 0) as generator:
            for _ in range(kills):
                victim = client.find(rng.choice(RIVER))
                if victim.get("pid"):
                    with contextlib.suppress(ProcessLookupError):  # it is gone already, and another takes its place
                        os.kill(victim["pid"], signal.SIGKILL)
                time.sleep(rng.uniform(0.1, 0.6))
            assert generator.wait(120) == 0
        for name in RIVER:
            wait_until(lambda name=name: client.find(name)["state"] == "ready", f"{name}'s return")
            client.drain(name, timedelta(seconds=90))
    finally:
        client.down(timedelta(seconds=10))
    settings = read_settings({"CHURNSTREAM_HOME": str(home)})
    return settings, totals(settings)


def digest(frame: pd.DataFrame) -> str:
    ordered = frame.sort_values(list(frame.columns[:3]), kind="stable", ignore_index=True)
    return hashlib.sha256(pd.util.hash_pandas_object(ordered).to_numpy().tobytes()).hexdigest()


def outcome(settings: Settings) -> dict[str, object]:
    """Everything the river leaves behind, but for where one record ended and the next began, which a paced generator decides."""
    archive = ds.dataset(settings.archive, format="parquet", partitioning="hive").to_table().to_pandas()
    predictions = peek(topology.INFERENCE, 0, settings)[["user_id", "event_time", "probability", "churns"]]
    return {
        "archived": len(archive),
        "archive": digest(archive[["user_id", "event_time", "amount", "bet_amount", "win_amount", "postcode"]]),
        "features": {key: hashlib.sha256(value).hexdigest() for key, value in open_table(topology.FEATURES, settings).items()},
        "predicted": len(predictions),
        "predictions": digest(predictions),
    }


def test_killing_any_function_at_any_moment_changes_nothing(tmp_path: Path) -> None:
    homes = {kills: tmp_path / f"kills-{kills}" for kills in (0, KILLS)}
    for home in homes.values():
        home.mkdir()
    results = {kills: run_river(home, kills) for kills, home in homes.items()}
    calm, disturbed = results[0], results[KILLS]
    assert [line.sentence() for line in disturbed[1]] == [line.sentence() for line in calm[1]]
    assert all(line.unaccounted == 0 and line.waiting == 0 for line in disturbed[1])
    assert [line.given for line in calm[1] if line.function == "stream-to-features"] == [CUSTOMERS + EVENTS]
    assert outcome(disturbed[0]) == outcome(calm[0])

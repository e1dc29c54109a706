"""The recovery benchmark kills everything, and counts everything."""

import json
import subprocess
import sys

import pytest

from churnstream.codecs import EventDecoder, encode_json
from churnstream.usecases.first_day import CASE
from tests.bench import recovery
from tests.bench.common import ROOT


def test_the_customers_become_known_by_events_that_the_door_takes() -> None:
    events = list(recovery.acquaintances(20))
    decoded = EventDecoder(CASE).decode(encode_json(events))
    assert (len(events), decoded.batch.num_rows, decoded.refused) == (40, 40, ())


@pytest.mark.slow
def test_after_the_death_of_every_process_predictions_go_on_and_nothing_is_missing() -> None:
    command = [sys.executable, "-m", "tests.bench.recovery", "--customers", "400"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    told = json.loads(done.stdout)
    assert told["customers"] == 400
    assert told["killed"] >= 7, "the supervisor, the nursery and five functions"
    assert 0 < told["all_dead_s"] <= told["supervisor_s"] <= told["accepted_s"] <= told["prediction_s"]
    assert told["unaccounted"] == 0

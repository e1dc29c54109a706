"""The benchmark of metrics tells what counting takes, and tells it from noise."""

import json
import subprocess
import sys

import pytest

from tests.bench import metrics
from tests.bench.common import ROOT


def test_the_cost_is_that_of_counting_and_of_writing_down() -> None:
    told = metrics.cost([0.010, 0.010, 0.9], [0.011, 0.011, 0.011], counting=0.000_2, saving=0.005)
    assert (told["records"], told["without_us"], told["counted_us"], told["counting_us"]) == (6, 10_000.0, 11_000.0, 200.0)
    assert (told["difference_pct"], told["cost_pct"]) == (10.0, 2.5)


@pytest.mark.slow
def test_every_other_call_is_counted() -> None:
    command = [sys.executable, "-m", "tests.bench.metrics", "--customers", "40", "--events", "150000"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    told = json.loads(done.stdout)
    assert told["records"] >= 10
    assert 0 < told["counting_us"] < told["without_us"]
    assert 0 < told["cost_pct"] <= 3

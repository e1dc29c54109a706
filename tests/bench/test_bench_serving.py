"""The benchmark of serving asks the deployed function, and says what it found in the form that is promised."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench import serving
from tests.bench.common import ROOT

WORDS = ["--peers", "--connections", "1", "--seconds", "1", "--rounds", "1"]


def test_the_rows_are_the_same_each_time_and_all_different() -> None:
    rows = serving.rows()
    assert rows == serving.rows()
    assert len({tuple(row) for row in rows}) == len(rows) == serving.BODIES
    assert {len(row) for row in rows} == {13}


def test_the_round_in_the_middle_counts_and_a_failed_request_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rates = {"churnstream": [100, 900, 300], "customer": [270] * 3, "bare": [600] * 3, "asgi": [400] * 3, "slow": [30] * 3}
    failures = 0

    def load(folder: Path, target: serving.Target, connections: int, seconds: int) -> dict[str, Any]:
        if seconds == serving.WARM_S:
            return {}
        rate = rates[target.name].pop(0)
        return {"requests_per_s": rate, "p50_ms": 1.0, "p99_ms": 3_000 / rate, "requests": rate, "failed": failures}

    monkeypatch.setattr(serving, "load", load)
    chosen = serving.argparse.Namespace(connections=[64], rounds=3, seconds=5)
    targets = [serving.Target(name, "", tmp_path) for name in rates]
    assert serving.compare(tmp_path, targets, chosen) == 0
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (last["bench"], last["requests_per_s"], last["p99_ms"], last["customer"]) == ("serving", 300, 10.0, 0.9)
    assert last["of"] == {"bare": 0.5, "asgi": 0.75}
    assert (last["ratios"], last["p99_ratios"]) == ({"slow": 10.0}, {"slow": 10.0})
    failures = 1
    rates |= {name: [each] * 3 for name, each in zip(rates, (300, 270, 600, 400, 30), strict=True)}
    assert serving.compare(tmp_path, targets, chosen) == 1


@pytest.mark.slow
def test_it_runs_without_peers() -> None:
    if shutil.which("wrk") is None:
        pytest.skip("wrk, which makes the load, is not installed")
    command = [sys.executable, "-m", "tests.bench.serving", *WORDS]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    machine, *middle, last = map(json.loads, done.stdout.splitlines())
    assert machine["connections"] == [1]
    assert [(each["peer"], each["connections"], each["failed"]) for each in middle] == [
        (name, 1, 0) for name in ("churnstream", "customer", "bare")
    ]
    assert all(each["requests"] > 100 and 0 < each["p50_ms"] <= each["p99_ms"] for each in middle)
    assert (last["bench"], last["ratios"]) == ("serving", {})
    assert last["requests_per_s"] == middle[0]["requests_per_s"]
    assert last["of"]["bare"] > 0

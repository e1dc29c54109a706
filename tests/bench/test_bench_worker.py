import json
import shutil
from typing import Any

import pytest

from tests.bench import worker


def lines(told: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.splitlines()]


def loads(*rates: int, failed: int = 0) -> worker.Load:
    waiting = [rates[0], *rates]  # the first is for warming up
    return lambda seconds: {"requests_per_s": waiting.pop(0), "p99_ms": 5.0, "failed": failed}


def test_the_rounds_in_the_middle_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    everyone = {worker.OURS: loads(9_000, 8_000, 30_000), worker.NUCLIO: loads(3_000, 1_000, 5_000)}
    assert worker.compare(everyone, 3, 1.0) == 0
    last = lines(capsys.readouterr().out)[-1]
    assert last == {"bench": "worker", "requests_per_s": 9_000, "p99_ms": 5.0, "ratios": {"nuclio": 3.0}}


def test_a_request_that_fails_fails_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert worker.compare({worker.OURS: loads(9_000, failed=1)}, 1, 1.0) == 1
    assert "1 requests failed" in capsys.readouterr().err


def test_without_wrk_it_says_where_to_get_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert worker.main([]) == 1
    assert "apt-get install wrk" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_our_worker_is_measured(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for name in (worker.PROCESSOR, worker.WRAPPER):
        monkeypatch.delenv(name, raising=False)
    assert worker.main(["--rounds", "1", "--seconds", "1", "--connections", "8"]) == 0
    told = capsys.readouterr()
    assert f"{worker.PROCESSOR} and {worker.WRAPPER} unset" in told.err
    last = lines(told.out)[-1]
    assert last["requests_per_s"] > 100
    assert last["ratios"] == {}

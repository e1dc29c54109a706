"""The benchmark of workers measures the same work, and notices when its outcome is not the same."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.bench import workers
from tests.bench.common import ROOT


def figures(count: int, rate: int, digest: str = "a") -> dict[str, Any]:
    return {"workers": count, "events": 9, "events_per_s": rate, "digest": digest}


def test_the_speed_up_is_that_of_the_medians_and_one_other_table_is_noticed() -> None:
    runs = {1: [figures(1, rate) for rate in (90, 100, 400)], 2: [figures(2, rate) for rate in (20, 170, 180)]}
    told = workers.compare(runs)
    assert (told["events_per_s"], told["speed_up"], told["equal"]) == ({1: 100, 2: 170}, {2: 1.7}, True)
    assert told["range"] == {1: [90, 400], 2: [20, 180]}
    runs[2][1] = figures(2, 170, "b")
    assert not workers.compare(runs)["equal"]


def test_a_digest_knows_every_byte_and_no_order() -> None:
    rows = [("a", b"1"), ("b", b"22"), ("é", b"")]
    assert workers.digest(rows) == workers.digest(rows[::-1])
    others = ([("a", b"1"), ("b", b"23"), ("é", b"")], rows[:2], [("a1", b""), ("b", b"22"), ("é", b"")])
    assert len({workers.digest(rows), *(workers.digest(each) for each in others)}) == 4


def test_who_never_gets_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "LIMIT_S", 0.0)
    with pytest.raises(TimeoutError, match="stream-to-features was not through"):
        workers.until(lambda: [3, 0], [3, 1])
    assert workers.until(lambda: [3, 4], [3, 1]) == [3, 4]


@pytest.mark.slow
def test_one_worker_and_two_make_the_same_of_the_same_stream() -> None:
    command = [sys.executable, "-m", "tests.bench.workers", "--customers", "40", "--events", "40000", "--rounds", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    one, two, last = map(json.loads, done.stdout.splitlines())
    assert (one["workers"], two["workers"], one["what"]) == (1, 2, "stream-to-features")
    assert one["digest"] == two["digest"]
    assert (one["customers"], two["customers"]) == (40, 40)
    assert 0 < one["events"] <= 40_040
    assert last["equal"] is True
    assert last["speed_up"].keys() == {"2"}

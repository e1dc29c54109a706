"""The door takes anything: no 5xx, and every event that it was sent is accounted for, in its ledger and in its answers."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.stages import intake
from churnstream.usecases import load, names
from tests.fuzz.bodies import Sent, event, requests
from tests.fuzz.door import FuzzedDoor, fuzz

CASE = load("first_day")
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NAMES = st.sampled_from(["user_id", "event_type", "event_time", "amount", "bet_amount", *CASE.event_names]) | st.text(max_size=5)
VALUES = st.recursive(SCALARS | st.sampled_from(CASE.event_names), lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner))
BODIES = st.one_of(
    st.binary(max_size=500),
    VALUES.map(lambda value: json.dumps(value).encode()),
    st.lists(VALUES, max_size=4).map(lambda values: b"\n".join(json.dumps(each).encode() for each in values)),
    st.randoms(use_true_random=False).map(lambda rng: json.dumps(event(CASE, rng)).encode()),
)
KINDS = st.sampled_from(["application/json", "application/x-ndjson", "", "text/html"])


@pytest.fixture
def door(tmp_path: Path) -> Iterator[FuzzedDoor]:
    with FuzzedDoor(tmp_path / "home", body_limit=30_000_000) as door:
        yield door


def send(door: FuzzedDoor, *bodies: bytes, kind: str = "application/json") -> list[int]:
    async def all_of_them() -> list[int]:
        return [await door.ask(Sent("POST", {"content-type": kind}, (body,))) for body in bodies]

    return asyncio.run(all_of_them())


def test_whatever_is_sent_is_answered_and_accounted_for(tmp_path: Path) -> None:
    loop = asyncio.new_event_loop()
    with FuzzedDoor(tmp_path / "home") as door:

        @settings(max_examples=120)
        @given(bodies=st.lists(st.tuples(BODIES, KINDS, st.integers(0, 500)), min_size=1, max_size=6))
        def ask(bodies: list[tuple[bytes, str, int]]) -> None:
            sent = [Sent("POST", {"content-type": kind}, (body[:cut], body[cut:])) for body, kind, cut in bodies]
            assert loop.run_until_complete(fuzz(door, sent)) == []

        ask()
        assert door.unaccounted() == 0
        assert door.line().given > 120
    loop.close()


@pytest.mark.parametrize("case", names())
def test_a_few_of_the_many_that_make_fuzz_sends(tmp_path: Path, case: str) -> None:
    with FuzzedDoor(tmp_path / "home", case) as door:
        assert asyncio.run(fuzz(door, islice(requests(load(case), seed=7), 400))) == []
        assert set(door.answers) == {202, 400, 405}
        assert door.unaccounted() == 0
        assert door.line().applied > 50


def test_the_command_says_what_came_of_it_in_one_line() -> None:
    command = [sys.executable, "-m", "tests.fuzz.door", "--bodies", "70", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["bodies"], told["unaccounted"], sum(told["by_status"].values())) == (70, 0, 70)


def test_the_fuzzer_notices_an_event_that_no_ledger_knows(door: FuzzedDoor) -> None:
    assert send(door, json.dumps(dict(CASE.example), default=str).encode()) == [202]
    assert door.unaccounted() == 0
    door.told += 1
    assert door.unaccounted() == 1


def test_a_request_holds_so_many_events_and_no_more(door: FuzzedDoor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "MOST_EVENTS", 100)
    line = json.dumps(dict(CASE.example), default=str).encode()
    for most in (b"\n".join([line] * 100), b"\n".join([line] * 100) + b"\n", b"[" + b",".join([line] * 100) + b"]"):
        for more in (b"\n".join([line] * 101), b"[" + b",".join([line] * 101) + b"]"):
            for kind in ("application/json", "text/plain"):
                assert send(door, most, more, kind=kind) == [202, 413]
    assert door.line().applied == 3 * 2 * 2 * 100
    assert door.unaccounted() == 0


@pytest.mark.parametrize("depth", [100, 1_000, 100_000])
@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_depth_is_refused_with_a_sentence_and_not_with_a_crash(door: FuzzedDoor, depth: int, kind: str) -> None:
    example: dict[str, Any] = {key: str(value) for key, value in CASE.example.items()}
    nested = json.dumps(example)[:-1].encode() + b', "more": ' + b"[" * depth + b"]" * depth + b"}"
    statuses = send(door, nested, b"[" * depth + b"]" * depth, b"[" + nested + b"]", kind=kind)
    assert set(statuses) <= {202, 400}
    assert door.unaccounted() == 0


def test_packed_bodies_are_not_unpacked(door: FuzzedDoor) -> None:
    import gzip

    bomb = gzip.compress(b"[" + b"1," * 10_000_000 + b"1]")
    assert len(bomb) < 100_000
    assert send(door, bomb) == [400]

"""What came before is known again: by the producer's id or the case's fields, within the horizon, after a kill too."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.codecs import decode_batch
from churnstream.errors import InvalidDefinition, StorageFailed
from churnstream.journal import damages
from churnstream.journal import memory as memories
from churnstream.records import shard_of
from churnstream.settings import Settings
from churnstream.stages.gather import take_together
from churnstream.stages.identities import IDENTITIES
from churnstream.stages.intake import Intake, Receipt
from churnstream.topology import INCOMING, SHARDS
from churnstream.usecases import load
from churnstream.usecases.case import EventType, Field, Kind, UseCase
from churnstream.wiring import Parts, open_parts

NAME = "incoming-event-handler"
REQUEST = SimpleNamespace(trigger=SimpleNamespace(kind="http"))
HORIZON = timedelta(days=7)
SECOND = timedelta(seconds=1)
START = datetime(2026, 1, 1, tzinfo=UTC)


class Door:
    """The door of a case over journals in a folder, with a clock that is set by hand."""

    def __init__(self, folder: Path, case: UseCase):
        self.at, self.case = START, case
        self._settings = Settings("p", case.name, f"embedded://{folder}", f"embedded://{folder}", folder)
        self._begin()

    def _begin(self) -> None:
        self.parts: Parts = open_parts(NAME, self._settings, lambda: self.at)
        self.intake = Intake(self.case)

    def restart(self) -> None:
        self.close()
        self._begin()

    def close(self) -> None:
        self.parts.close()

    def take(self, *events: Any) -> Receipt:
        with self.parts.begin(REQUEST) as unit:
            return self.intake.take(lines(*events), unit)

    def rows(self) -> list[dict[str, Any]]:
        return [
            row
            for shard in range(SHARDS)
            for each in self._read(INCOMING, shard)
            for row in decode_batch(each.payload).to_pylist()
        ]

    def remembered(self) -> int:
        """Keys that stand in the journals."""
        return sum(each.rows for shard in range(SHARDS) for each in self._read(IDENTITIES, shard))

    def unaccounted(self) -> int:
        found = [self.parts.journal(shard).accounts() for shard in range(SHARDS)]
        rows = {
            outcome: sum(each.get(("http", outcome), 0) for each in found)
            for outcome in ("in", "applied", "duplicate", "invalid")
        }
        return rows["in"] - rows["applied"] - rows["duplicate"] - rows["invalid"]

    def _read(self, stream: str, shard: int) -> list[Any]:
        return self.parts.journal(shard).read(stream, shard, 0, 10**6, 10**9)


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Callable[..., Door]]:
    """``door(case)`` opens one over the folder of the test."""
    opened: list[Door] = []

    def one(case: str | UseCase = "first_day") -> Door:
        opened.append(Door(tmp_path, load(case) if isinstance(case, str) else case))
        return opened[-1]

    yield one
    for each in opened:
        each.close()


def lines(*events: Any) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in events)


def bet(event_id: Any = None, user: str = "ann", amount: float = 2.5) -> dict[str, Any]:
    made = {"user_id": user, "event_type": "new_bet", "event_time": "2026-01-03T12:00:00Z", "bet_amount": amount}
    return made if event_id is None else made | {"event_id": event_id}


def play(second: int, event_id: Any = None) -> dict[str, Any]:
    made = {"user_id": "7", "event_type": "play", "event_time": f"2015-01-13T15:40:{second:02d}Z", "score": 1.0}
    return made if event_id is None else made | {"event_id": event_id}


# -- by the producer's id -------------------------------------------------------------------------------------------------


def test_a_repeated_id_is_a_duplicate_in_one_body_in_another_and_after_a_restart(door: Callable[..., Door]) -> None:
    opened = door()
    assert opened.take(bet("a"), bet("b"), bet("a", amount=9.0)) == Receipt(2, 0, 1)
    assert opened.take(bet("b"), bet("c")) == Receipt(1, 0, 1)
    opened.restart()
    assert opened.take(bet("a"), bet("c"), bet("d")) == Receipt(1, 0, 2)
    assert [row["bet_amount"] for row in opened.rows()] == [2.5] * 4
    assert opened.unaccounted() == 0


def test_an_id_is_its_customers_own(door: Callable[..., Door]) -> None:
    opened, users = door(), [f"u{number}" for number in range(100)]
    assert opened.take(*(bet("same", user) for user in users)) == Receipt(100, 0, 0)
    assert opened.take(*(bet("same", user) for user in users)) == Receipt(0, 0, 100)
    assert opened.take(bet("bc", "a"), bet("c", "ab")) == Receipt(2, 0, 0)  # what is written together is told apart


def test_an_event_without_an_id_is_none_of_those_with_one(door: Callable[..., Door]) -> None:
    opened = door()
    assert opened.take(bet(), bet("a"), bet(), bet("a"), bet() | {"event_id": None}) == Receipt(4, 0, 1)


def test_an_id_stands_above_the_fields_that_the_case_names(door: Callable[..., Door]) -> None:
    opened = door("casual_game")
    assert opened.take(play(1, "a"), play(1, "b"), play(2, "a"), play(3), play(3)) == Receipt(3, 0, 2)
    assert opened.take(play(1), play(1, "a"), play(3)) == Receipt(1, 0, 2)


def test_ids_stay_at_the_door_unless_the_case_has_a_field_for_them(door: Callable[..., Door]) -> None:
    opened = door()
    opened.take(bet("a"))
    assert "event_id" not in opened.rows()[0]
    case = load("first_day")
    events = tuple(EventType(each.name, (*each.fields, Field("event_id", Kind.TEXT, required=False))) for each in case.events)
    kept = door(replace(case, events=events))
    assert kept.take(bet("a"), bet("b", "bob"), bet(user="bob")) == Receipt(2, 0, 1)
    assert sorted(row["event_id"] or "" for row in kept.rows() if row["user_id"] == "bob") == ["", "b"]


def test_a_refused_event_leaves_its_id_free(door: Callable[..., Door]) -> None:
    opened = door()
    assert opened.take(bet("a", amount=-1)).refused == 1
    assert opened.take(bet("a")) == Receipt(1, 0, 0)


@pytest.mark.parametrize("event_id", [5, "", "x" * 257, True, ["a"], {"a": 1}, 1.5])
def test_what_is_no_id_is_refused_with_a_sentence(door: Callable[..., Door], event_id: Any) -> None:
    opened = door()
    receipt = opened.take(bet("x" * 256), bet(event_id))
    assert (receipt.accepted, receipt.refused) == (1, 1)
    assert receipt.errors[0]["error"].startswith("the field event_id is wrong: Expected `str")


def test_ids_in_one_batch_of_several_requests_are_told_apart(door: Callable[..., Door]) -> None:
    opened = door()
    bodies = [lines(bet("a"), bet("b")), lines(bet("b"), bet("c", "bob")), lines(bet()), lines(bet("c", "bob"))]
    with opened.parts.begin(REQUEST) as unit:
        answers = take_together(bodies, opened.intake, unit)
    assert answers == [Receipt(2, 0, 0), Receipt(1, 0, 1), Receipt(1, 0, 0), Receipt(0, 0, 1)]


# -- the horizon ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", ["first_day", "casual_game"])
def test_what_comes_again_is_known_until_the_horizon_and_new_from_it_on(door: Callable[..., Door], case: str) -> None:
    opened = door(case)
    event = bet("a") if case == "first_day" else play(1)
    assert opened.take(event) == Receipt(1, 0, 0)
    opened.at = START + HORIZON - timedelta(microseconds=1)
    assert opened.take(event) == Receipt(0, 0, 1)  # which does not prolong it
    opened.at = START + HORIZON
    assert opened.take(event) == Receipt(1, 0, 0)
    opened.at += HORIZON - SECOND
    opened.restart()
    assert opened.take(event) == Receipt(0, 0, 1)
    opened.at += SECOND
    opened.restart()
    assert opened.take(event) == Receipt(1, 0, 0)


def test_the_horizon_is_the_cases(door: Callable[..., Door]) -> None:
    opened = door(replace(load("first_day"), horizon=timedelta(minutes=1)))
    opened.take(bet("a"))
    opened.at += timedelta(minutes=1)
    assert opened.take(bet("a")) == Receipt(1, 0, 0)


def test_event_time_has_no_part_in_it(door: Callable[..., Door]) -> None:
    opened, old = door(), bet("a") | {"event_time": "1999-01-01T00:00:00Z"}
    assert opened.take(old, bet("b") | {"event_time": "2050-01-01T00:00:00Z"}) == Receipt(2, 0, 0)
    assert opened.take(old, bet("a")) == Receipt(0, 0, 2)


def test_a_clock_that_is_put_back_makes_nothing_new(door: Callable[..., Door]) -> None:
    opened = door()
    opened.take(bet("a"))
    opened.at -= 2 * HORIZON
    opened.restart()
    assert opened.take(bet("a")) == Receipt(0, 0, 1)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"horizon": timedelta(0)}, "its horizon is 0:00:00"),
        ({"events": (EventType("play", (Field("score", Kind.NUMBER), Field("event_id", Kind.WHOLE))),)}, "the field event_id is"),
    ],
)
def test_a_case_in_which_ids_make_no_sense_is_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InvalidDefinition, match=f"use case casual_game: {sentence}"):
        replace(load("casual_game"), **wrong)


def test_what_is_kept_follows_the_horizon_and_not_all_that_ever_came(
    door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memories, "FEW", 64)
    opened, users = door(replace(load("first_day"), horizon=timedelta(days=1))), [f"u{number}" for number in range(40)]
    sizes = []
    for hour in range(24 * 3):
        opened.at = START + hour * timedelta(hours=1)
        assert opened.take(*(bet(f"{hour}", user) for user in users)) == Receipt(40, 0, 0)
        sizes.append((opened.remembered(), sum(len(opened.parts.journals.memory(shard, IDENTITIES)) for shard in range(SHARDS))))
    in_horizon = 24 * 40
    on_disk, in_memory = zip(*sizes[30:], strict=True)
    assert set(on_disk) == {in_horizon}
    assert max(in_memory) <= in_horizon + SHARDS * 2 * 64 + in_horizon // 8
    opened.restart()
    assert opened.take(*(bet("49", user) for user in users)) == Receipt(0, 0, 40)
    assert opened.take(*(bet("5", user) for user in users)) == Receipt(40, 0, 0)


def test_what_is_too_old_goes_a_little_at_a_time(door: Callable[..., Door]) -> None:
    opened = door()
    for number in range(100):
        opened.take(bet(f"{number}"))
    opened.at += HORIZON
    left = []
    for number in range(5):
        opened.take(bet(f"new {number}"))
        left.append(opened.remembered())
    assert left == [69, 38, 7, 4, 5]


# -- others who write, and what was there before --------------------------------------------------------------------------


def test_what_another_worker_remembers_is_known_here(door: Callable[..., Door]) -> None:
    here, there = door(), door()
    assert here.take(bet("a"), bet("b")) == Receipt(2, 0, 0)
    assert there.take(bet("b"), bet("c")) == Receipt(1, 0, 1)
    assert here.take(bet("a"), bet("c"), bet("d")) == Receipt(1, 0, 2)


def test_of_two_workers_that_take_the_same_id_at_once_one_is_refused(door: Callable[..., Door]) -> None:
    here, there = door(), door()
    unit = here.parts.begin(REQUEST)
    assert here.intake.take(lines(bet("a")), unit) == Receipt(1, 0, 0)
    assert there.take(bet("a")) == Receipt(1, 0, 0)
    with pytest.raises(StorageFailed, match="changed by another worker at the same time; send this again"):
        unit.commit()
    assert here.take(bet("a")) == Receipt(0, 0, 1)
    assert len(here.rows()) == 1
    assert here.unaccounted() == 0


def test_two_workers_that_take_different_ids_at_once_do_not_disturb_each_other(door: Callable[..., Door]) -> None:
    here, there = door(), door()
    unit = here.parts.begin(REQUEST)
    here.intake.take(lines(bet("a"), bet()), unit)
    assert there.take(bet("b"), bet()) == Receipt(2, 0, 0)
    unit.commit()
    assert here.take(bet("a"), bet("b")) == Receipt(0, 0, 2)


def test_identities_of_an_older_version_are_known_and_moved(door: Callable[..., Door], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("churnstream.streams.embedded.MOVED_AT_ONCE", 10)
    opened, intake = door("casual_game"), Intake(load("casual_game"))
    batch = intake._decoder.decode(lines(*(play(second) for second in range(25)))).batch
    digests = intake._identities._by_fields(batch)
    assert digests is not None
    with opened.parts.begin(REQUEST) as unit:
        for digest in digests:
            unit.put(IDENTITIES, digest.hex(), b"", owner="7")
    journal = opened.parts.journal(shard_of("7", SHARDS))
    assert opened.take(*(play(second) for second in range(25))) == Receipt(0, 0, 25)
    sizes = []
    for second in range(30, 34):
        assert opened.take(play(second), play(second - 30)) == Receipt(1, 0, 1)
        sizes.append(journal.size(IDENTITIES))
        if second == 31:
            opened.restart()
            journal = opened.parts.journal(shard_of("7", SHARDS))
    assert sizes == [15, 5, 0, 0]
    assert opened.remembered() == 25 + 4
    opened.restart()
    assert opened.take(*(play(second) for second in range(25))) == Receipt(0, 0, 25)
    opened.at += HORIZON
    assert opened.take(play(0)) == Receipt(1, 0, 0)
    path = opened.parts.journal(shard_of("7", SHARDS)).path
    opened.close()
    assert list(damages(path)) == []


# -- anything, in any order ---------------------------------------------------------------------------------------------------

STEPS = st.one_of(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=8),  # (customer, id) of one body
    st.lists(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), min_size=1, max_size=4), min_size=2, max_size=4),
    st.sampled_from(["restart", "kill", "a day", "a horizon"]),
)


@settings(max_examples=25)
@given(steps=st.lists(STEPS, min_size=1, max_size=14))
def test_in_any_order_of_repeats_batches_kills_and_days_each_id_comes_in_once_within_a_horizon(
    steps: list[Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    opened = Door(tmp_path_factory.mktemp("door"), load("first_day"))
    expected: list[tuple[str, float]] = []
    met: dict[tuple[int, int], datetime] = {}
    for number, step in enumerate(steps):
        match step:
            case "restart":
                opened.restart()
            case "kill":  # in the middle of a body: nothing of it stays
                opened.intake.take(lines(bet("0", "u0")), opened.parts.begin(REQUEST))
                opened.restart()
            case "a day":
                opened.at += timedelta(days=1)
            case "a horizon":
                opened.at += HORIZON
            case _:
                bodies = step if isinstance(step[0], list) else [step]
                for customer, event_id in (pair for body in bodies for pair in body):
                    before = met.get((customer, event_id))
                    if before is None or opened.at - before >= HORIZON:
                        met[customer, event_id] = opened.at
                        expected.append((f"u{customer}", float(number)))
                sent = [
                    lines(*(bet(f"{event_id}", f"u{customer}", float(number)) for customer, event_id in body)) for body in bodies
                ]
                with opened.parts.begin(REQUEST) as unit:
                    receipts = take_together(sent, opened.intake, unit)
                assert all(isinstance(each, Receipt) for each in receipts)
    assert sorted((row["user_id"], row["bet_amount"]) for row in opened.rows()) == sorted(expected)
    assert opened.unaccounted() == 0
    opened.close()


KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from pathlib import Path
from tests.stages.test_identities import Door, bet
from churnstream.usecases import load
door = Door(Path(sys.argv[1]), load("first_day"))
for number in range(200):
    door.take(*(bet(str(number), f"u{user}") for user in range(20)))
    print(number, flush=True)
    if number == 57:
        write = door.parts.journal(3).write
        def stop(changes, now):
            write(changes, now)
            os.kill(os.getpid(), signal.SIGKILL)
        door.parts.journal(3).write = stop
"""


def test_a_body_of_which_a_kill_left_a_part_comes_in_whole_when_it_is_sent_again(
    door: Callable[..., Door], tmp_path: Path, root: Path
) -> None:
    ended = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], cwd=root, capture_output=True, timeout=60, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    opened = door()
    assert 58 * 20 < len(opened.rows()) < 59 * 20
    receipt = opened.take(*(bet("58", f"u{user}") for user in range(20)))
    assert receipt.accepted + receipt.duplicates == 20
    assert 0 < receipt.accepted < 20
    assert opened.take(*(bet(str(number), f"u{user}") for number in range(59) for user in range(20))) == Receipt(0, 0, 59 * 20)
    assert len(opened.rows()) == 59 * 20
    assert opened.unaccounted() == 0

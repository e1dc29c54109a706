"""A request that is sent again under its Idempotency-Key is answered as before, and nothing of it comes in twice."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import nuclio_sdk
import pytest

from churnstream.errors import BadRequest, StorageFailed
from churnstream.journal import Changes, Journal
from churnstream.stages.requests import idempotency_key
from churnstream.topology import DEAD_LETTERS, INCOMING
from churnstream.wiring import open_parts
from tests.doors import Door
from tests.functions.river import River, assert_conserved

NAME = "incoming-event-handler"
HTTP = (NAME, "http")
USERS = [f"u{number}" for number in range(60)]


@pytest.fixture
def river(tmp_path: Any) -> River:
    return River(tmp_path / "home", "first_day")


@pytest.fixture
def door(river: River) -> Iterator[Door]:
    with river.door(NAME) as opened:
        yield opened


def bet(user: str = "ann", amount: Any = 2.5, **more: Any) -> dict[str, Any]:
    return {"user_id": user, "event_type": "new_bet", "event_time": "2026-01-03T12:00:00Z", "bet_amount": amount} | more


def ask(door: Door, body: Any, key: str, **told: Any) -> tuple[int, dict[str, Any]]:
    response = door.post(body, Idempotency_Key=key, **told)
    return response.status_code, json.loads(response.body)


FORMS: list[Callable[[list[Any]], Any]] = [
    lambda events: events,
    lambda events: json.dumps(events).encode(),
    lambda events: b"\n".join(json.dumps(each).encode() for each in events),
]


@pytest.mark.parametrize("form", FORMS)
def test_the_same_request_gets_the_same_answer_and_is_a_duplicate(door: Door, river: River, form: Any) -> None:
    body = form([*map(bet, USERS), bet("ann", -1), bet("ann", 1.0, event_id="a"), bet("ann", 1.0, event_id="a"), 7])
    first = ask(door, body, '"k-1"')
    assert first[0] == 202
    assert {name: first[1][name] for name in ("accepted", "refused", "duplicates")} == {
        "accepted": 61,
        "refused": 2,
        "duplicates": 1,
    }
    assert ask(door, body, '"k-1"') == first
    with river.door(NAME) as another:
        assert ask(another, body, "k-1") == first  # as many clients write it
    assert len(river.rows(INCOMING)) == 61
    assert len(river.rows(DEAD_LETTERS, NAME)) == 2
    line = river.lines()[HTTP]
    assert (line.given, line.applied, line.duplicate, line.invalid) == (3 * 64, 61, 1 + 2 * 64, 2)
    assert_conserved(river, NAME)


@pytest.mark.parametrize("body", [b"nonsense", b"", [bet("ann", -1)], b"[]"])
def test_a_request_of_which_nothing_was_good_leaves_one_letter(door: Door, river: River, body: Any) -> None:
    first = ask(door, body, "k")
    assert ask(door, body, "k") == first
    assert len(river.rows(DEAD_LETTERS, NAME)) == 1
    line = river.lines()[HTTP]
    assert (line.given, line.duplicate, line.invalid) == (2, 1, 1)
    assert_conserved(river, NAME)


def test_another_body_under_the_key_is_refused_with_a_sentence_and_counts_nothing(door: Door, river: River) -> None:
    assert ask(door, [bet("ann")], "k")[0] == 202
    for other in ([bet("bob")], [bet("ann"), bet("ann")], b"nonsense", [bet("ann", 2.50001)]):
        status, told = ask(door, other, "k")
        assert status == 422
        assert told["error"] == "the Idempotency-Key 'k' came before with another body; send what is new under a key of its own"
    assert ask(door, [bet("bob")], "K")[0] == 202
    assert river.lines()[HTTP].given == 2
    assert_conserved(river, NAME)


def test_the_same_body_under_other_keys_or_none_comes_in_each_time(door: Door, river: River) -> None:
    assert [ask(door, [bet()], key)[1]["accepted"] for key in ("a", "b")] == [1, 1]
    assert json.loads(door.post([bet()]).body)["accepted"] == 1
    assert len(river.rows(INCOMING)) == 3


def test_requests_with_a_key_at_the_same_time_are_told_apart(door: Door, river: River) -> None:
    def event(body: Any, key: str) -> nuclio_sdk.Event:
        headers = {"Idempotency-Key": key} if key else {}
        trigger = nuclio_sdk.TriggerInfo("http", "http")
        return nuclio_sdk.Event(body=body, trigger=trigger, path="/", method="POST", _id="1", headers=headers)

    async def all_of_them() -> list[Any]:
        sent = [event([bet("ann")], "a"), event([bet("ann")], "a"), event([bet("bob")], ""), event([bet("bob")], "a")]
        return list(await asyncio.gather(*(door.module.handler(door.context, each) for each in sent)))

    answers = door.run(all_of_them())
    assert [each.status_code for each in answers] == [202, 202, 202, 422]
    assert answers[0].body == answers[1].body
    assert len(river.rows(INCOMING)) == 2
    assert_conserved(river, NAME)


def test_after_the_horizon_a_key_is_as_new(river: River) -> None:
    with river.environment():
        from churnstream.stages.intake import Intake

        parts = open_parts(NAME)
        at = parts.clock()
        parts = open_parts(NAME, clock=lambda: at)
        intake, horizon = Intake(parts.case), parts.case.horizon

        def take(amount: float) -> int:
            with parts.begin(nuclio_sdk.Event(trigger=nuclio_sdk.TriggerInfo("http", "http"))) as unit:
                return intake.take([bet(amount=amount)], unit, "k").accepted

        assert (take(1.0), take(1.0)) == (1, 1)
        at += horizon - timedelta(microseconds=1)
        assert take(1.0) == 1
        assert len(river.rows(INCOMING)) == 1
        at += timedelta(microseconds=1)
        assert take(2.0) == 1
        assert len(river.rows(INCOMING)) == 2
        parts.close()


@pytest.mark.parametrize("lost", range(8))
def test_a_request_cut_short_between_two_shards_is_completed_when_it_is_sent_again(
    door: Door, river: River, monkeypatch: pytest.MonkeyPatch, lost: int
) -> None:
    write, place = Journal.write, iter(range(10**9))

    def fail(self: Journal, changes: Changes, now: Any) -> None:
        if next(place) == lost:
            raise StorageFailed("the disk is full")
        write(self, changes, now)

    body = [*map(bet, USERS), bet("ann", -1)]
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "write", fail)
        assert ask(door, body, "k")[0] == 503
    before = len(river.rows(INCOMING))
    assert 0 < before < 60 or lost == 0
    with river.door(NAME) as another:
        status, told = ask(another, body, "k")
        assert (status, told["accepted"], told["refused"], told["duplicates"]) == (202, 60, 1, 0)
        assert ask(another, [bet("eve")], "k")[0] == 422
    assert sorted(row["user_id"] for row in river.rows(INCOMING)) == sorted(USERS)
    assert len(river.rows(DEAD_LETTERS, NAME)) == 1
    assert_conserved(river, NAME)


def test_of_two_workers_that_get_the_request_at_once_one_asks_to_come_again(river: River) -> None:
    with river.environment():
        from churnstream.stages.intake import Intake

        here, there = open_parts(NAME), open_parts(NAME)
        event = nuclio_sdk.Event(trigger=nuclio_sdk.TriggerInfo("http", "http"))
        unit = here.begin(event)
        Intake(here.case).take([bet()], unit, "k")
        with there.begin(event) as theirs:
            Intake(there.case).take([bet()], theirs, "k")
        with pytest.raises(StorageFailed, match="send this again"):
            unit.commit()
        with here.begin(event) as again:
            assert Intake(here.case).take([bet()], again, "k").accepted == 1
        assert len(river.rows(INCOMING)) == 1
        here.close()
        there.close()


@pytest.mark.parametrize(
    "key", ["", '""', "x" * 256, '"' + "x" * 256 + '"', "two words", "é", '"a" "b"', '"a', "a,b", '"\\n"', '"a"; b=1']
)
def test_what_is_no_key_is_a_bad_request(door: Door, river: River, key: str) -> None:
    status, told = ask(door, [bet()], key)
    assert status == 400
    assert told["error"].startswith("the Idempotency-Key is no string of 1 to 255 printable ASCII characters in quotes")
    assert river.lines().get(HTTP) is None


def test_a_key_is_read_from_whatever_a_platform_makes_of_headers() -> None:
    for headers in ({"Idempotency-Key": '"k"'}, {"idempotency-key": b'"k"'}, {"IDEMPOTENCY-KEY": " k ", "x": "y"}):
        assert idempotency_key(headers) == "k"
    assert idempotency_key({"Idempotency-Key": '"a \\"b\\" \\\\"'}) == 'a "b" \\'
    assert idempotency_key(None) == ""
    with pytest.raises(BadRequest):
        idempotency_key({"Idempotency-Key": "a b"})

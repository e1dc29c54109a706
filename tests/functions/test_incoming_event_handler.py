"""The door of the river: what is good comes in once, what is not is told why, and what cannot be written is not promised."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import nuclio_sdk
import pytest

from churnstream.codecs import decode_batch
from churnstream.errors import StorageFailed
from churnstream.journal import Changes, Journal
from churnstream.local import courier
from churnstream.records import Record, shard_of
from churnstream.stages import pressure
from churnstream.topology import DEAD_LETTERS, GENERATED, INCOMING, SHARDS
from churnstream.wiring import open_parts
from tests.doors import Door
from tests.functions.river import River, assert_conserved
from tests.pumping import Pumping

NAME = "incoming-event-handler"
HTTP = (NAME, "http")


def bet(user: str = "ann", amount: Any = 2.5, second: int = 0) -> dict[str, Any]:
    return {"user_id": user, "event_type": "new_bet", "event_time": f"2026-01-03T12:00:{second:02d}Z", "bet_amount": amount}


def lines(*events: Any) -> bytes:
    return b"\n".join(json.dumps(each).encode() for each in events)


@pytest.fixture
def door(river: River) -> Iterator[Door]:
    with river.door(NAME) as opened:
        yield opened


def answer(door: Door, body: Any, **told: Any) -> tuple[int, dict[str, Any]]:
    response = door.post(body, **told)
    return response.status_code, json.loads(response.body)


def failing(monkeypatch: pytest.MonkeyPatch, *writes: int) -> None:
    """These writes, counted from 0, fail as a full disk would; no number: all of them."""
    write, place = Journal.write, iter(range(10**9))

    def fail(self: Journal, changes: Changes, now: Any) -> None:
        if not writes or next(place) in writes:
            raise StorageFailed("the disk is full")
        write(self, changes, now)

    monkeypatch.setattr(Journal, "write", fail)


@pytest.mark.parametrize(
    ("body", "accepted"),
    [
        (json.dumps(bet()).encode(), 1),
        (json.dumps(bet(), indent=2).encode(), 1),
        (json.dumps([bet("ann"), bet("bob"), bet("eve")]).encode(), 3),
        (lines(bet("ann"), bet("bob")), 2),
        (lines(bet("ann"), bet("bob")).replace(b"\n", b"\r\n") + b"\r\n", 2),
        (bet(), 1),
        ([bet("ann"), bet("bob")], 2),
        (json.dumps(bet()), 1),
    ],
)
def test_one_event_an_array_and_lines_are_accepted_as_bytes_or_parsed(door: Door, river: River, body: Any, accepted: int) -> None:
    assert answer(door, body) == (202, {"accepted": accepted, "refused": 0, "duplicates": 0})
    rows = river.rows(INCOMING)
    assert len(rows) == accepted
    assert {row["bet_amount"] for row in rows} == {2.5}
    assert_conserved(river, NAME)
    assert river.lines()[HTTP].given == accepted


def test_every_event_lies_in_the_shard_of_its_customer(door: Door, river: River) -> None:
    users = [f"u{number}" for number in range(200)]
    assert answer(door, [bet(user) for user in users])[0] == 202
    records = river.records(INCOMING)
    assert sorted(record.shard for record in records) == list(range(SHARDS))
    assert sum(record.rows for record in records) == len(users)
    for record in records:
        assert shard_of(record.key, SHARDS) == record.shard
        assert {shard_of(user, SHARDS) for user in decode_batch(record.payload).column(0).to_pylist()} == {record.shard}


def test_the_order_of_a_customers_events_is_kept(door: Door, river: River) -> None:
    answer(door, [bet("ann", amount) for amount in range(10)])
    answer(door, [bet("ann", amount) for amount in range(10, 20)])
    assert [row["bet_amount"] for row in river.rows(INCOMING)] == list(range(20))


def test_a_bad_event_is_told_where_it_stands_and_the_good_ones_come_in(door: Door, river: River) -> None:
    body = lines(bet("ann"), bet("bob", -1), bet("eve")) + b"\nnonsense"
    status, told = answer(door, body)
    assert status == 202
    assert (told["accepted"], told["refused"]) == (2, 2)
    assert [each["position"] for each in told["errors"]] == [1, 3]
    assert told["errors"][0]["error"] == "the field bet_amount is wrong: Expected `float` >= 0.0"
    letters = river.rows(DEAD_LETTERS, NAME)
    assert [(each["row"], each["source"], each["payload"]) for each in letters] == [
        (1, "http", lines(bet("bob", -1)).decode()),
        (3, "http", "nonsense"),
    ]
    assert_conserved(river, NAME)


@pytest.mark.parametrize("form", [lambda events: lines(*events), lambda events: json.dumps(events).encode(), list])
def test_a_large_body_with_a_few_bad_events_keeps_order_shards_and_places(
    door: Door, river: River, form: Callable[[Any], Any]
) -> None:
    events = [bet(f"u{number % 50}", number / 4, number % 60) for number in range(3_000)]
    for place, wrong in ((0, bet("u0", -1)), (1_700, bet("", 1)), (2_999, bet("u1", second=60) | {"odd": ["x"]})):
        events[place] = wrong
    status, told = answer(door, form(events))
    assert (status, told["accepted"], [each["position"] for each in told["errors"]]) == (202, 2_997, [0, 1_700, 2_999])
    assert [letter["row"] for letter in river.rows(DEAD_LETTERS, NAME)] == [0, 1_700, 2_999]
    for record in river.records(INCOMING):
        batch = decode_batch(record.payload)
        assert {shard_of(user, SHARDS) for user in batch.column(0).to_pylist()} == {record.shard}
        amounts = batch.column("bet_amount").to_pylist()
        assert amounts == sorted(amounts)
    assert sorted(row["bet_amount"] for row in river.rows(INCOMING)) == [
        each["bet_amount"] for place, each in enumerate(events) if place not in (0, 1_700, 2_999)
    ]
    assert_conserved(river, NAME)


@pytest.mark.parametrize("body", [b"", b"nonsense", b"[", b"[]", [], None, b"\xff", b'"'])
def test_only_a_body_in_which_nothing_can_be_read_is_a_bad_request(door: Door, river: River, body: Any) -> None:
    status, told = answer(door, body)
    assert status == 400
    assert told["error"]
    assert river.rows(INCOMING) == []
    assert [each["reason"] for each in river.rows(DEAD_LETTERS, NAME)] == [told["error"]]
    assert_conserved(river, NAME)


@pytest.mark.parametrize("body", [{}, [1, 2], b"5", [bet("ann", -1)], {"event_type": "new_bat"}, [bet("", 1)]])
def test_readable_json_without_a_good_event_is_accepted_as_refused(door: Door, river: River, body: Any) -> None:
    status, told = answer(door, body)
    assert (status, told["accepted"]) == (202, 0)
    assert told["refused"] == len(told["errors"]) == len(river.rows(DEAD_LETTERS, NAME))
    assert_conserved(river, NAME)


def test_a_request_that_is_no_post_is_answered_and_counts_nothing(door: Door, river: River) -> None:
    response = door.post(None, method="GET")
    assert (response.status_code, response.headers) == (405, {"Allow": "POST, PUT"})
    assert river.lines().get(HTTP) is None


def test_a_thousand_malformed_events_end_in_dead_letters_and_nothing_else_changes(door: Door, river: River) -> None:
    answer(door, [bet("ann"), bet("bob")])
    before = [(each.shard, each.offset, each.payload) for each in river.records(INCOMING)]
    kinds = [bet("ann", -1), bet("", 1), {"event_type": "x"}, 7, bet("ann") | {"event_time": "never"}]
    status, told = answer(door, [kinds[number % len(kinds)] for number in range(1_000)])
    assert (status, told["accepted"], told["refused"]) == (202, 0, 1_000)
    assert len(told["errors"]) == 20  # enough to see what is wrong
    letters = river.rows(DEAD_LETTERS, NAME)
    assert [each["row"] for each in letters] == list(range(1_000))
    assert all(each["reason"] and each["payload"] for each in letters)
    assert [(each.shard, each.offset, each.payload) for each in river.records(INCOMING)] == before
    line = river.lines()[HTTP]
    assert (line.given, line.applied, line.invalid) == (1_002, 2, 1_000)
    assert_conserved(river, NAME)


# -- what cannot be written -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [[bet()], b"nonsense", [bet("ann", -1)]])
def test_what_cannot_be_written_is_a_503_that_says_when_to_come_back(
    door: Door, river: River, monkeypatch: pytest.MonkeyPatch, body: Any
) -> None:
    failing(monkeypatch)
    response = door.post(body)
    assert (response.status_code, response.headers) == (503, {"Retry-After": "5"})
    assert "send this again" in json.loads(response.body)["error"]
    assert "the disk is full" in door.log.getvalue()
    monkeypatch.undo()
    assert river.rows(INCOMING) == river.rows(DEAD_LETTERS, NAME) == []
    assert answer(door, [bet()])[0] == 202


def test_a_folder_that_cannot_be_used_is_a_503(river: River) -> None:
    folder = river.home / "data" / "churnstream" / "first_day"
    folder.mkdir(parents=True)
    (folder / NAME).write_text("a file where the folder should be")
    with river.door(NAME) as door:
        response = door.post([bet()])
        assert response.status_code == 503
        assert str(river.home) not in response.body


def test_a_request_cut_short_between_two_shards_leaves_an_account_that_adds_up(
    door: Door, river: River, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing(monkeypatch, 3)
    body = [bet(f"u{number}") for number in range(100)] + [bet("ann", -1)]
    assert answer(door, body)[0] == 503
    line = river.lines()[HTTP]
    assert 0 < line.applied == len(river.rows(INCOMING)) < 100
    assert line.unaccounted == 0, line.sentence()
    assert line.invalid == len(river.rows(DEAD_LETTERS, NAME))


def test_a_record_of_the_stream_that_cannot_be_written_is_raised_and_tried_again(
    river: River, monkeypatch: pytest.MonkeyPatch
) -> None:
    river.send([bet("ann", second=number) for number in range(20)], rows=5)
    with river.door(NAME) as door:
        with monkeypatch.context() as patch:
            failing(patch, 2)
            with pytest.raises(StorageFailed):
                door.pump()
        assert len(river.rows(INCOMING)) == 10
        door.pump()
    assert [row["event_time"].second for row in river.rows(INCOMING)] == list(range(20))
    assert_conserved(river, NAME)


# -- requests at the same time --------------------------------------------------------------------------------------------


def at_once(door: Door, *bodies: Any) -> list[tuple[int, dict[str, Any]]]:
    """The answers to requests of which each comes before any is answered."""
    trigger = nuclio_sdk.TriggerInfo("http", "http")
    events = [nuclio_sdk.Event(body=body, trigger=trigger, path="/", method="POST", _id=str(n)) for n, body in enumerate(bodies)]

    async def all_of_them() -> list[Any]:
        return list(await asyncio.gather(*(door.module.handler(door.context, event) for event in events)))

    return [(response.status_code, json.loads(response.body)) for response in door.run(all_of_them())]


def writes(monkeypatch: pytest.MonkeyPatch) -> list[Changes]:
    """What is written from now on."""
    write, found = Journal.write, list[Changes]()

    def note(self: Journal, changes: Changes, now: Any) -> None:
        found.append(changes)
        write(self, changes, now)

    monkeypatch.setattr(Journal, "write", note)
    return found


def test_requests_at_the_same_time_share_a_commit_and_each_gets_its_own_counts(
    door: Door, river: River, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = writes(monkeypatch)
    bodies = [lines(bet("ann", 1), bet("ann", 2)), lines(bet("ann", 3)), lines(bet("ann", 4), bet("ann", -1)), b"nonsense"]
    answers = at_once(door, *bodies)
    assert [status for status, _ in answers] == [202, 202, 202, 400]
    assert [(told["accepted"], told["refused"]) for _, told in answers[:3]] == [(2, 0), (1, 0), (1, 1)]
    assert [each["position"] for each in answers[2][1]["errors"]] == [1]
    assert len(written) == 2  # ann's shard, and that of the dead letters
    assert [row["bet_amount"] for row in river.rows(INCOMING)] == [1, 2, 3, 4]
    assert_conserved(river, NAME)
    line = river.lines()[HTTP]
    assert (line.given, line.applied, line.invalid) == (6, 4, 2)


def test_good_requests_at_the_same_time_make_one_record(door: Door, river: River) -> None:
    assert [told for _, told in at_once(door, *([lines(bet("ann"))] * 30))] == [
        {"accepted": 1, "refused": 0, "duplicates": 0}
    ] * 30
    assert [record.rows for record in river.records(INCOMING)] == [30]


def test_a_commit_that_fails_is_a_503_for_each_of_its_requests(door: Door, river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        failing(patch)
        assert [status for status, _ in at_once(door, [bet("ann")], [bet("bob")], b"nonsense")] == [503] * 3
    assert river.rows(INCOMING) == river.rows(DEAD_LETTERS, NAME) == []
    assert [status for status, _ in at_once(door, [bet("ann")], [bet("bob")])] == [202] * 2
    assert_conserved(river, NAME)


def test_the_same_play_in_requests_at_the_same_time_comes_in_once(new_river: Callable[..., River]) -> None:
    with new_river("casual_game").door(NAME) as door:
        answers = at_once(door, [play(1), play(2)], [play(2), play(3)], [play(1)])
    assert [(told["accepted"], told["duplicates"]) for _, told in answers] == [(2, 0), (1, 1), (0, 1)]


def test_requests_are_not_gathered_where_that_is_switched_off(
    new_river: Callable[..., River], monkeypatch: pytest.MonkeyPatch
) -> None:
    river = new_river("first_day", CHURNSTREAM_BATCH_WAIT_MS="0")
    with river.door(NAME) as door:
        assert [status for status, _ in at_once(door, *([lines(bet("ann"))] * 3))] == [202] * 3
    assert [record.rows for record in river.records(INCOMING)] == [1, 1, 1]


# -- from the stream ------------------------------------------------------------------------------------------------------


def test_generated_events_come_in_each_once_and_again_after_a_restart(river: River) -> None:
    river.generate(customers=20, events=1_000)
    river.flow(NAME)
    river.flow(NAME)
    assert len(river.rows(INCOMING)) == 1_020
    sent = [(row["user_id"], datetime.fromisoformat(row["event_time"])) for row in river.rows(GENERATED)]
    assert [(row["user_id"], row["event_time"]) for row in river.rows(INCOMING)] == sent
    assert_conserved(river, NAME)


def test_a_record_that_was_applied_is_answered_and_not_applied_again(river: River) -> None:
    river.send([bet("ann")])
    (record,) = river.records(GENERATED)
    with river.door(NAME) as door:
        assert door.apply(GENERATED, record.shard, record).status_code == 202
        assert door.apply(GENERATED, record.shard, record).body == "applied before"
    assert len(river.rows(INCOMING)) == 1


def test_a_record_that_cannot_be_read_is_passed_with_its_place_in_the_dead_letters(river: River) -> None:
    with river.environment():
        parts = open_parts("event-generator")
        for payload in (lines(bet("ann", second=1)), b"\xffnonsense", lines(bet("ann", second=2))):
            with parts.begin() as unit:
                unit.append(GENERATED, Record(payload, 1, "ann"))
        parts.close()
    river.flow(NAME)
    assert len(river.rows(INCOMING)) == 2
    (letter,) = river.rows(DEAD_LETTERS, NAME)
    assert (letter["source"], letter["shard"], letter["offset"]) == (GENERATED, shard_of("ann", SHARDS), 1)
    assert_conserved(river, NAME)


def test_events_of_other_shards_in_one_record_find_their_way(river: River) -> None:
    with river.environment():
        parts = open_parts("event-generator")
        with parts.begin() as unit:
            unit.append(GENERATED, Record(lines(*(bet(f"u{number}") for number in range(50))), 50, "u0"))
        parts.close()
    river.flow(NAME)
    assert {record.shard for record in river.records(INCOMING)} == set(range(SHARDS))
    assert len(river.rows(INCOMING)) == 50
    assert sum(line.unaccounted for line in river.lines().values()) == 0


# -- duplicates -----------------------------------------------------------------------------------------------------------


def play(second: int, score: float = 1.0, player: str = "7") -> dict[str, Any]:
    return {"user_id": player, "event_type": "play", "event_time": f"2015-01-13T15:40:{second:02d}Z", "score": score}


def test_the_same_play_is_counted_as_a_duplicate_wherever_it_comes_again(new_river: Callable[..., River]) -> None:
    river = new_river("casual_game")
    with river.door(NAME) as door:
        # within one body, in another one, and written otherwise; another player, instant or score is another play
        assert answer(door, [play(1), play(1), play(2), play(1, 2.0), play(1, player="8")])[1]["duplicates"] == 1
        assert answer(door, [play(1), play(3)])[1] == {"accepted": 1, "refused": 0, "duplicates": 1}
        assert (
            answer(door, play(1) | {"event_time": "2015-01-13T16:40:01.000+01:00", "score": 1, "more": True})[1]["duplicates"]
            == 1
        )
    with river.door(NAME) as door:
        assert answer(door, [play(2), play(3)])[1]["duplicates"] == 2
    line = river.lines()[HTTP]
    assert (line.given, line.applied, line.duplicate, line.invalid) == (10, 5, 5, 0)
    assert len(river.rows(INCOMING)) == 5


def test_a_case_that_declares_no_identity_keeps_what_was_sent_twice(door: Door, river: River) -> None:
    assert answer(door, [bet(), bet()])[1]["accepted"] == 2
    assert len(river.rows(INCOMING)) == 2


def test_a_refused_play_does_not_make_the_right_one_a_duplicate(
    new_river: Callable[..., River], monkeypatch: pytest.MonkeyPatch
) -> None:
    river = new_river("casual_game")
    with river.door(NAME) as door:
        with monkeypatch.context() as patch:
            failing(patch)
            assert door.post([play(1)]).status_code == 503
        assert answer(door, [play(1)])[1] == {"accepted": 1, "refused": 0, "duplicates": 0}


def test_while_those_who_read_are_too_far_behind_nothing_is_taken_and_nothing_is_lost(
    new_river: Callable[..., River], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pressure, "LOOK_S", 0.0)
    monkeypatch.setattr(courier, "FIRST_RETRY_S", 0.001)
    river = new_river(CHURNSTREAM_BACKLOG_ROWS="100")
    with river.door(NAME) as door:
        assert answer(door, [bet(f"u{number}") for number in range(100)])[0] == 202
        assert answer(door, [bet(f"u{number}") for number in range(50)])[0] == 202  # the bound was not passed yet
        refused = door.post([bet()])
        assert (refused.status_code, refused.headers) == (503, {"Retry-After": "5"})
        assert "has 150 rows of incoming-events-stream left to read, 100 may wait" in refused.body
        river.send([bet(f"u{number}") for number in range(30)], rows=10)
        pumping = Pumping(door, river.settings)
        pumping.run(until=lambda: any(pump.trouble for pump in pumping.pumps))
        assert len(river.rows(INCOMING)) == 150
        assert all(pump.next_offset == 0 for pump in pumping.pumps)
        river.flow("stream-to-parquet", "enrich-stream")
        assert answer(door, bet())[0] == 202
        pumping.run()
    assert len(river.rows(INCOMING)) == 181
    assert_conserved(river, NAME)


def test_the_generator_waits_for_the_door(new_river: Callable[..., River], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pressure, "LOOK_S", 0.0)
    river = new_river(CHURNSTREAM_BACKLOG_ROWS="5000")
    unbounded = River(river.home, "first_day", CHURNSTREAM_BACKLOG_ROWS="1000000")
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        assert river.lines()[NAME, GENERATED].waiting <= 5_000 + 4_096
        unbounded.flow(NAME)

    wait = pressure.Pressure.wait
    monkeypatch.setattr(pressure.Pressure, "wait", lambda self: wait(self, rest))
    river.generate(customers=8, events=30_000)
    unbounded.flow(NAME)
    assert rests
    assert river.lines()[NAME, GENERATED].given == 30_008
    assert_conserved(river, NAME)

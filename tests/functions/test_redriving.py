"""Dead letters that are handed back: applied once, by the function that refused them, and named when they are refused again."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from churnstream.codecs import EventDecoder
from churnstream.errors import BadRequest
from churnstream.graph.engine import WindowEngine
from churnstream.reading import DeadLetter, dead_letter, dead_letters
from churnstream.redriving import redrive
from churnstream.streams import letters
from churnstream.topology import ENRICHED, INCOMING
from tests.functions.river import River, assert_conserved
from tests.functions.test_poison import day, pump, quick_retries, some, waiting  # noqa: F401
from tests.functions.test_stream_to_features import assert_online_equals_offline

DOOR, FEATURES = "incoming-event-handler", "stream-to-features"


def bet(user: str = "ann", amount: Any = 2.5) -> dict[str, Any]:
    return {"user_id": user, "event_type": "new_bet", "event_time": "2026-01-03T12:00:00Z", "bet_amount": amount}


def healthy(rows: set[Any]) -> bool:
    return False


def post(river: River, *bodies: bytes) -> None:
    with river.door(DOOR) as door:
        for body in bodies:
            door.post(body)


def only(river: River, function: str) -> DeadLetter:
    (letter,) = dead_letters(function, settings=river.settings)
    return letter


def test_a_row_that_was_poison_is_applied_once_when_the_function_is_repaired(
    waiting: Callable[..., River],  # noqa: F811
) -> None:
    river = waiting(FEATURES)
    bad = {row for _, row in some(river, FEATURES, 400, 700)}
    pump(river, FEATURES, lambda rows: bool(rows & bad))
    for letter in dead_letters(FEATURES, settings=river.settings):
        redrive(letter, river.settings)
    pump(river, FEATURES, healthy)
    assert_online_equals_offline(river)  # of what the stream told, in whatever order it was applied
    line = river.lines()[FEATURES, f"redriven-{FEATURES}"]
    assert (line.given, line.applied, line.unaccounted) == (2, 2, 0)
    assert_conserved(river, FEATURES)
    assert {each.redriven_at is not None for each in dead_letters(FEATURES, settings=river.settings)} == {True}


def test_the_engine_knows_what_a_redriven_event_changed_and_the_other_way_round(
    waiting: Callable[..., River],  # noqa: F811
) -> None:
    river = waiting(FEATURES, day(customers=1, rows=100))
    bad = {row for _, row in some(river, FEATURES, 40)}
    pump(river, FEATURES, lambda rows: bool(rows & bad))
    restore, restored = WindowEngine.restore, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(WindowEngine, "restore", lambda self, states: restored.append(1) or restore(self, states))
        redrive(only(river, FEATURES), river.settings)
        pump(river, FEATURES, healthy)
    assert len(restored) == 1
    assert_online_equals_offline(river)


def test_what_the_door_refused_is_taken_once_the_door_can_read_it(river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = [bet(f"u{number}") | {"event_type": "new_bet_v2"} for number in range(3)]
    post(river, b"\n".join(json.dumps(each).encode() for each in [bet(), *newer]))
    assert len(river.rows(INCOMING)) == 1
    for letter in dead_letters(DOOR, settings=river.settings):
        redrive(letter, river.settings)
    decode = EventDecoder.decode
    monkeypatch.setattr(EventDecoder, "decode", lambda self, body: decode(self, body.replace(b"new_bet_v2", b"new_bet")))
    pump(river, DOOR, healthy)
    assert sorted(row["user_id"] for row in river.rows(INCOMING)) == ["ann", "u0", "u1", "u2"]
    assert len(dead_letters(DOOR, settings=river.settings)) == 3
    assert_conserved(river, DOOR)


def test_what_is_refused_again_has_a_letter_that_names_the_old_one(river: River) -> None:
    post(river, json.dumps(bet(amount="much")).encode(), b"\xff no JSON")
    old = {letter.name for letter in dead_letters(DOOR, settings=river.settings)}
    for name in old:
        redrive(dead_letter(name, river.settings), river.settings)
    pump(river, DOOR, healthy)
    new = [letter for letter in dead_letters(DOOR, settings=river.settings) if letter.name not in old]
    assert {letter.redrives for letter in new} == old
    assert all("handed back before" in letter.sentence() for letter in new)
    line = river.lines()[DOOR, f"redriven-{DOOR}"]
    assert (line.given, line.invalid, line.unaccounted) == (2, 2, 0)


def test_a_letter_is_handed_back_once(river: River) -> None:
    post(river, json.dumps(bet(amount="much")).encode())
    letter = only(river, DOOR)
    redrive(letter, river.settings)
    with pytest.raises(BadRequest, match="handed back before"):
        redrive(letter, river.settings)  # whoever has looked before does not know
    with pytest.raises(BadRequest, match="was handed back at"):
        redrive(only(river, DOOR), river.settings)
    pump(river, DOOR, healthy)
    assert river.lines()[DOOR, f"redriven-{DOOR}"].given == 1


def test_the_bytes_that_are_handed_back_are_those_that_were_sent(river: River) -> None:
    body = b'{"user_id": "\xff\xfe", "event_type": "new_bet"}'
    post(river, body)
    assert redrive(only(river, DOOR), river.settings).payload == body


def test_a_letter_that_holds_a_part_only_is_not_handed_back(river: River, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "KEPT_BYTES", 100)
    post(river, json.dumps(bet("u" * 300)).encode())
    with pytest.raises(BadRequest, match="the beginning of a longer payload only"):
        redrive(only(river, DOOR), river.settings)


def test_a_late_event_is_handed_back_from_its_stream_and_is_late_again(river: River) -> None:
    events = day(customers=1, rows=50)
    river.send([*events, events[30] | {"event_time": "2020-01-01T00:00:00Z"}], rows=100)
    river.flow(DOOR, "enrich-stream", FEATURES)
    late = only(river, FEATURES)
    assert late.source == ENRICHED
    redrive(late, river.settings)
    pump(river, FEATURES, healthy)
    assert river.lines()[FEATURES, f"redriven-{FEATURES}"].late == 1
    assert [each.redrives for each in dead_letters(FEATURES, settings=river.settings)] == [late.name, ""]

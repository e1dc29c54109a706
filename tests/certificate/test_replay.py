import random
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise

import pytest

from churnstream.certificate.replay import DISPLACED, Replay, cut, mixed_up
from churnstream.usecases import load
from churnstream.usecases.case import UseCase

EVERY_WINDOW = "churnstream.certificate.every_window"
CUSTOMERS, EVENTS = 100, 1_900
MADE = CUSTOMERS + EVENTS


@pytest.fixture(scope="module", params=["first_day", EVERY_WINDOW])
def case(request: pytest.FixtureRequest) -> UseCase:
    return load(request.param)


@pytest.fixture(scope="module")
def replay(case: UseCase) -> Replay:
    return mixed_up(case, 3, CUSTOMERS, EVENTS, {})


def test_everything_that_is_made_is_sent_and_one_in_twenty_twice_where_that_can_be_told(case: UseCase, replay: Replay) -> None:
    assert case.simulate is not None
    made = Counter(repr(event) for event in case.simulate(3, CUSTOMERS, EVENTS))
    sent = Counter(repr(event) for event in replay.sent)
    assert set(sent) == set(made)
    assert sum(made.values()) == MADE
    twice = MADE // 20 if case.identity else 0
    assert len(replay.sent) == MADE + twice
    assert replay.twice == twice


def test_one_in_twenty_is_held_up_and_half_of_those_are_late(replay: Replay) -> None:
    assert replay.delayed == MADE // 20
    late = sum(sum(story.late) for story in replay.stories.values())
    assert 0.8 * MADE / 40 < late <= MADE / 40


def test_what_is_held_up_as_long_as_is_allowed_is_not_late(case: UseCase, replay: Replay) -> None:
    # every event that is late was overtaken by one that is more than the lateness younger, and no other was
    for story in replay.stories.values():
        newest = None
        for each, late in zip(story.arrivals, story.late, strict=True):
            assert late == (newest is not None and each.at < newest - case.features.lateness)
            newest = each.at if newest is None else max(newest, each.at)


def test_events_come_out_of_order_and_not_further_than_they_may(case: UseCase, replay: Replay) -> None:
    times = [event["event_time"] for event in replay.sent]
    moved, newest = 0, times[0]
    for at in times:
        moved += at < newest - max(DISPLACED, case.features.lateness)
        newest = max(newest, at)
    copies = replay.twice  # a second copy comes up to 45 minutes after the first
    assert moved <= MADE / 40 + copies
    assert replay.overtaken > MADE / 20
    assert 0 < replay.furthest < MADE


def test_a_story_tells_the_looked_up_number_or_the_default() -> None:
    case = load("first_day")
    assert case.simulate is not None
    postcodes = {event["user_id"]: event["postcode"] for event in case.simulate(3, CUSTOMERS, EVENTS) if "postcode" in event}
    known = dict.fromkeys(list(postcodes.values())[::2], 0.125)
    found = mixed_up(case, 3, CUSTOMERS, EVENTS, known)
    for who, story in found.stories.items():
        (registered,) = (each for each in story.arrivals if each.event == "new_registration")
        assert registered.values["socioeconomic_idx"] == known.get(postcodes[who], 0.5)


def test_the_same_seed_sends_the_same_bytes_and_another_seed_others(case: UseCase, replay: Replay) -> None:
    again, other = (mixed_up(case, seed, CUSTOMERS, EVENTS, {}) for seed in (3, 4))
    assert again == replay
    assert other.digest != replay.digest


def test_customers_of_every_window_do_things_at_one_instant_and_exactly_a_windows_length_apart() -> None:
    case = load(EVERY_WINDOW)
    assert case.simulate is not None
    lives: dict[str, list[datetime]] = {}
    for event in case.simulate(3, CUSTOMERS, EVENTS):
        lives.setdefault(event["user_id"], []).append(event["event_time"])
    gaps = Counter(after - before for life in lives.values() for before, after in pairwise(life))
    for gap in (timedelta(0), timedelta(minutes=20), timedelta(hours=1), timedelta(hours=3), timedelta(hours=6)):
        assert gaps[gap] > 10


def test_cutting_loses_nothing_and_makes_pieces_of_many_sizes() -> None:
    events = [{"place": place} for place in range(5_000)]
    pieces = list(cut(events, random.Random(1), 50))
    assert [event for piece in pieces for event in piece] == events
    sizes = [len(piece) for piece in pieces]
    assert min(sizes) < 5
    assert max(sizes) > 150
    assert list(cut([], random.Random(1), 50)) == []

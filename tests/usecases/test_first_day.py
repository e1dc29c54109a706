"""The simulated first day: the mix that the case promises, and nothing but events that its own door accepts."""

from collections import Counter
from datetime import timedelta
from itertools import pairwise

from churnstream.codecs import EventDecoder, encode_json
from churnstream.usecases import load
from churnstream.usecases.first_day import EPOCH, REGISTRATION_DAYS, postcodes, simulate

CASE = load("first_day")


def test_seven_in_ten_customers_churn() -> None:
    labels = [event["label"] for event in simulate(1, 3_000, 3_000) if event["event_type"] == "new_registration"]
    assert len(labels) == 3_000
    assert 0.68 < sum(labels) / len(labels) < 0.72


def test_events_come_in_order_of_event_time() -> None:
    times = [event["event_time"] for event in simulate(1, 100, 5_000)]
    assert all(earlier <= later for earlier, later in pairwise(times))
    assert min(times) >= EPOCH
    assert max(times) < EPOCH + timedelta(days=REGISTRATION_DAYS + 3)


def test_every_simulated_event_is_accepted_at_the_door() -> None:
    decoded = EventDecoder(CASE).decode(encode_json(simulate(1, 50, 5_000)))
    assert decoded.refused == ()
    assert decoded.batch.num_rows == 5_050
    assert set(decoded.batch.column("event_type").to_pylist()) == set(CASE.event_names)


def test_the_example_is_accepted_at_the_door() -> None:
    for name in ("first_day", "casual_game"):
        case = load(name)
        assert EventDecoder(case).decode(dict(case.example)).refused == ()


def test_each_customer_registers_once_and_first() -> None:
    seen: Counter[str] = Counter()
    for event in simulate(1, 50, 5_000):
        assert (event["event_type"] == "new_registration") == (seen[event["user_id"]] == 0)
        seen[event["user_id"]] += 1
    assert len(seen) == 50


def test_some_postcodes_are_in_no_table() -> None:
    codes = {event["postcode"] for event in simulate(1, 2_000, 2_000) if event["event_type"] == "new_registration"}
    assert codes - set(postcodes())


def test_the_vector_has_thirteen_features_in_the_order_that_models_see() -> None:
    assert CASE.features.names == (
        "socioeconomic_idx",
        *(f"{what}_{op}" for what in ("purchase", "bet", "win") for op in ("sum", "mean", "count", "var")),
    )

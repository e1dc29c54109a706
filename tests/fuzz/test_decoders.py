"""Bytes that were cut, flipped or made up: a named error, or an answer; never a crash."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.codecs import EventDecoder, decode_batch, encode_batch
from churnstream.errors import ChurnstreamError, UnreadablePayload
from churnstream.graph.engine import StateReader, WindowEngine
from churnstream.usecases import load

CASE = load("first_day")
AT = datetime(2026, 1, 2, tzinfo=UTC)


def batch(rows: int = 40) -> pa.RecordBatch:
    """Good events of three customers, enriched as the stream before the features is."""
    events: list[dict[str, Any]] = []
    for number in range(rows):
        told = {"user_id": f"u{number % 3}", "event_time": (AT + timedelta(minutes=number)).isoformat()}
        if number < 3:
            person = ("name", "street_address", "city", "country", "postcode", "affiliate_url", "campaign")
            registration = dict.fromkeys(person, "x") | {"date_of_birth": "1990-12-31", "label": 0}
            events.append(told | {"event_type": "new_registration", **registration})
        else:
            kind, amount = (("new_purchases", "amount"), ("new_bet", "bet_amount"), ("new_win", "win_amount"))[number // 3 % 3]
            events.append(told | {"event_type": kind, amount: float(number)})
    decoded = EventDecoder(CASE).decode(json.dumps(events).encode())
    assert not decoded.refused, decoded.refused[:2]
    made = decoded.batch
    join = CASE.enrichment
    assert join is not None
    return made.append_column(join.column, pa.array(np.full(made.num_rows, 0.5)))


GOOD = encode_batch(batch())
STATES = WindowEngine(CASE).apply(batch(), True).states
DAMAGE = st.lists(
    st.tuples(st.integers(0, 2**31), st.integers(0, 255), st.sampled_from(["flip", "cut", "insert", "zero"])),
    min_size=1,
    max_size=4,
)


def damaged(good: bytes, damage: list[tuple[int, int, str]]) -> bytes:
    data = bytearray(good)
    for place, value, deed in damage:
        at = place % max(1, len(data))
        if deed == "flip" and data:
            data[at] ^= value or 1
        elif deed == "cut":
            del data[at:]
        elif deed == "insert":
            data[at:at] = bytes([value]) * 8
        else:
            data[at : at + 8] = bytes(8)
    return bytes(data)


def read(payload: bytes) -> None:
    """Everything that a function does with a batch before it looks at what it says."""
    with suppress(ChurnstreamError):
        decode_batch(payload).to_pylist()


@settings(max_examples=400)
@given(DAMAGE)
def test_a_damaged_batch_is_a_named_error_or_a_batch(damage: list[tuple[int, int, str]]) -> None:
    read(damaged(GOOD, damage))


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_bytes_that_were_never_a_batch_are_a_named_error(payload: bytes) -> None:
    with pytest.raises(UnreadablePayload):
        decode_batch(payload)


def test_a_batch_cut_anywhere_is_never_read_as_a_shorter_one() -> None:
    whole = decode_batch(GOOD).num_rows
    for end in range(0, len(GOOD), 7):
        try:
            assert decode_batch(GOOD[:end]).num_rows in (0, whole), end
        except ChurnstreamError:
            continue


@settings(max_examples=300)
@given(st.sampled_from(sorted(STATES)), DAMAGE)
def test_a_damaged_state_is_a_named_error_or_a_state(customer: str, damage: list[tuple[int, int, str]]) -> None:
    states = {key: bytes(value) for key, value in STATES.items()} | {customer: damaged(bytes(STATES[customer]), damage)}
    engine = WindowEngine(CASE)
    with suppress(ChurnstreamError):
        engine.restore(states.items())
        engine.apply(batch(), True)
    with suppress(ChurnstreamError):
        StateReader(CASE).vector(states[customer])


def test_a_state_cut_anywhere_is_refused() -> None:
    state = bytes(next(iter(STATES.values())))
    for end in range(0, len(state), 3):
        with pytest.raises(ChurnstreamError):
            WindowEngine(CASE).restore([("u0", state[:end])])


def test_what_is_whole_is_restored_and_goes_on_as_if_nothing_had_been() -> None:
    kept, restored = WindowEngine(CASE), WindowEngine(CASE)
    kept.restore((key, bytes(value)) for key, value in STATES.items())
    restored.restore((key, bytes(value)) for key, value in STATES.items())
    assert {k: bytes(v) for k, v in kept.apply(batch(), True).states.items()} == {
        k: bytes(v) for k, v in restored.apply(batch(), True).states.items()
    }

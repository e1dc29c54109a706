"""What comes in as JSON goes on as it was meant, or is refused with a sentence; nothing else can happen."""

import json
import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.codecs import ARROW_TYPES, Decoded, EventDecoder, decode_batch, encode_batch, encode_json, schema
from churnstream.errors import UnknownVersion, UnreadablePayload
from churnstream.usecases import load
from churnstream.usecases.case import Kind

CASE = load("first_day")
DECODER = EventDecoder(CASE)
INSTANT = "2026-01-03T12:00:00Z"

instants = st.datetimes(timezones=st.just(UTC)).filter(lambda at: 1 < at.timetuple().tm_yday < 365)  # room for any offset
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
amounts = st.floats(0.0, 1e9).map(abs)
users = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
registrations = st.fixed_dictionaries(
    {
        "user_id": users,
        "event_type": st.just("new_registration"),
        "event_time": instants,
        "date_of_birth": st.dates().map(str),
        **dict.fromkeys(("name", "street_address", "city", "country", "postcode"), texts),
    },
    optional={"affiliate_url": st.none() | texts, "campaign": texts, "label": st.none() | st.integers(0, 1)},
)
plays = st.sampled_from([("new_purchases", "amount"), ("new_bet", "bet_amount"), ("new_win", "win_amount")]).flatmap(
    lambda kind: st.fixed_dictionaries(
        {"user_id": users, "event_type": st.just(kind[0]), "event_time": instants, kind[1]: amounts}
    )
)
events = st.lists(registrations | plays, min_size=1, max_size=12)


def bet(**changes: Any) -> dict[str, Any]:
    return {"user_id": "u", "event_type": "new_bet", "event_time": INSTANT, "bet_amount": 2.5} | changes


def raw_bet(amount: str = "2.5", user: str = '"u"', at: str = INSTANT) -> bytes:
    return f'{{"user_id":{user},"event_type":"new_bet","event_time":"{at}","bet_amount":{amount}}}'.encode()


def reasons(decoded: Decoded) -> list[str]:
    return [each.reason for each in decoded.refused]


def the_row_of(event: Mapping[str, Any]) -> dict[str, Any]:
    """``event`` as a row of a batch: every field of the case, dates as dates."""
    row = dict.fromkeys(schema(CASE).names) | dict(event)
    if row["date_of_birth"] is not None:
        row["date_of_birth"] = datetime.fromisoformat(row["date_of_birth"]).date()
    return row


# -- round trips ----------------------------------------------------------------------------------------------------------


@given(events)
def test_events_survive_json_and_arrow(given_events: list[dict[str, Any]]) -> None:
    decoded = DECODER.decode(encode_json(given_events))
    assert decoded.refused == ()
    again = decode_batch(encode_batch(decoded.batch))
    assert again.schema.equals(schema(CASE))
    assert again.to_pylist() == [the_row_of(each) for each in given_events]


@given(events)
def test_an_array_lines_and_what_a_platform_parsed_are_the_same_batch(given_events: list[dict[str, Any]]) -> None:
    lines = encode_json(given_events)
    array = (
        b"[" + b",".join(lines.splitlines() if lines.isascii() else [encode_json([each]).strip() for each in given_events]) + b"]"
    )
    wanted = DECODER.decode(lines).batch
    for body in (array, array.decode(), bytearray(array), json.loads(array), lines.decode(), lines.replace(b"\n", b"\r\n")):
        decoded = DECODER.decode(body)
        assert decoded.refused == ()
        assert decoded.batch.equals(wanted)


@given(instants, st.integers(-23 * 60, 23 * 60))
def test_an_instant_is_the_same_in_every_offset(at: datetime, minutes: int) -> None:
    local = at.astimezone(timezone(timedelta(minutes=minutes)))
    assert DECODER.decode(json.dumps(bet(event_time=local.isoformat()))).batch.column(2)[0].as_py() == at


def test_one_event_over_several_lines_is_one_event() -> None:
    assert DECODER.decode(json.dumps(bet(), indent=2)).rows == 1
    refused = DECODER.decode(json.dumps(bet(bet_amount=-1), indent=2))
    assert refused.rows == 1
    assert reasons(refused) == ["the field bet_amount is wrong: Expected `float` >= 0.0"]


def test_blank_lines_are_no_events() -> None:
    assert DECODER.decode(b"\n\n" + raw_bet() + b"\n\n  \n" + raw_bet() + b"\n\n").rows == 2
    assert DECODER.decode(b"\n\n" + raw_bet() + b"\n\n  \nnonsense\n\n").rows == 2


def test_the_last_of_two_equal_keys_counts() -> None:
    body = raw_bet().replace(b'"bet_amount":2.5', b'"bet_amount":1,"bet_amount":2')
    assert DECODER.decode(body).batch.column("bet_amount").to_pylist() == [2.0]


def test_a_field_that_the_case_does_not_know_is_left_out() -> None:
    decoded = DECODER.decode(json.dumps(bet(colour="blue", nested={"a": [1, {"b": None}]})))
    assert decoded.refused == ()
    assert decoded.batch.schema.equals(schema(CASE))


def test_an_empty_batch_survives() -> None:
    empty = pa.RecordBatch.from_pylist([], schema=schema(CASE))
    assert decode_batch(encode_batch(empty)).num_rows == 0


# -- refusals -------------------------------------------------------------------------------------------------------------

NO_RFC = "is no RFC 3339 instant with an offset, such as 2026-01-31T12:00:00Z"
REFUSED = [
    ({"bet_amount": -0.01}, "the field bet_amount is wrong: Expected `float` >= 0.0"),
    ({"bet_amount": 1_000_000_001}, "the field bet_amount is wrong: Expected `float` <= 1000000000.0"),
    ({"bet_amount": 10**30}, "the field bet_amount is wrong: Expected `float` <= 1000000000.0"),
    ({"bet_amount": 10**400}, "the field bet_amount is wrong: Number out of range"),
    ({"bet_amount": -0.0}, "the field bet_amount is wrong: -0.0 is no amount; send 0"),
    ({"bet_amount": None}, "the field bet_amount is wrong: Expected `float`, got `null`"),
    ({"bet_amount": True}, "the field bet_amount is wrong: Expected `float`, got `bool`"),
    ({"bet_amount": "2.5"}, "the field bet_amount is wrong: Expected `float`, got `str`"),
    ({"bet_amount": [2.5]}, "the field bet_amount is wrong: Expected `float`, got `array`"),
    ({"user_id": ""}, "the field user_id is wrong: Expected `str` of length >= 1"),
    ({"user_id": "é" * 257}, "the field user_id is wrong: Expected `str` of length <= 256"),
    ({"user_id": "x" * 1_000_000}, "the field user_id is wrong: Expected `str` of length <= 256"),
    ({"user_id": 7}, "the field user_id is wrong: Expected `str`, got `int`"),
    ({"user_id": None}, "the field user_id is wrong: Expected `str`, got `null`"),
    ({"event_type": "new_bat"}, "the field event_type is wrong: Invalid value 'new_bat'"),
    ({"event_type": 1}, "the field event_type is wrong: Expected `str`"),
    ({"event_time": "yesterday"}, f"the field event_time is wrong: 'yesterday' {NO_RFC}"),
    ({"event_time": ""}, f"the field event_time is wrong: '' {NO_RFC}"),
    ({"event_time": "2026-01-03T12:00:00"}, f"the field event_time is wrong: '2026-01-03T12:00:00' {NO_RFC}"),
    ({"event_time": "2026-02-30T12:00:00Z"}, f"the field event_time is wrong: '2026-02-30T12:00:00Z' {NO_RFC}"),
    ({"event_time": "2026-01-03T25:00:00Z"}, f"the field event_time is wrong: '2026-01-03T25:00:00Z' {NO_RFC}"),
    ({"event_time": "0000-01-01T00:00:00Z"}, f"the field event_time is wrong: '0000-01-01T00:00:00Z' {NO_RFC}"),
    ({"event_time": "9999-12-31T23:59:59-01:00"}, f"the field event_time is wrong: '9999-12-31T23:59:59-01:00' {NO_RFC}"),
    ({"event_time": "0001-01-01T00:00:00+01:00"}, f"the field event_time is wrong: '0001-01-01T00:00:00+01:00' {NO_RFC}"),
    ({"event_time": "x" * 10_000}, f"the field event_time is wrong: '{'x' * 40}' {NO_RFC}"),
    ({"event_time": 1_767_441_600}, "the field event_time is wrong: Expected `str`, got `int`"),
]
REGISTRATION = {
    **dict.fromkeys(("user_id", "name", "street_address", "city", "country", "postcode"), "x"),
    "event_type": "new_registration",
    "event_time": INSTANT,
    "date_of_birth": "1990-12-31",
}
REFUSED_REGISTRATIONS = [
    ({"date_of_birth": "31.12.1990"}, "the field date_of_birth is wrong: '31.12.1990' is no date such as 1990-12-31"),
    ({"date_of_birth": "1990-02-30"}, "the field date_of_birth is wrong: '1990-02-30' is no date such as 1990-12-31"),
    ({"date_of_birth": "0000-01-01"}, "the field date_of_birth is wrong: '0000-01-01' is no date such as 1990-12-31"),
    ({"label": 2}, "the field label is wrong: Expected `int` <= 1"),
    ({"label": 0.5}, "the field label is wrong: Expected `int | null`, got `float`"),
    ({"label": 10**30}, "the field label is wrong: "),
    ({"city": "x" * 4_097}, "the field city is wrong: Expected `str` of length <= 4096"),
    ({"city": "x" * 1_000_000}, "the field city is wrong: Expected `str` of length <= 4096"),
]


@pytest.mark.parametrize(
    ("event", "sentence"),
    [(bet(**changes), sentence) for changes, sentence in REFUSED]
    + [(REGISTRATION | changes, sentence) for changes, sentence in REFUSED_REGISTRATIONS],
)
@pytest.mark.parametrize("form", [json.dumps, lambda event: event, lambda event: [event]], ids=["bytes", "parsed", "array"])
def test_a_wrong_event_is_refused_with_its_sentence_and_its_neighbours_are_not(event: Any, sentence: str, form: Any) -> None:
    alone = DECODER.decode(form(event))
    assert alone.batch.num_rows == 0
    assert alone.refused[0].reason.startswith(sentence)
    together = DECODER.decode([bet(), event, REGISTRATION])
    assert (together.batch.num_rows, together.rows) == (2, 3)
    assert [each.row for each in together.refused] == [1]
    assert together.refused[0].reason == alone.refused[0].reason


@pytest.mark.parametrize("missing", ["user_id", "event_type", "event_time", "bet_amount"])
def test_a_missing_field_is_named(missing: str) -> None:
    event = {name: value for name, value in bet().items() if name != missing}
    (reason,) = reasons(DECODER.decode([event]))
    assert reason == f"the event could not be read: Object missing required field `{missing}`"


def test_a_refused_event_keeps_its_bytes() -> None:
    wrong = raw_bet("-1")
    decoded = DECODER.decode(raw_bet() + b"\n" + wrong + b"\n{nonsense\n" + raw_bet())
    assert [(each.row, each.payload) for each in decoded.refused] == [(1, wrong), (2, b"{nonsense")]
    assert decoded.batch.num_rows == 2


@pytest.mark.parametrize(
    "number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", "0x10", "01", "1_000", "+1", ".5", "1."]
)
def test_what_is_no_finite_json_number_is_no_amount(number: str) -> None:
    decoded = DECODER.decode(raw_bet() + b"\n" + raw_bet(number))
    assert (decoded.batch.num_rows, [each.row for each in decoded.refused]) == (1, [1])


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_one_number_that_python_writes_beyond_json_does_not_spoil_an_array(number: str) -> None:
    decoded = DECODER.decode(b"[" + raw_bet() + b"," + raw_bet(number) + b"," + raw_bet("3") + b"]")
    assert (decoded.batch.num_rows, [each.row for each in decoded.refused]) == (2, [1])


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), float("-inf")])
def test_what_python_parses_beyond_json_is_no_amount(amount: float) -> None:
    decoded = DECODER.decode([bet(), bet(bet_amount=amount)])
    assert (decoded.batch.num_rows, [each.row for each in decoded.refused]) == (1, [1])


@pytest.mark.parametrize("user", ['"\\ud800"', '"a\\udc00b"', '"\\ud800\\ud800"'])
def test_half_a_surrogate_pair_is_no_text(user: str) -> None:
    half = raw_bet(user=user)
    for bodies in (raw_bet() + b"\n" + half, [bet(), json.loads(half)], json.dumps([bet()])[:-1] + "," + half.decode() + "]"):
        decoded = DECODER.decode(bodies)
        assert (decoded.batch.num_rows, [each.row for each in decoded.refused]) == (1, [1])
    assert DECODER.decode(raw_bet(user='"\\ud83d\\ude00"')).batch.column(0).to_pylist() == ["😀"]


@pytest.mark.parametrize("depth", [900, 1_100, 100_000])
@pytest.mark.parametrize(
    "wrong", [b"[", b'{"a":', b'{"user_id":"u","event_type":"new_bet","event_time":"x","bet_amount":[', b'{"x":[[']
)
def test_endless_nesting_is_refused_and_its_neighbours_are_not(depth: int, wrong: bytes) -> None:
    line = wrong * depth
    together = DECODER.decode(raw_bet() + b"\n" + line + b"\n" + raw_bet())
    assert (together.batch.num_rows, [each.row for each in together.refused]) == (2, [1])
    alone = assert_nothing_vanished(line)
    assert alone is None or alone.batch.num_rows == 0
    with pytest.raises(UnreadablePayload):
        DECODER.decode(b"[" + raw_bet() + b"," + line)


@pytest.mark.parametrize("depth", [500, 5_000])
def test_endless_nesting_that_a_platform_has_parsed_is_refused_and_its_neighbours_are_not(depth: int) -> None:
    nested: list[Any] = []
    for _ in range(depth):
        nested = [nested]
    decoded = DECODER.decode([bet(), bet(bet_amount=nested), nested])
    assert (decoded.batch.num_rows, [each.row for each in decoded.refused]) == (1, [1, 2])


# -- payloads of which nothing can be read --------------------------------------------------------------------------------

UNREADABLE = [
    (b"", "the body is empty: send one JSON event, an array of events, or one event a line"),
    (b" \r\n\t ", "the body is empty"),
    (b"[]", "the body is empty"),
    ([], "the body is an empty array: there is no event in it"),
    (None, "the body is a JSON NoneType; send one event, an array of events, or one event a line"),
    (5, "the body is a JSON int"),
    (True, "the body is a JSON bool"),
    (b"nonsense", "nothing in the body could be read as JSON: the event could not be read: JSON is malformed"),
    (b"nonsense\nmore of it", "nothing in the body could be read as JSON"),
    (b"\xff\xfe\x00", "nothing in the body could be read as JSON"),
    (b"\xef\xbb\xbf" + raw_bet(), "nothing in the body could be read as JSON"),
    (b"[" + raw_bet(), "the body starts as a JSON array but could not be read to its end"),
    (b"[" + raw_bet() + b",]", "the body starts as a JSON array but could not be read to its end"),
    ("\ud800", "nothing in the body could be read as JSON"),
    (b"user_id=u&bet_amount=1", "nothing in the body could be read as JSON"),
]


@pytest.mark.parametrize(("body", "sentence"), UNREADABLE)
def test_a_body_in_which_there_is_no_event_is_refused_as_a_whole(body: Any, sentence: str) -> None:
    with pytest.raises(UnreadablePayload) as caught:
        DECODER.decode(body)
    assert str(caught.value).startswith(sentence)


@pytest.mark.parametrize("payload", [b"", b"nonsense", raw_bet(), encode_batch(DECODER.decode(raw_bet()).batch)[:-200]])
def test_what_is_no_arrow_stream_is_refused(payload: bytes) -> None:
    with pytest.raises(UnreadablePayload, match="the payload is no Arrow stream"):
        decode_batch(payload)


def test_a_batch_of_another_layout_is_refused() -> None:
    batch = DECODER.decode(raw_bet()).batch
    for metadata, told in (({b"churnstream.version": b"2"}, "2"), ({}, "none")):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema.with_metadata(metadata)) as writer:
            writer.write_batch(batch.replace_schema_metadata(metadata))
        with pytest.raises(
            UnknownVersion, match=f"the batch has layout version {told}, this version reads 1; update the reader first"
        ):
            decode_batch(sink.getvalue().to_pybytes())


# -- whatever comes -------------------------------------------------------------------------------------------------------

values: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["u", INSTANT, "new_bet", -0.0]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
near_events = st.fixed_dictionaries(
    {},
    optional={
        "user_id": st.just("u") | values,
        "event_type": st.sampled_from(CASE.event_names) | values,
        "event_time": st.sampled_from([INSTANT, "0000-01-01T00:00:00Z", "2026-01-03"]) | values,
        **{name: st.just(1) | values for name in ("amount", "bet_amount", "win_amount", "label")},
        **{name: st.just("x") | values for name in ("name", "street_address", "city", "country", "postcode", "date_of_birth")},
    },
)
junk = st.one_of(
    st.binary(max_size=60),
    st.text(string.printable, max_size=60).map(str.encode),
    values.map(lambda value: json.dumps(value).encode()),
    st.lists(near_events | values, max_size=5).map(lambda each: json.dumps(each).encode()),
    st.lists(near_events.map(lambda each: json.dumps(each).encode()) | st.binary(max_size=20), max_size=5).map(b"\n".join),
)


def assert_nothing_vanished(body: Any) -> Decoded | None:
    try:
        decoded = DECODER.decode(body)
    except UnreadablePayload:
        return None
    places = [each.row for each in decoded.refused]
    assert places == sorted(set(places))
    assert all(0 <= place < decoded.rows for place in places)
    assert all(each.reason.startswith(("the field ", "the event could not be read")) for each in decoded.refused)
    assert decoded.batch.schema.equals(schema(CASE))
    decoded.batch.validate(full=True)
    decoded.batch.to_pylist()  # every value is one that Python can hold
    return decoded


@given(junk)
@settings(max_examples=500)
def test_whatever_bytes_come_every_event_is_taken_or_refused(body: bytes) -> None:
    assert_nothing_vanished(body)


@given(values | near_events | st.lists(near_events | values, max_size=5))
@settings(max_examples=500)
def test_whatever_a_platform_has_parsed_every_event_is_taken_or_refused(body: Any) -> None:
    decoded = assert_nothing_vanished(body)
    if decoded is not None and not isinstance(body, str):
        assert decoded.rows == (len(body) if isinstance(body, list) else 1)


@given(st.lists(near_events, min_size=1, max_size=5))
@settings(max_examples=300)
def test_bytes_and_what_a_platform_parsed_from_them_are_judged_alike(given_events: list[Any]) -> None:
    body = json.dumps(given_events, allow_nan=True)
    if any(word in body for word in ("NaN", "Infinity", "\\ud")):
        return  # no JSON: Python alone reads it
    from_bytes, from_parsed = assert_nothing_vanished(body), assert_nothing_vanished(json.loads(body))
    assert from_bytes is not None
    assert from_parsed is not None
    assert from_bytes.batch.equals(from_parsed.batch)
    assert [each.row for each in from_bytes.refused] == [each.row for each in from_parsed.refused]


@given(
    st.binary(max_size=300) | st.binary(max_size=40).map(lambda tail: encode_batch(DECODER.decode(raw_bet()).batch)[:-40] + tail)
)
def test_whatever_bytes_come_a_batch_is_whole_or_refused(payload: bytes) -> None:
    try:
        batch = decode_batch(payload)
    except (UnreadablePayload, UnknownVersion):
        return
    assert batch.num_rows == 1


def test_every_kind_of_field_has_a_column_type() -> None:
    assert set(ARROW_TYPES) == set(Kind)

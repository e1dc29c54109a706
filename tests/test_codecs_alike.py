"""Lines that look alike are read together; who reads them makes a difference in speed only."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from churnstream.codecs import Decoded, EventDecoder, encode_json, schema
from churnstream.codecs.judge import Judge
from churnstream.errors import UnreadablePayload
from churnstream.usecases import load
from churnstream.usecases.case import EventType, Field, Kind

FREE = EventType(
    "free",
    (
        Field("any", Kind.NUMBER),
        Field("maybe", Kind.NUMBER, required=False, at_least=-1),
        Field("whole", Kind.WHOLE, required=False),
        Field("small", Kind.WHOLE, required=False, at_least=-2.5, at_most=9.5),
        Field("day", Kind.DATE, required=False),
        Field("note", Kind.TEXT, required=False),
        Field("amount", Kind.NUMBER, required=False),  # of another event as well, within other limits
    ),
)
CASE = load("first_day")
CASE = replace(CASE, events=(*CASE.events, FREE))
ALIKE, JUDGE = EventDecoder(CASE, alike_from=0), EventDecoder(CASE, alike_from=float("inf"))
AT = "2026-01-03T12:00:00Z"


def bet(**changes: Any) -> dict[str, Any]:
    return {"user_id": "u", "event_type": "new_bet", "event_time": AT, "bet_amount": 2.5} | changes


def free(**changes: Any) -> dict[str, Any]:
    return {"user_id": "u", "event_type": "free", "event_time": AT, "any": 1} | changes


REGISTRATION = {
    **dict.fromkeys(("user_id", "name", "street_address", "city", "country", "postcode"), "x"),
    "event_type": "new_registration",
    "event_time": AT,
    "date_of_birth": "1990-12-31",
    "label": 1,
}


def compact(event: Any) -> bytes:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")


def as_python_writes(event: Any) -> bytes:
    return json.dumps(event).encode()


def backwards(event: dict[str, Any]) -> bytes:
    return b" " + json.dumps(dict(reversed(event.items())), separators=(" , ", " : "), ensure_ascii=False).encode() + b" "


def outcome(decoder: EventDecoder, body: Any) -> tuple[Any, ...]:
    """All that can be told apart: the rows with their types and signs of zero, the refused, the ids, or the sentence."""
    try:
        decoded = decoder.decode(body)
    except UnreadablePayload as refused:
        return (str(refused),)
    decoded.batch.validate(full=True)
    assert decoded.batch.schema.equals(schema(CASE))
    return repr(decoded.batch.to_pylist()), decoded.refused, decoded.ids and decoded.ids.to_pylist()


def assert_one_verdict(body: Any) -> None:
    wanted = outcome(JUDGE, body)
    assert outcome(ALIKE, body) == wanted
    assert outcome(ALIKE, body) == wanted  # with what it has learned from it, too


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """What the judge gets to see."""
    shown: list[bytes] = []
    each = Judge.each

    def listen(self: Judge, items: Any, rows: Any) -> Any:
        shown.extend(items)
        return each(self, items, rows)

    def all_of_it(self: Judge, data: bytes) -> Any:
        raise AssertionError("the judge was given the payload as a whole")

    monkeypatch.setattr(Judge, "each", listen)
    monkeypatch.setattr(Judge, "lines", all_of_it)
    return shown


# -- what needs no judge --------------------------------------------------------------------------------------------------

GOOD = [
    *(bet(user_id=f"u{number}", bet_amount=number / 100) for number in range(30)),
    *(bet(event_time=f"2026-01-03T12:00:00.{'123456789'[:digits]}+05:30") for digits in range(1, 7)),
    *({"user_id": "é😀", "event_type": kind, "event_time": AT, field: 3} for kind, field in [("new_win", "win_amount")]),
    {"user_id": "u", "event_type": "new_purchases", "event_time": AT, "amount": 1_000_000_000},
    REGISTRATION,
    REGISTRATION | {"label": None, "campaign": None, "name": "Zoë", "date_of_birth": "0001-01-01"},
    REGISTRATION | {"campaign": "x" * 1_000, "city": ""},
    free(any=-1.5e-3, maybe=-1, whole=-(2**53), small=-2, day="9999-12-31", note="", amount=-7),
    free(any=12345678901234567890, whole=2**53, small=None, day=None, note=None),
    *(bet(event_id=f"e-{number}") for number in range(5)),
    REGISTRATION | {"event_id": "x" * 256},
    free(event_id=None),
    bet(colour="blue", size=3.25, seen=True, nothing=None, amount=-5),  # fields that the event does not have
]


@pytest.mark.parametrize("write", [compact, as_python_writes, backwards])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n \n\n"])
def test_good_events_written_by_a_program_need_no_judge(
    seen: list[bytes], write: Callable[[Any], bytes], end: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [write(each) for each in GOOD]
    decoder = EventDecoder(CASE, alike_from=0)
    taken = [decoder.decode(end.join(lines)), decoder.decode(end.join([*lines, b""])), decoder.decode([*GOOD])]
    assert seen == [line for line in lines if b"\\" in line] * 2  # Python writes é as an escape
    monkeypatch.undo()
    wanted = outcome(JUDGE, end.join(lines))
    for each in taken:
        assert (repr(each.batch.to_pylist()), each.refused, each.ids.to_pylist()) == wanted


def test_an_array_of_good_events_needs_no_judge(seen: list[bytes]) -> None:
    decoder = EventDecoder(CASE, alike_from=0)
    for body in (b"[" + b",".join(map(compact, GOOD)) + b"]", json.dumps(GOOD, ensure_ascii=False), GOOD):
        assert decoder.decode(body).batch.num_rows == len(GOOD)
    assert seen == []


def test_the_judge_sees_the_doubtful_lines_and_no_other(seen: list[bytes]) -> None:
    bad = [compact(each) for each in (bet(bet_amount=-1), bet(event_time="yesterday"), {"a": {"b": "c"}})]
    odd = [compact(each) for each in (bet(user_id="a\\b"), bet(extra=[]), bet(user_id="é" * 256))]
    good = [compact(bet(user_id=f"u{number}")) for number in range(100)]
    lines = [bad[2], *good[:7], odd[0], *good[7:30], bad[0], *good[30:99], bad[1], odd[1], odd[2], good[99]]
    decoded = EventDecoder(CASE, alike_from=0).decode(b"\n".join(lines))
    assert seen == [line for line in lines if line not in good]
    assert [(each.row, each.payload) for each in decoded.refused] == [(0, bad[2]), (32, bad[0]), (102, bad[1])]
    assert decoded.batch.column(0).to_pylist() == [json.loads(line)["user_id"] for line in lines if line not in bad]


def test_a_shape_is_learned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder, body = EventDecoder(CASE, alike_from=0), b"\n".join(map(compact, GOOD))
    first = decoder.decode(body)
    monkeypatch.setattr("churnstream.codecs.alike.learn", None)
    assert decoder.decode(body).batch.equals(first.batch)


def test_more_shapes_than_are_remembered_are_read_all_the_same() -> None:
    decoder = EventDecoder(CASE, alike_from=0)
    for _ in range(3):
        for first in range(0, 150, 50):
            events = [bet(user_id=f"u{number}") | {f"colour{number}": "blue"} for number in range(first, first + 50)]
            assert decoder.decode(encode_json(events)).batch.column(0).to_pylist() == [each["user_id"] for each in events]


def test_small_payloads_and_large_ones_come_to_the_same() -> None:
    events = [bet(user_id=f"u{number % 17}", bet_amount=number) for number in range(3_000)] + [bet(bet_amount=-1), bet()]
    decoder, body = EventDecoder(CASE), encode_json(events)
    assert len(body) > 200_000
    large = decoder.decode(body)
    small = [decoder.decode(encode_json(events[first : first + 100])) for first in range(0, len(events), 100)]
    assert large.batch.equals(pa.concat_batches([each.batch for each in small]))
    assert [each.row for each in large.refused] == [3_000]


# -- what only seems to be alike ------------------------------------------------------------------------------------------

ODD_NUMBERS = (
    "-0 -0.0 0 0.0 00 01 1. .5 +1 -1 -5 1e2 1E+2 1e-400 4.9e-324 2.2250738585072011e-308 1.7976931348623157e308 1e400 - . ,"
    ' 5.0 5.5.5 5,6 5f 0x10 1_000 5/**/ "5" [5] {} ٥ NaN nan Infinity -Infinity null true 123456789.123456789'
    " 0.1234567890123456789012345 9007199254740992 9007199254740993 -9007199254740993 9223372036854775808 18446744073709551616"
)
WITH_SPACES = ["", " 5", "5 ", " 5 ", "5 6", "5\t", "5\x0b", "5\xa0"]
LONG = ["1" * 400, "0." + "0" * 400 + "1"]


@pytest.mark.parametrize("number", [*ODD_NUMBERS.split(), *WITH_SPACES, *LONG])
def test_an_odd_number_is_judged_alike(number: str) -> None:
    for event in (bet(), free(), free(maybe=1), free(whole=1), free(small=1), free(amount=1), bet(size=1), REGISTRATION):
        for name in [name for name, value in event.items() if isinstance(value, int | float)][-1:]:
            line = compact(event)
            odd = compact(event | {name: "@"}).replace(b'"@"', number.encode())
            for body in ([odd], [line, odd, compact(bet()), line]):
                assert_one_verdict(b"\n".join(body))


ODD_INSTANTS = [
    "2026-01-01t00:00:00z",
    "2026-01-01 00:00:00Z",
    "2026-01-01T00:00:00",
    "2026-01-01",
    "2026-01-01T00:00Z",
    "2026-01-01T00Z",
    "2026-01-01T00:00+05:30",
    "2026-01-01T00:00:00+05:30",
    "2026-01-01T00:00:00-0530",
    "2026-01-01T00:00:00+05",
    "2026-01-01T00:00:00+24:00",
    "2026-01-01T00:00:00,5Z",
    "2026-01-01T24:00:00Z",
    "2016-12-31T23:59:60Z",
    "2026-02-30T00:00:00Z",
    "0000-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00+01:00",
    "9999-12-31T23:59:59.999999Z",
    "9999-12-31T23:59:59-01:00",
    "12026-01-01T00:00:00Z",
    "-2026-01-01T00:00:00Z",
    "20260101T000000Z",
    " 2026-01-01T00:00:00Z",
    "2026-01-01T00:00:00Z ",
    "1767225600",
    "",
    "é",
    *(f"2026-01-01T00:00:00.{'123456789'[:digits]}Z" for digits in range(10)),
]


@pytest.mark.parametrize("instant", ODD_INSTANTS)
def test_an_odd_instant_or_date_is_judged_alike(instant: str) -> None:
    for odd in (
        bet(event_time=instant),
        REGISTRATION | {"date_of_birth": instant},
        REGISTRATION | {"date_of_birth": instant[:10]},
    ):
        line = compact(bet() if odd["event_type"] == "new_bet" else REGISTRATION)
        assert_one_verdict(b"\n".join([line] * 20 + [compact(odd)] + [line] * 20))


LINE = compact(bet())
ODD_LINES = [
    LINE.replace(b'"bet_amount":2.5', b'"bet_amount":1,"bet_amount":2'),
    LINE.replace(b'"bet_amount":2.5', b'"bet_amount":1,"bet_amount":"2"'),
    LINE.replace(b'"user_id":"u"', b'"user_id":"a","user_id":"a"'),
    LINE.replace(b'"user_id":"u"', b'"user_id":"a","user_id":"b"'),
    LINE.replace(b'"user_id":"u"', b'"user_id":"a","event_type":"new_bet","user_id":"a"'),
    LINE.replace(b'"new_bet"', b'"new_bat","event_type":"new_bet"'),
    LINE.replace(b'"new_bet"', b'"new_win"'),
    LINE.replace(b'"new_bet"', b'"\\u006eew_bet"'),
    LINE.replace(b'"new_bet"', b"1"),
    LINE.replace(b'"new_bet"', b"null"),
    LINE.replace(b'"user_id"', b'"user\\u005fid"'),
    LINE.replace(b'"user_id":', b'"user_id" : '),
    LINE.replace(b'"user_id":', b'"user_id"'),
    LINE.replace(b'"user_id":', b'"User_id":'),
    LINE.replace(b'"u"', b"null"),
    LINE.replace(b'"u"', b"7"),
    LINE.replace(b'"u"', b'""'),
    LINE.replace(b'"u"', b'"' + b"x" * 256 + b'"'),
    LINE.replace(b'"u"', b'"' + b"x" * 257 + b'"'),
    LINE.replace(b'"u"', b'"' + "é".encode() * 256 + b'"'),
    LINE.replace(b'"u"', b'"' + "é".encode() * 257 + b'"'),
    LINE.replace(b'"u"', b'"a"b"'),
    LINE.replace(b'"u"', b'"a\\"b"'),
    LINE.replace(b'"u"', b'"a\\\\"'),
    LINE.replace(b'"u"', b'"\\u00e9"'),
    LINE.replace(b'"u"', b'"\\ud83d\\ude00"'),
    LINE.replace(b'"u"', b'"\\ud800"'),
    LINE.replace(b'"u"', b'"\xff"'),
    LINE.replace(b'"u"', b'"\xc3"'),
    LINE.replace(b'"u"', b'"\xed\xa0\x80"'),
    LINE.replace(b'"u"', b'"\x7f"'),
    LINE.replace(b'"u"', b'"\t"'),
    LINE.replace(b'"u"', b'"\x00"'),
    LINE.replace(b'"u"', b'"a\rb"'),
    LINE.replace(b'"u"', b'"a\nb"'),
    LINE.replace(b'"u"', b'"\xe2\x80\xa8"'),
    LINE.replace(b"{", b'{"event_id":"a",'),
    LINE.replace(b"{", b'{"event_id":"a","event_id":"b",'),
    LINE.replace(b"{", b'{"event\\u005fid":"a",'),
    LINE.replace(b"{", b'{"event_id":"\\u0061",'),
    LINE.replace(b"{", b'{"event_id":"",'),
    LINE.replace(b"{", b'{"event_id":null,'),
    LINE.replace(b"{", b'{"event_id":5,'),
    LINE.replace(b"{", b'{"event_id":["a"],'),
    LINE.replace(b"{", b'{"event_id":"' + b"x" * 257 + b'",'),
    LINE.replace(b"{", b'{"event_id":"' + "é".encode() * 256 + b'",'),
    LINE.replace(b"{", b'{"event_id":"' + "é".encode() * 257 + b'",'),
    LINE.replace(b"{", b'{"extra":"\xff",'),
    LINE.replace(b"{", b'{"extra":1e400,'),
    LINE.replace(b"{", b'{"extra":01,'),
    LINE.replace(b"{", b'{"extra":{"user_id":"x"},'),
    LINE.replace(b"{", b'{"extra":["user_id","x"],'),
    LINE.replace(b"{", b'{"extra":[],'),
    LINE.replace(b"{", b'{"":"",'),
    LINE.replace(b"{", b'{"' + b"x" * 5_000 + b'":1,'),
    LINE.replace(b"{", b'{"x":' + b"[" * 2_000 + b"]" * 2_000 + b","),
    LINE.replace(b"{", b'{"x":' + b"[" * 2_000 + b","),
    LINE.replace(b',"bet_amount":2.5', b""),
    LINE.replace(b',"bet_amount":2.5', b',"bet_amount"'),
    LINE.replace(b',"bet_amount":2.5', b',"bet_amount":'),
    LINE.replace(b',"bet_amount":2.5', b',"bet_amount":2.5,'),
    LINE.replace(b"}", b"},"),
    LINE.replace(b"}", b"}}"),
    LINE.replace(b"}", b""),
    LINE + LINE,
    LINE + b" " + LINE,
    LINE + b"," + LINE,
    LINE + b"\r" + LINE,
    LINE.replace(b",", b",\n"),
    b'{"outer":\n' + LINE + b"\n," + LINE[1:],
    b'{"outer":\n' + LINE + b"\n}",
    b"[" + LINE + b"]",
    b"[" + LINE,
    b"\xef\xbb\xbf" + LINE,
    b"\xa0" + LINE,
    b"// " + LINE,
    b"'" + LINE,
    b"5",
    b"null",
    b'"text"',
    b'"',
    b"{}",
    b"{",
    b"\x0b",
    b"\x00",
    b"nonsense",
]


@pytest.mark.parametrize("odd", ODD_LINES)
def test_an_odd_line_is_judged_alike_wherever_it_stands(odd: bytes) -> None:
    for lines in (
        [odd],
        [odd, LINE],
        [LINE, odd],
        [LINE, odd, LINE],
        [LINE, odd, LINE, odd, compact(REGISTRATION)],
        [b"", odd, b""],
    ):
        assert_one_verdict(b"\n".join(lines))
        assert_one_verdict(b"\r\n".join(lines))
        assert_one_verdict(b"[" + b",".join(lines) + b"]")


# -- whatever comes -------------------------------------------------------------------------------------------------------

PIECES = [
    *(bytes([letter]) for letter in b'"\\,:{}[] \t\r\n\x0b\x00\x7f\xff\xc3-+.09Z'),
    *b"e5 null true NaN \\u00e9 \\ud800 \xc3\xa9 \xef\xbb\xbf new_win 2026-02-30 +05:30 60 /*".split(),
    *(b'"user_id":"z",', b'"event_id":"z",', b'"x":1,', b'"bet_amount":3,', b'"label":null,', LINE, b"9" * 20, b"x" * 300),
]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
numbers = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(0, 10**6).map(lambda cents: cents / 100),
)
some_events = st.one_of(
    st.builds(bet, user_id=texts, bet_amount=numbers),
    st.builds(bet, event_id=texts | numbers | st.none()),
    st.builds(bet, bet_amount=st.floats(0, 1e9), extra=texts | numbers | st.none()),
    st.builds(lambda changes: REGISTRATION | changes, st.dictionaries(st.sampled_from(["name", "city", "campaign"]), texts)),
    st.builds(
        lambda changes: free() | changes, st.dictionaries(st.sampled_from(["any", "maybe", "whole", "small", "amount"]), numbers)
    ),
)
cuts = st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 3), st.sampled_from(PIECES))


def cut(lines: list[bytes], line: int, place: int, length: int, piece: bytes) -> None:
    """Put ``piece`` somewhere into one of the lines, over ``length`` bytes of it."""
    line %= len(lines)
    place %= len(lines[line]) + 1
    lines[line] = lines[line][:place] + piece + lines[line][place + length :]


@given(
    st.lists(some_events, min_size=1, max_size=8),
    st.sampled_from([compact, as_python_writes, backwards]),
    st.sampled_from([b"\n", b"\r\n", b"\n\n"]),
    st.lists(cuts, max_size=2),
)
@settings(max_examples=300)
def test_whatever_is_done_to_a_payload_there_is_one_verdict(
    events: list[Any], write: Callable[[Any], bytes], end: bytes, damage: list[tuple[int, int, int, bytes]]
) -> None:
    lines = [write(each) for each in events]
    for each in damage:
        cut(lines, *each)
    assert_one_verdict(end.join(lines))
    assert_one_verdict(b"[" + b",".join(lines) + b"]")


@given(st.lists(numbers.map(repr) | st.from_regex(r"\A(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?\Z"), min_size=1, max_size=20))
@example(["0.1", "0.30000000000000004", "1.7976931348623157e308", "5e-324"])
def test_a_number_is_the_float_that_python_reads(written: list[str]) -> None:
    body = b"\n".join(compact(free(any="@")).replace(b'"@"', each.encode()) for each in written if not each.startswith("-0"))
    if body:
        batch = EventDecoder(CASE, alike_from=0).decode(body).batch
        assert batch.column("any").to_pylist() == [float(each) for each in written if not each.startswith("-0")]


# -- whole numbers --------------------------------------------------------------------------------------------------------

TOO_MUCH = "the field whole is wrong: Expected `int` <= 9007199254740992"
TOO_LITTLE = "the field whole is wrong: Expected `int` >= -9007199254740992"


@pytest.mark.parametrize("alike_from", [0, float("inf")])
@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (2**53, None),
        (2**53 + 1, TOO_MUCH),
        (2**63 - 1, TOO_MUCH),
        (-(2**53), None),
        (-(2**53) - 1, TOO_LITTLE),
        (-(2**63), TOO_LITTLE),
    ]
    + [(number, "the field whole is wrong: ") for number in (2**63, 2**64, 10**30, -(10**30))],
)
def test_a_whole_number_is_one_that_features_can_be_computed_from(alike_from: float, number: int, sentence: str | None) -> None:
    decoded = EventDecoder(CASE, alike_from).decode([free(whole=5), free(whole=number), free(whole=6)])
    assert decoded.batch.column("whole").cast(pa.float64()).to_pylist() == ([5, number, 6] if sentence is None else [5, 6])
    assert_refused(decoded, sentence)


def assert_refused(decoded: Decoded, sentence: str | None) -> None:
    assert [each.row for each in decoded.refused] == ([] if sentence is None else [1])
    assert all(each.reason.startswith(str(sentence)) for each in decoded.refused)


@pytest.mark.parametrize(("number", "taken"), [(-3, False), (-2, True), (9, True), (10, False)])
def test_a_limit_between_two_whole_numbers_is_kept(number: int, taken: bool) -> None:
    for alike_from in (0, np.inf):
        decoded = EventDecoder(CASE, alike_from).decode([free(small=1), free(small=number)])
        assert decoded.batch.num_rows == (2 if taken else 1)

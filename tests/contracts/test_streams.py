"""What every stream keeps its word on, written through a unit of work and read by anyone."""

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from churnstream.records import Record, shard_of
from churnstream.settings import Settings
from churnstream.streams.base import Traced
from churnstream.topology import DEAD_LETTERS, GENERATED, INCOMING, SHARDS
from churnstream.wiring import Parts, open_journal, open_positions, open_stream

HANDLER = "incoming-event-handler"
Functions = Callable[[str], Parts]


def key_of(shard: int) -> str:
    """A customer of this shard."""
    return next(key for key in (f"u{number}" for number in range(1_000)) if shard_of(key, SHARDS) == shard)


def append(parts: Parts, *records: Record, stream: str = INCOMING) -> None:
    for record in records:
        with parts.begin() as unit:
            unit.append(stream, record)


def payloads(settings: Settings, shard: int, stream: str = INCOMING, **bounds: Any) -> list[bytes]:
    reader = open_stream(stream, settings)
    try:
        return [each.payload for each in reader.read(shard, bounds.pop("offset", 0), **bounds)]
    finally:
        reader.close()


def test_a_stream_that_nobody_has_written_is_empty(settings: Settings) -> None:
    reader = open_stream(INCOMING, settings)
    assert reader.shards == SHARDS
    for shard in range(SHARDS):
        assert list(reader.read(shard, 0)) == []
        assert (reader.end(shard), reader.rows(shard)) == (0, 0)
    reader.close()


def test_reading_an_empty_stream_leaves_nothing_behind(settings: Settings) -> None:
    reader = open_stream(INCOMING, settings)
    reader.read(0, 0)
    reader.close()
    assert not list(settings.archive.parent.rglob("*.db*"))


def test_the_first_record_has_offset_0_and_each_next_one_more(settings: Settings, function: Functions) -> None:
    append(function(HANDLER), *(Record(b"%d" % number, key=key_of(3)) for number in range(5)))
    reader = open_stream(INCOMING, settings)
    found = reader.read(3, 0)
    assert [(each.shard, each.offset, each.payload) for each in found] == [(3, number, b"%d" % number) for number in range(5)]
    assert reader.end(3) == 5
    reader.close()


def test_records_of_one_unit_keep_the_order_in_which_they_were_appended(settings: Settings, function: Functions) -> None:
    with function(HANDLER).begin() as unit:
        for number in range(20):
            unit.append(INCOMING, Record(b"%d" % number, key=key_of(number % 2)))
    for shard in (0, 1):
        assert payloads(settings, shard) == [b"%d" % number for number in range(shard, 20, 2)]


def test_a_record_lies_in_the_shard_of_its_key_and_nowhere_else(settings: Settings, function: Functions) -> None:
    parts = function(HANDLER)
    for shard in range(SHARDS):
        append(parts, Record(b"x", key=key_of(shard)))
    reader = open_stream(INCOMING, settings)
    assert [reader.end(shard) for shard in range(SHARDS)] == [1] * SHARDS
    reader.close()


def test_a_record_without_a_key_lies_in_the_shard_of_the_record_being_applied(settings: Settings, function: Functions) -> None:
    with function(HANDLER).begin_at(GENERATED, 6, 0) as unit:
        unit.append(INCOMING, Record(b"x"))
    assert payloads(settings, 6) == [b"x"]


def test_key_headers_rows_and_the_instant_survive(settings: Settings, function: Functions, clock: Any) -> None:
    headers = {"content-type": "text/plain", "Ünïcode": "ja – 日本", "empty": ""}
    append(function(HANDLER), Record(b"\x00\xff\n", rows=7, key="Zoë ☃", headers=headers))
    clock.move(timedelta(days=1))
    shard = shard_of("Zoë ☃", SHARDS)
    reader = open_stream(INCOMING, settings)
    (found,) = reader.read(shard, 0)
    reader.close()
    assert (found.stream, found.key, dict(found.headers), found.rows) == (INCOMING, "Zoë ☃", headers, 7)
    assert found.payload == b"\x00\xff\n"
    assert found.appended_at == clock() - timedelta(days=1)
    assert found.appended_at.utcoffset() == timedelta(0)


def test_a_read_begins_anywhere_and_ends_at_the_end(settings: Settings, function: Functions) -> None:
    append(function(HANDLER), *(Record(b"%d" % number, key=key_of(2)) for number in range(4)))
    assert payloads(settings, 2, offset=3) == [b"3"]
    assert payloads(settings, 2, offset=4) == []
    assert payloads(settings, 2, offset=1_000) == []


def test_a_read_keeps_both_bounds_but_gives_at_least_one_record(settings: Settings, function: Functions) -> None:
    append(function(HANDLER), *(Record(b"x" * 1_000, key=key_of(2)) for _ in range(10)))
    assert len(payloads(settings, 2, max_records=3)) == 3
    assert len(payloads(settings, 2, max_bytes=4_000)) == 4
    assert len(payloads(settings, 2, max_bytes=3_999)) == 3
    assert len(payloads(settings, 2, max_bytes=1)) == 1


def test_rows_stand_before_an_offset(settings: Settings, function: Functions) -> None:
    append(function(HANDLER), *(Record(b"x", rows=rows, key=key_of(2)) for rows in (10, 0, 5)))
    reader = open_stream(INCOMING, settings)
    assert [reader.rows(2, offset) for offset in range(5)] == [0, 10, 10, 15, 15]
    assert reader.rows(2) == 15
    reader.close()


def test_a_reader_sees_what_is_written_after_it_was_opened(settings: Settings, function: Functions) -> None:
    reader = open_stream(INCOMING, settings)
    assert list(reader.read(1, 0)) == []
    parts = function(HANDLER)
    for number in range(3):
        append(parts, Record(b"%d" % number, key=key_of(1)))
        assert [each.payload for each in reader.read(1, number)] == [b"%d" % number]
    reader.close()


WRITER = """
import sys
from pathlib import Path
from churnstream.records import Record
from churnstream.settings import Settings
from churnstream.wiring import open_parts
settings = Settings("churnstream", "first_day", sys.argv[1], sys.argv[1], Path("unused"))
with open_parts("incoming-event-handler", settings).begin() as unit:
    unit.append("incoming-events-stream", Record(b"from afar", key=sys.argv[2]))
"""


def test_a_reader_sees_the_writer_of_another_process(settings: Settings, function: Functions) -> None:
    append(function(HANDLER), Record(b"from here", key=key_of(1)))
    reader = open_stream(INCOMING, settings)
    assert reader.end(1) == 1
    subprocess.run([sys.executable, "-c", WRITER, settings.streams, key_of(1)], check=True, timeout=60)
    assert [each.payload for each in reader.read(1, 0)] == [b"from here", b"from afar"]
    reader.close()


def test_the_trace_of_a_shard_moves_with_every_append_to_it(settings: Settings, function: Functions) -> None:
    reader = open_stream(INCOMING, settings)
    if not isinstance(reader, Traced):
        pytest.skip("this stream does not show in a file")
    parts = function(HANDLER)
    append(parts, Record(b"x", key=key_of(1)))
    times = [reader.trace(1).stat().st_mtime_ns]
    for _ in range(50):
        append(parts, Record(b"x", key=key_of(1)))
        times.append(reader.trace(1).stat().st_mtime_ns)
    assert len(set(times)) == len(times)
    assert reader.trace(2) != reader.trace(1)
    reader.close()


def test_a_position_is_0_before_anything_was_applied(settings: Settings) -> None:
    positions = open_positions(HANDLER, settings)
    assert positions.get(GENERATED, 0) == 0
    positions.close()


def test_a_position_moves_forward_and_never_back(settings: Settings) -> None:
    positions = open_positions(HANDLER, settings)
    positions.advance(GENERATED, 0, 5)
    positions.advance(GENERATED, 0, 3)
    assert positions.get(GENERATED, 0) == 5
    positions.close()
    again = open_positions(HANDLER, settings)
    assert again.get(GENERATED, 0) == 5
    again.close()


def test_positions_of_other_shards_streams_and_functions_stand_apart(settings: Settings) -> None:
    positions = open_positions(HANDLER, settings)
    positions.advance(GENERATED, 0, 5)
    assert positions.get(GENERATED, 1) == 0
    assert positions.get(INCOMING, 0) == 0
    other = open_positions("enrich-stream", settings)
    assert other.get(GENERATED, 0) == 0
    positions.close()
    other.close()


def test_a_unit_moves_the_position_past_its_record(settings: Settings, function: Functions) -> None:
    with function(HANDLER).begin_at(GENERATED, 4, 7):
        pass
    positions = open_positions(HANDLER, settings)
    assert positions.get(GENERATED, 4) == 8
    positions.close()


def test_a_record_that_was_applied_is_recognised_and_does_nothing_again(settings: Settings, function: Functions) -> None:
    for _ in range(2):  # the second time as after a restart
        parts = function(HANDLER)
        for offset in range(3):
            with parts.begin_at(GENERATED, 2, offset) as unit:
                if unit.replayed:
                    continue
                unit.append(INCOMING, Record(b"%d" % offset))
    assert payloads(settings, 2) == [b"0", b"1", b"2"]
    with function(HANDLER).begin_at(GENERATED, 2, 1) as unit:
        assert unit.replayed
        unit.append(INCOMING, Record(b"by mistake"))
    assert payloads(settings, 2) == [b"0", b"1", b"2"]


def test_a_unit_left_by_an_exception_keeps_nothing(settings: Settings, function: Functions) -> None:
    def fail() -> None:
        with function(HANDLER).begin_at(GENERATED, 2, 0) as unit:
            unit.append(INCOMING, Record(b"x"))
            unit.append(INCOMING, Record(b"y", key=key_of(5)))
            unit.put("identities", "k", b"v", owner=key_of(5))
            unit.refuse("because", b"z")
            unit.count("applied", 1)
            raise KeyError("on the way")

    with pytest.raises(KeyError):
        fail()
    for stream in (INCOMING, DEAD_LETTERS):
        reader = open_stream(stream, settings, HANDLER)
        assert [reader.end(shard) for shard in range(SHARDS)] == [0] * SHARDS
        reader.close()
    assert not function(HANDLER).begin_at(GENERATED, 2, 0).replayed
    assert function(HANDLER).begin().stored("identities", "k", key_of(5)) is None
    for shard in range(SHARDS):
        journal = open_journal(HANDLER, shard, settings)
        assert journal.accounts() == {}
        journal.close()


def test_a_unit_sees_what_earlier_units_stored_and_not_its_own(settings: Settings, function: Functions) -> None:
    parts = function(HANDLER)
    with parts.begin() as unit:
        unit.put("identities", "k", b"1", owner="ann")
        assert unit.stored("identities", "k", owner="ann") is None
    with parts.begin() as unit:
        unit.put("identities", "k", b"2", owner="ann")
        assert unit.stored("identities", "k", owner="ann") == b"1"
    assert parts.begin().stored("identities", "k", owner="ann") == b"2"


def test_dead_letters_carry_the_sentence_the_source_and_the_position(settings: Settings, function: Functions, clock: Any) -> None:
    with function(HANDLER).begin_at(GENERATED, 2, 9) as unit:
        unit.refuse("the field amount is wrong", b'{"amount": "\xff"}', row=3)
    reader = open_stream(DEAD_LETTERS, settings, HANDLER)
    (letter,) = reader.read(2, 0)
    reader.close()
    assert json.loads(letter.payload) == {
        "reason": "the field amount is wrong",
        "source": GENERATED,
        "shard": 2,
        "offset": 9,
        "row": 3,
        "refused_at": clock().isoformat(),
        "payload": '{"amount": "\\xff"}',
        "original": {"payload": b64encode(b'{"amount": "\xff"}').decode(), "content_type": "", "rows": 1},
    }


def test_functions_that_write_dead_letters_do_not_mix_them(settings: Settings, function: Functions) -> None:
    with function("enrich-stream").begin_at(INCOMING, 2, 0) as unit:
        unit.refuse("because", b"x")
    reader = open_stream(DEAD_LETTERS, settings, HANDLER)
    assert reader.end(2) == 0
    reader.close()


def test_two_workers_that_took_the_same_record_apply_it_once(settings: Settings, function: Functions) -> None:
    # one was thought dead and was not: both have begun before either commits
    units = [function(HANDLER).begin_at(GENERATED, 2, 0) for _ in range(2)]
    for unit in units:
        assert not unit.replayed
        unit.append(INCOMING, Record(b"own"))
        unit.append(INCOMING, Record(b"other", key=key_of(5)))
        unit.count("applied", 2)
    for unit in units:
        unit.commit()
    assert payloads(settings, 2) == [b"own"]
    assert payloads(settings, 5) == [b"other"]
    journal = open_journal(HANDLER, 2, settings)
    assert journal.accounts() == {(GENERATED, "applied"): 2}
    journal.close()

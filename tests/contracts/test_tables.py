"""What every table keeps its word on, written through a unit of work and read from anywhere."""

from collections.abc import Callable, Iterator

import pytest

from churnstream.settings import Settings
from churnstream.tables.base import TableReader
from churnstream.topology import ENRICHMENT, SHARDS
from churnstream.wiring import Parts, open_table

Put = Callable[..., None]


@pytest.fixture
def table(settings: Settings) -> Iterator[TableReader]:
    opened = open_table(ENRICHMENT, settings)
    yield opened
    opened.close()


@pytest.fixture
def put(function: Callable[[str], Parts]) -> Put:
    """``put(**rows)`` sets those rows, in one unit."""

    def write(**rows: bytes) -> None:
        with function("enrichment-table").begin() as unit:
            for key, value in rows.items():
                unit.put(ENRICHMENT, key, value)

    return write


def test_a_table_that_nobody_has_written_is_empty(table: TableReader) -> None:
    assert table.get("nobody") is None
    assert table.get_many(["nobody", "else"]) == {}
    assert list(table.items()) == []
    assert len(table) == 0


def test_a_key_never_written_reads_as_none(table: TableReader, put: Put) -> None:
    put(somebody=b"1")
    assert table.get("nobody") is None


def test_a_value_reads_back_as_the_bytes_that_were_put(table: TableReader, put: Put) -> None:
    put(**{"a": b"", "Zoë ☃": b"\x00\xff", "": b"no key at all"})
    assert table.get("a") == b""
    assert table.get("Zoë ☃") == b"\x00\xff"
    assert table.get("") == b"no key at all"


def test_the_last_value_wins(table: TableReader, put: Put) -> None:
    put(a=b"1")
    put(a=b"2")
    assert table.get("a") == b"2"
    assert len(table) == 1


def test_only_the_keys_that_are_there_come_back(table: TableReader, put: Put) -> None:
    put(a=b"1", b=b"2", c=b"3")
    assert table.get_many(["a", "c", "c", "z"]) == {"a": b"1", "c": b"3"}


def test_every_row_of_every_shard_is_listed_and_counted_once(table: TableReader, put: Put) -> None:
    rows = {f"k{number}": b"%d" % number for number in range(50 * SHARDS)}
    put(**rows)
    listed = list(table.items())
    assert len(listed) == len(rows) == len(table)
    assert dict(listed) == rows


def test_a_reader_sees_what_is_written_after_it_was_opened(table: TableReader, put: Put) -> None:
    assert table.get("a") is None
    put(a=b"1")
    assert table.get("a") == b"1"


def test_a_row_of_another_owner_lies_in_the_owners_shard(settings: Settings, function: Callable[[str], Parts]) -> None:
    parts = function("incoming-event-handler")
    with parts.begin() as unit:
        unit.put("identities", "digest", b"x", owner="ann")
    assert parts.begin().stored("identities", "digest", owner="ann") == b"x"
    assert parts.begin().stored("identities", "digest", owner="bob") is None  # ann and bob are not of one shard


def test_values_survive_closing_and_opening(settings: Settings, put: Put) -> None:
    put(a=b"1")
    again = open_table(ENRICHMENT, settings)
    assert again.get("a") == b"1"
    again.close()


def test_a_version_changes_with_the_value_unless_the_table_cannot_say(table: TableReader, put: Put) -> None:
    seen = [table.version("a")]
    for number in range(5):
        put(a=b"%d" % number)
        seen.append(table.version("a"))
        assert table.version("a") == seen[-1]  # and only then
    assert set(seen) == {None} or len(set(seen)) == len(seen)

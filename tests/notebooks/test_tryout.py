"""The scratch streams in which notebooks try a function."""

import asyncio
import os
import tempfile
from pathlib import Path
from types import SimpleNamespace

import nuclio
import nuclio_sdk
import pytest

from churnstream.codecs import decode_batch
from churnstream.errors import UnreadablePayload
from churnstream.records import Record
from churnstream.topology import ENRICHMENT, GENERATED, INCOMING
from churnstream.tryout import delivered, detached, first, scratch
from churnstream.usecases import load
from churnstream.wiring import open_parts, open_table, settings_from_env

CASE = load("casual_game")


@pytest.fixture(autouse=True)
def river(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path))


def environment() -> tuple[dict[str, str], str]:
    return dict(os.environ), tempfile.gettempdir()


def test_what_is_written_in_scratch_is_nowhere_afterwards(tmp_path: Path) -> None:
    before = environment()
    with scratch() as folder:
        parts = open_parts("event-generator")
        with parts.begin() as unit:
            unit.append(GENERATED, Record(b"{}", 1, "u1"))
        parts.close()
        assert any(folder.rglob("*.db"))
        assert settings_from_env().archive.is_relative_to(folder)
    assert environment() == before
    assert not folder.exists()
    assert list(tmp_path.iterdir()) == []


def test_a_cell_that_fails_leaves_the_environment_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_ARCHIVE", "elsewhere")
    before = environment()
    with pytest.raises(ZeroDivisionError), scratch():
        raise ZeroDivisionError
    assert environment() == before


def test_the_tables_of_the_river_can_be_looked_into_from_scratch() -> None:
    parts = open_parts("enrichment-table")
    with parts.begin() as unit:
        unit.put(ENRICHMENT, "LN1 0AA", b"0.5")
    parts.close()
    seen = {}
    for own in (True, False):
        with scratch(own_tables=own):
            table = open_table(ENRICHMENT, settings_from_env())
            seen[own] = table.get("LN1 0AA")
            table.close()
    assert seen == {True: None, False: b"0.5"}


def test_a_context_gets_what_a_platforms_has_and_its_parts_are_closed() -> None:
    context = nuclio.Context()
    closed = []
    with scratch(context):
        context.user_data.parts = SimpleNamespace(close=lambda: closed.append(True))
        assert context.Response(status_code=202).status_code == 202
    assert closed == [True]


def test_a_drain_calls_back_and_acknowledgements_are_noted() -> None:
    context = nuclio.Context()
    with scratch(context):
        acknowledge = context.platform.explicit_ack
        asyncio.run(context.platform.drain())  # nobody has asked to be called
        context.platform.set_drain_callback(lambda: acknowledge(nuclio_sdk.QualifiedOffset(INCOMING, 3, 17)))
        asyncio.run(context.platform.drain())
    assert context.platform.acknowledged == [(3, 17)]


def test_an_event_of_a_stream_knows_its_place() -> None:
    event = delivered([CASE.example], CASE, INCOMING, shard=2, offset=5)
    assert (event.topic, event.shard_id, event.offset) == (INCOMING, 2, 5)
    assert decode_batch(event.body).num_rows == 1
    assert open_parts("enrich-stream").begin(event).replayed is False


def test_an_event_that_does_not_fit_its_case_is_not_delivered() -> None:
    with pytest.raises(UnreadablePayload, match="event_time"):
        delivered([{**CASE.example, "event_time": "yesterday"}], CASE, INCOMING)


def test_the_first_record_is_the_oldest_of_the_first_shard_that_has_one() -> None:
    with pytest.raises(UnreadablePayload, match=r"generated-stream is empty"):
        first(GENERATED)
    parts = open_parts("event-generator")
    for payload in (b"old", b"new"):
        with parts.begin() as unit:
            unit.append(GENERATED, Record(payload, 1, "u1", {"content-type": "text/plain"}))
    parts.close()
    event = first(GENERATED)
    assert (event.body, event.offset, event.content_type) == (b"old", 0, "text/plain")


def test_a_detached_function_forgets_its_file_and_the_original_does_not() -> None:
    build = SimpleNamespace(origin_filename="a.py", functionSourceCode="cGFzcw==")

    class Function:
        spec = SimpleNamespace(build=build)

        def copy(self) -> "Function":
            other = Function()
            other.spec = SimpleNamespace(build=SimpleNamespace(**vars(build)))
            return other

    assert detached(Function()).spec.build.origin_filename == ""
    assert build.origin_filename == "a.py"

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from churnstream.cli import app
from churnstream.errors import BadRequest, InvalidSetting, UnknownFunction
from churnstream.local import Home
from churnstream.local.reset import look, reset
from churnstream.reading import dead_letter, dead_letters
from churnstream.records import Delivered
from churnstream.settings import Settings, read_settings
from churnstream.wiring import open_parts, open_unit

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
REQUEST = SimpleNamespace(trigger=SimpleNamespace(kind="http"))
Run = Callable[..., Any]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def settings(home: Home) -> Settings:
    return read_settings({"CHURNSTREAM_HOME": str(home.root)})


@pytest.fixture
def run(home: Home, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run("account", …)`` is the command's result in a home of the test's own."""
    monkeypatch.setenv("CHURNSTREAM_HOME", str(home.root))

    def invoke(*words: str, **more: Any) -> Any:
        return CliRunner(env={"COLUMNS": "140"}).invoke(app, list(words), **more)

    return invoke


def write(settings: Settings, given: int, applied: int, *reasons: str) -> None:
    """Leave what the handler would: a request of ``given`` events, ``applied`` of them, and a dead letter for each reason."""
    ticks = count()
    parts = open_parts("incoming-event-handler", settings, clock=lambda: AT + timedelta(seconds=next(ticks)))
    for row, reason in enumerate(reasons):
        with parts.begin_at("generated-stream", 2, row) as unit:
            unit.refuse(reason, f'{{"number": {row}}}'.encode(), row)
    with parts.begin(REQUEST) as unit:
        unit.count("in", given)
        unit.count("applied", applied)
        unit.count("invalid", len(reasons))
    parts.close()


def test_an_account_that_balances_ends_well(run: Run, settings: Settings) -> None:
    write(settings, 3, 2, "no reason")
    done = run("account")
    assert done.exit_code == 0
    row = next(line for line in done.output.splitlines() if " http " in line)
    assert row.split() == ["incoming-event-handler", "http", "3", "2", "0", "0", "1", "0", "0", "0"]


def test_an_event_that_is_missing_makes_the_account_fail(run: Run, settings: Settings) -> None:
    write(settings, 4, 2, "no reason")
    done = run("account", "--json")
    assert done.exit_code == 1
    assert [line["unaccounted"] for line in json.loads(done.output) if line["source"] == "http"] == [1]
    by_shard = json.loads(run("account", "--shards", "--json").output)
    assert sum(line["unaccounted"] for line in by_shard) == 1
    assert {line["shard"] for line in by_shard} == set(range(8))


def test_the_account_of_a_case_that_is_not_there_is_a_sentence(run: Run) -> None:
    done = run("account", "--case", "nobodys")
    assert done.exit_code == 1
    assert "no use case 'nobodys'" in done.output


def test_dead_letters_come_newest_first_with_their_place(run: Run, settings: Settings) -> None:
    write(settings, 3, 0, "first", "second", "third")
    found = json.loads(run("deadletters", "list", "--limit", "2", "--json").output)
    assert [(each["reason"], each["source"], each["shard"], each["offset"], each["row"]) for each in found] == [
        ("third", "generated-stream", 2, 2, 2),
        ("second", "generated-stream", 2, 1, 1),
    ]
    table = run("deadletters", "list", "--stream-function", "incoming-event-handler").output
    assert "first" in table
    assert "2026-01-02 03:04:0" in table


def test_a_dead_letter_is_shown_with_what_was_sent(run: Run, settings: Settings) -> None:
    write(settings, 1, 0, "the field amount is wrong")
    name = json.loads(run("deadletters", "list", "--json").output)[0]["name"]
    shown = run("deadletters", "show", name).output
    place = "incoming-event-handler refused this at 2026-01-02 03:04:05 UTC, from generated-stream shard 2 offset 0 row 0"
    assert shown.splitlines() == [f"{place}: the field amount is wrong", '{"number": 0}']


def test_without_dead_letters_the_list_says_so(run: Run) -> None:
    assert "no dead letters" in run("deadletters", "list").output
    assert "no dead letters to hand back" in run("deadletters", "redrive", "--all").output


def test_letters_are_handed_back_by_reason_by_name_or_all_and_each_once(run: Run, settings: Settings) -> None:
    write(settings, 3, 0, "the first reason", "the second", "another")
    names = {each["reason"]: each["name"] for each in json.loads(run("deadletters", "list", "--json").output)}
    tried = run("deadletters", "redrive", "--all", "--dry-run")
    assert (tried.exit_code, tried.output) == (0, "3 letters would be handed back to incoming-event-handler.\n")
    assert run("deadletters", "redrive", "--reason", "first").output == "1 letter handed back to incoming-event-handler.\n"
    assert run("deadletters", "redrive", names["another"]).output == "1 letter handed back to incoming-event-handler.\n"
    again = run("deadletters", "redrive", names["another"])
    assert again.exit_code == 1
    assert "was handed back at" in again.output
    assert run("deadletters", "redrive", "--all").output == "1 letter handed back to incoming-event-handler.\n"
    assert "no dead letters to hand back" in run("deadletters", "redrive", "--all").output
    assert run("deadletters", "list").output.count("(handed back)") == 3
    assert run("deadletters", "redrive").exit_code == 1


def test_letters_of_a_function_outside_the_pipeline_are_listed_and_shown(run: Run, settings: Settings) -> None:
    record = Delivered("orders", 3, 7, AT, b"[1, 2]", 2, "ann", {"content-type": "application/json"})
    with open_unit("mine.v2", settings, record) as unit:
        unit.refuse("because", record.payload)
    (letter,) = dead_letters("mine.v2", settings=settings)
    assert (letter.name, letter.payload) == ("mine.v2:3:0", "[1, 2]")
    assert "because" in run("deadletters", "show", "mine.v2:3:0").output
    assert "handed back to mine.v2" in run("deadletters", "redrive", "mine.v2:3:0").output


def test_a_name_of_no_dead_letter_is_a_sentence(settings: Settings) -> None:
    with pytest.raises(BadRequest, match="names no dead letter"):
        dead_letter("anything", settings)
    with pytest.raises(BadRequest, match="names no dead letter"):
        dead_letter("serving:99:0", settings)
    with pytest.raises(BadRequest, match="there is no dead letter serving:0:0"):
        dead_letter("serving:0:0", settings)
    with pytest.raises(UnknownFunction):
        dead_letter("nobody:0:0", settings)
    with pytest.raises(UnknownFunction):
        dead_letters("nobody", settings=settings)


def test_reset_asks_and_a_no_removes_nothing(run: Run, settings: Settings, home: Home) -> None:
    write(settings, 1, 1)
    refused = run("reset", input="n\n")
    assert refused.exit_code == 1
    assert look(home, settings).folder is not None
    assert "Removed all data in" in run("reset", input="y\n").output.replace("\n", " ")
    assert look(home, settings).folder is None
    assert "There is nothing to remove" in run("reset").output


def test_reset_leaves_other_cases_alone(home: Home, settings: Settings) -> None:
    other = read_settings({"CHURNSTREAM_HOME": str(home.root), "CHURNSTREAM_CASE": "casual_game"})
    write(settings, 1, 1)
    write(other, 1, 1)
    reset(home, settings)
    assert look(home, settings).folder is None
    assert look(home, other).folder is not None


def test_reset_refuses_on_a_cluster(home: Home, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLRUN_DBPATH", "http://mlrun.example:8080")
    with pytest.raises(InvalidSetting, match="MLRUN_DBPATH names a cluster"):
        reset(home, settings)


@pytest.mark.parametrize("name", ["CHURNSTREAM_STREAMS", "CHURNSTREAM_TABLES", "CHURNSTREAM_ARCHIVE"])
def test_reset_removes_nothing_that_lies_outside_of_the_home(home: Home, tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    place = str(outside / "parquet") if name == "CHURNSTREAM_ARCHIVE" else f"embedded://{outside}"
    with pytest.raises(InvalidSetting, match=f"{name} points outside"):
        reset(home, read_settings({"CHURNSTREAM_HOME": str(home.root), name: place}))
    assert outside.is_dir()


@pytest.mark.parametrize("case", ["..", "../..", "a/b"])
def test_reset_takes_no_path_for_a_case(home: Home, settings: Settings, case: str) -> None:
    write(settings, 1, 1)
    with pytest.raises(InvalidSetting, match="no name of a case"):
        reset(home, read_settings({"CHURNSTREAM_HOME": str(home.root), "CHURNSTREAM_CASE": case}))
    assert look(home, settings).folder is not None


def test_pictures_are_drawn_where_they_are_asked_for(run: Run, tmp_path: Path) -> None:
    run("pictures", str(tmp_path / "drawn"))
    assert (tmp_path / "drawn" / "pipeline.svg").read_text().startswith("<svg")

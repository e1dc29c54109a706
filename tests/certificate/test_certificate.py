"""A small certificate holds, says what it compared, and breaks when something is broken."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer
from typer.testing import CliRunner

from churnstream.certificate import command, issue, river
from churnstream.certificate.facts import CASES, Facts, facts, sentences
from churnstream.certificate.issue import certify, slices, write
from churnstream.certificate.slices import Outcome, Slice, run
from churnstream.certificate.walk import edges
from churnstream.errors import InvalidSetting
from churnstream.features.definitions import Op
from churnstream.graph.engine import Applied, StateReader, WindowEngine
from churnstream.streams.embedded import EmbeddedUnit
from churnstream.usecases import load

POINTS, SEED = 2_400, 1
EVERY_WINDOW = "churnstream.certificate.every_window"
WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SMALL = Slice("first_day", 5, 300)


@pytest.fixture(scope="module")
def found() -> Facts:
    """A small certificate."""
    return certify(POINTS, SEED, 1)


@pytest.fixture
def app() -> typer.Typer:
    made = typer.Typer()
    made.command()(command.certificate)
    return made


@pytest.fixture(scope="module")
def intact() -> Outcome:
    """A slice of the other case in which nothing is broken."""
    return run(Slice(EVERY_WINDOW, 5, 40))


@pytest.fixture
def broken(intact: Outcome) -> Callable[[], Facts]:
    """``broken()`` is the certificate of one slice, run with whatever is broken by then."""
    return lambda: facts(SMALL.points + intact.slice.points, SEED, [run(SMALL), intact])


# -- it holds ---------------------------------------------------------------------------------------------------------------


def test_a_certificate_holds_at_exactly_as_many_points_as_were_asked_for(found: Facts) -> None:
    assert found["holds"]
    assert (found["differences"], found["unaccounted"], found["listed"]) == (0, 0, [])
    assert found["compared"]["points"] == POINTS
    assert [table["compared"]["points"] for table in found["tables"]] == [2 * POINTS / 3, POINTS / 3]
    for table in found["tables"]:
        assert sum(table["compared"]["moments"].values()) == table["compared"]["points"]
        assert min(table["compared"]["moments"].values()) > 20


def test_every_number_is_read_from_the_stream_and_from_serving(found: Facts) -> None:
    for table in found["tables"]:
        compared = table["compared"]
        assert compared["stream_vectors"] == compared["serving_vectors"] >= compared["points"]
        assert compared["numbers"] == sum(kind["numbers"] for kind in table["kinds"])
        assert compared["numbers"] > 1.5 * table["features"] * (compared["points"] - compared["without_a_vector"])
        assert compared["filled"] > 0.4 * compared["numbers"]  # it is no comparison of nothing with nothing
        assert compared["equal"] > 0.9 * compared["numbers"]


def test_counts_and_sums_are_equal_and_the_rest_is_near(found: Facts) -> None:
    for kind in (kind for table in found["tables"] for kind in table["kinds"]):
        assert kind["worst"]["error"] <= (1e-9 if kind["op"] in ("mean", "var", "std", "ratio") or "trend" in kind["op"] else 0.0)
        assert kind["numbers"] >= kind["equal"] > 0


def test_every_op_is_compared_in_every_kind_of_window_that_takes_it() -> None:
    table = load(EVERY_WINDOW).features
    asked = {(type(each.window).__name__, each.op) for each in table.features if hasattr(each, "op")}
    kinds = {"First", "Sliding", "Tumbling", "Session", "Lifetime"}
    wanted = {(kind, op) for kind in kinds for op in Op if op not in (Op.LAST_AT, Op.DISTINCT)}
    wanted |= {("First", Op.LAST_AT)} | {(kind, Op.DISTINCT) for kind in kinds - {"Session"}}
    assert wanted == asked
    sliding = [each.window for each in table.features if hasattr(each, "op") and type(each.window).__name__ == "Sliding"]
    assert {(window.period is None, bool(window.ago)) for window in sliding} == {
        (a, b) for a in (True, False) for b in (True, False)
    }


def test_events_came_twice_late_and_out_of_order_and_all_are_accounted_for(found: Facts) -> None:
    for table in found["tables"]:
        sent, (door, join, engine) = table["sent"], table["account"]
        assert door["in"] == sent["events"] + sent["sent_twice"] == door["applied"] + door["duplicate"]
        assert door["duplicate"] == sent["sent_twice"]
        assert join["in"] == join["applied"] == engine["in"] == sent["events"] == engine["applied"] + engine["late"]
        assert sent["held_up"] == pytest.approx(sent["events"] / 20, abs=1)
        assert sent["overtaken"] > sent["held_up"]
        assert engine["late"] > sent["held_up"] / 4
        assert all(line["again"] >= 0.05 * line["in"] for line in table["account"])
    assert [table["sent"]["sent_twice"] for table in found["tables"]] == [0, found["tables"][1]["sent"]["events"] // 20]
    restarts, lost = (sum(table["engine"][name] for table in found["tables"]) for name in ("restarts", "before_durable"))
    assert 0 < lost < restarts


def test_the_same_seed_gives_the_same_certificate_and_another_one_another() -> None:
    first, again, other = (certify(200, seed, 1) for seed in (SEED, SEED, SEED + 1))
    assert json.dumps(first) == json.dumps(again)
    assert other["digests"]["input"] != first["digests"]["input"]
    assert other["digests"]["definitions"] == first["digests"]["definitions"]


@pytest.mark.slow
def test_several_processes_give_the_certificate_that_one_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(issue, "SLICE_POINTS", 500)
    heard: list[int] = []
    alone, together = certify(4_000, SEED, 1), certify(4_000, SEED, 2, heard.append)
    assert len(heard) == len(slices(4_000, SEED)) == 8
    assert sum(heard) == 4_000
    assert json.dumps(alone) == json.dumps(together)


def test_slices_share_the_points_out_and_no_two_of_a_case_are_the_same() -> None:
    work = slices(1_000_001, 7)
    assert sum(each.points for each in work) == 1_000_001
    assert len({(each.case, each.seed) for each in work}) == len(work)
    assert {each.case for each in work} == set(CASES)
    with pytest.raises(InvalidSetting, match="too few to prove anything"):
        slices(10, 7)


def test_edges_are_as_far_behind_an_event_as_windows_are_long() -> None:
    lengths, steps = edges(load(EVERY_WINDOW).features)
    assert {timedelta(minutes=each) for each in (20, 60, 67, 180, 220, 360)} <= set(lengths)
    assert steps == (timedelta(minutes=10), timedelta(hours=1))
    assert timedelta(hours=24) in edges(load("first_day").features)[0]


# -- it breaks --------------------------------------------------------------------------------------------------------------


def test_a_wrong_number_in_the_engine_is_found(broken: Callable[[], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    right = WindowEngine.vector

    def wrong(self: WindowEngine, key: str, as_of: datetime | None = None) -> Any:
        vector = right(self, key, as_of)
        if vector is not None and key.endswith("3"):
            vector = vector.copy()
            vector[self.plan.names.index("bet_count")] += 1
        return vector

    monkeypatch.setattr(WindowEngine, "vector", wrong)
    found = broken()
    assert not found["holds"]
    assert found["unaccounted"] == 0
    assert {(each["case"], each["feature"], each["customer"][-1]) for each in found["listed"]} == {
        ("first_day", "bet_count", "3")
    }
    assert all(each["stream"] == each["batch"] + 1 == each["serving"] + 1 for each in found["listed"])
    assert any("bet_count of s5-u000003 at" in line for line in sentences(found))


def test_a_wrong_number_on_the_serving_stream_is_found(broken: Callable[[], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    right = WindowEngine.apply

    def wrong(self: WindowEngine, batch: pa.RecordBatch, states: bool = True) -> Applied:
        done = right(self, batch, states)
        vectors = done.vectors.copy()
        vectors[:, self.plan.names.index("bet_sum")] *= 1 + 1e-15
        return replace(done, vectors=vectors)

    monkeypatch.setattr(WindowEngine, "apply", wrong)
    found = broken()
    assert found["differences"] > 20 == len(found["listed"])
    assert {each["feature"] for each in found["listed"]} == {"bet_sum"}
    assert all(each["stream"] == each["serving"] != each["batch"] for each in found["listed"])


def test_a_wrong_number_in_what_serving_looks_up_is_found(broken: Callable[[], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    right = StateReader.vector

    def wrong(self: StateReader, packed: bytes, as_of: datetime | None = None) -> Any:
        vector = right(self, packed, as_of)
        return vector if vector is None or as_of is None else np.where(vector == vector, vector, 0.0)  # an unknown becomes 0

    monkeypatch.setattr(StateReader, "vector", wrong)
    found = broken()
    assert found["differences"]
    assert {(each["batch"], each["stream"], each["serving"]) for each in found["listed"]} == {("unknown", "unknown", 0.0)}


def test_work_that_is_done_twice_is_found(broken: Callable[[], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(self: EmbeddedUnit, *given: Any) -> None:
        made(self, *given)
        self.replayed = False

    made = EmbeddedUnit.__init__
    monkeypatch.setattr(EmbeddedUnit, "__init__", forgetful)
    found = broken()
    assert not found["holds"]
    assert "(events)" in {each["feature"] for each in found["listed"]}


def test_a_lost_event_is_found(broken: Callable[[], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    right = river.enrich

    def losing(batch: pa.RecordBatch, *given: Any) -> tuple[pa.RecordBatch, int]:
        joined, unknown = right(batch, *given)
        return (joined.slice(0, 10) if joined.num_rows > 10 else joined), unknown

    monkeypatch.setattr(river, "enrich", losing)
    found = broken()
    assert not found["holds"]
    assert found["unaccounted"] > 0
    assert "events are unaccounted for" in sentences(found)[-1]


def test_a_late_event_that_is_let_through_is_found(broken: Callable[[], Facts], monkeypatch: pytest.MonkeyPatch) -> None:
    right = WindowEngine.apply

    def lenient(self: WindowEngine, batch: pa.RecordBatch, states: bool = True) -> Applied:
        done = right(self, batch, states)
        return replace(done, late=done.late[:0])

    monkeypatch.setattr(WindowEngine, "apply", lenient)
    found = broken()
    assert {(each["feature"], each["batch"], each["stream"]) for each in found["listed"]} == {("(late)", "late", "applied")}
    assert found["unaccounted"] > 0


# -- it is written ----------------------------------------------------------------------------------------------------------


def test_what_is_written_reads_back_and_differs_between_runs_in_one_place_only(found: Facts, tmp_path: Path) -> None:
    data, shown = write(tmp_path / "deep" / "folder", found, WHEN, timedelta(seconds=12.34), 2)
    told = json.loads(data.read_text())
    made = told.pop("made")
    assert told == json.loads(json.dumps(found))
    assert (made["at"], made["seconds"], made["processes"]) == ("2026-01-02T03:04:05Z", 12.3, 2)
    assert {"churnstream", "python", "numpy", "pyarrow", "numba", "storey"} <= set(made["versions"])
    assert shown.read_text().startswith("<!doctype html>")
    assert told["command"] == f"make certificate POINTS={POINTS} SEED={SEED}"


@pytest.fixture
def small(found: Facts, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Certificates that are made at once; a list of what was asked for."""
    asked: list[tuple[int, int]] = []

    def at_once(points: int, seed: int, processes: int, progress: Any) -> Facts:
        asked.append((points, seed))
        progress(points)
        return found

    monkeypatch.setattr(issue, "certify", at_once)
    return asked


def test_the_command_writes_both_files_and_says_where(
    small: list[tuple[int, int]], app: typer.Typer, found: Facts, tmp_path: Path
) -> None:
    result = CliRunner().invoke(app, ["--points", "5000", "--seed", "9", "--output", str(tmp_path / "out")])
    assert result.exit_code == 0, result.output
    assert small == [(5_000, 9)]
    assert f"{POINTS:,} points" in result.output
    assert "0 differences" in result.output
    assert sorted(each.name for each in (tmp_path / "out").iterdir()) == ["certificate.html", "certificate.json"]


def test_the_command_fails_when_a_certificate_does_not_hold(
    small: list[tuple[int, int]], app: typer.Typer, found: Facts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(found, "holds", False)
    result = CliRunner().invoke(app, ["--output", str(tmp_path)])
    assert result.exit_code == 1
    assert (tmp_path / "certificate.html").exists()


def test_too_few_points_are_a_sentence(app: typer.Typer, tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["--points", "10", "--output", str(tmp_path)])
    assert result.exit_code == 1
    assert "ask for 200 or more" in result.output
    assert list(tmp_path.iterdir()) == []

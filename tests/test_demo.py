import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import nbformat
import pytest
from rich.console import Console

from churnstream.demo.notebooks import numbered, run, to_html
from churnstream.demo.page import DONE, FAILED, WAITING, Card, index
from churnstream.demo.show import plan, show
from churnstream.demo.summary import Stage, Summary
from churnstream.errors import ChurnstreamError, InvalidSetting, NotebookFailed, UnknownCase
from churnstream.local import Home, SupervisorClient
from churnstream.operations.ledger import Line
from tests.waiting import platform

PARAMETERS = 'case = "first_day"\ncustomers: int = 5'
LINE = Line("enrich-stream", "incoming-events-stream", None, given=3, applied=2, late=1)
SUMMARY = Summary({"produced": 3}, (LINE,), (Stage("enrich-stream", 3, timedelta(seconds=2)),), None, "Mind <this>.")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A project's folder of notebooks, with a picture beside it as the real one has."""
    images = tmp_path / "assets" / "images"
    images.mkdir(parents=True)
    (images / "pipeline.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect width="1" height="1"/></svg>')
    (tmp_path / "notebooks").mkdir()
    return tmp_path / "notebooks"


@pytest.fixture
def book(folder: Path) -> Callable[..., Path]:
    """``book("1-one", "code", …)`` writes a notebook of a title, a parameters cell and these code cells."""

    def write(name: str, *codes: str) -> Path:
        made = nbformat.v4.new_notebook()
        made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
        parameters = nbformat.v4.new_code_cell(PARAMETERS)
        parameters.metadata.tags = ["parameters"]
        told = nbformat.v4.new_markdown_cell(f"# {name[0]} · The story\n\n![pipeline](../assets/images/pipeline.svg)")
        made.cells = [told, parameters, *(nbformat.v4.new_code_cell(code) for code in codes)]
        path = folder / f"{name}.ipynb"
        nbformat.write(made, path)
        return path

    return write


def test_notebooks_run_in_the_order_of_their_numbers(folder: Path, book: Callable[..., Path]) -> None:
    for name in ("10-last", "2-two", "2b-after", "2a-beside", "0-first"):
        book(name)
    (folder / "notes.ipynb").write_text("no number, no part")
    assert [each.name for each in numbered(folder)] == ["0-first", "2-two", "2a-beside", "2b-after", "10-last"]


def test_a_notebook_tells_its_title_and_its_parameters(folder: Path, book: Callable[..., Path]) -> None:
    book("1-one", "other = 3")
    (found,) = numbered(folder)
    assert found.title == "The story"
    assert found.parameters == {"case", "customers"}


def test_a_folder_without_numbered_notebooks_is_a_sentence(folder: Path) -> None:
    with pytest.raises(InvalidSetting, match="no notebook whose name begins with a number"):
        numbered(folder)
    (folder / "1-broken.ipynb").write_text("{}")
    with pytest.raises(InvalidSetting, match="no notebook that can be run"):
        numbered(folder)


def test_a_notebook_gets_the_parameters_that_it_knows_and_no_others(
    folder: Path, book: Callable[..., Path], tmp_path: Path
) -> None:
    book("1-one", "print(customers, 'events' in globals(), __import__('os').getcwd())")
    steps: list[tuple[int, int]] = []
    (found,) = numbered(folder)
    copy = tmp_path / "copy.ipynb"
    seconds = run(found, copy, {"customers": 7, "events": 9}, lambda done, cells: steps.append((done, cells)))
    printed = [each.text for cell in nbformat.read(copy, 4).cells for each in cell.get("outputs", ())]
    assert printed == [f"7 False {folder}\n"]
    assert seconds > 0
    assert steps[-1] == (4, 4)  # title, parameters, what papermill put in, and the code
    assert steps == sorted(steps)
    page = to_html(copy, folder).read_text()
    assert "data:image/svg+xml;base64," in page
    assert re.findall(r'(?:src|href)="https?:[^"]*"', page) == []


def test_a_cell_that_fails_is_named_with_its_error_in_one_sentence(
    folder: Path, book: Callable[..., Path], tmp_path: Path
) -> None:
    book("1-one", "# why\nraise ValueError('it went\\nwrong.')", "print('never')")
    copy = tmp_path / "copy.ipynb"
    with pytest.raises(NotebookFailed) as failed:
        run(numbered(folder)[0], copy, {})
    assert str(failed.value).startswith("1-one.ipynb stopped in its cell [2], `raise ValueError(")
    assert f"ValueError: it went wrong. See it in {copy}" in str(failed.value)
    assert "\n" not in str(failed.value)
    assert "never" not in "".join(str(cell.get("outputs")) for cell in nbformat.read(copy, 4).cells)


@pytest.mark.parametrize(
    ("asked", "error", "sentence"),
    [
        ({"case": "nobodys"}, UnknownCase, "no use case 'nobodys'"),
        ({"case": "casual_game"}, InvalidSetting, "make demo CASE=casual_game DATA="),
        ({"case": "first_day", "data": Path("nowhere.parquet")}, InvalidSetting, "there is no file nowhere.parquet"),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_is_touched(
    folder: Path, asked: dict[str, Any], error: type[ChurnstreamError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        plan(**asked, folder=folder)


def test_simulated_and_recorded_events_need_different_parameters(folder: Path, tmp_path: Path) -> None:
    assert plan("first_day", folder=folder).given == {"case": "first_day", "customers": 1_000, "events": 200_000}
    plays = tmp_path / "plays.parquet"
    plays.touch()
    assert plan("casual_game", plays, folder=folder).given == {"case": "casual_game", "data": str(plays)}
    assert plan("casual_game", plays, events=10, folder=folder).given["events"] == 10


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose platform, once it runs, stays for the next test."""
    with platform(tmp_path_factory.mktemp("demo") / "home", up=False) as client:
        yield client.home


@pytest.fixture
def home(lasting: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """The home of this process; ``show`` puts it into the environment for the notebooks."""
    monkeypatch.setenv("CHURNSTREAM_HOME", str(lasting.root))
    monkeypatch.chdir(tmp_path)
    return lasting


def test_a_run_leaves_copies_and_a_page_and_says_what_it_removed(folder: Path, book: Callable[..., Path], home: Home) -> None:
    book("1-one", "1 + 1")
    data = home.root / "data" / "churnstream" / "first_day" / "of an earlier run"
    data.mkdir(parents=True)
    stale = folder.parent / "build" / "notebooks" / "9-gone.ipynb"
    stale.parent.mkdir(parents=True)
    stale.touch()
    console = Console(record=True, width=80, force_terminal=False)
    assert show(plan("first_day", users=5, events=50, folder=folder), home, console)
    said = console.export_text()
    assert "Starting afresh: removed all data in" in said
    assert "1-one" in said
    assert "no model to ask" in said
    assert not data.exists()
    assert {path.name for path in stale.parent.iterdir()} == {"1-one.ipynb", "1-one.html", "index.html"}
    assert "<b>The story</b>" in (stale.parent / "index.html").read_text()
    assert SupervisorClient(home).running()


def test_a_run_stops_at_the_first_notebook_that_fails_and_the_page_says_so(
    folder: Path, book: Callable[..., Path], home: Home
) -> None:
    book("1-one", "1 / 0")
    book("2-two", "2")
    data = home.root / "data" / "churnstream" / "first_day" / "of an earlier run"
    data.mkdir(parents=True)
    with pytest.raises(NotebookFailed, match=r"1-one.ipynb stopped .* ZeroDivisionError"):
        show(plan("first_day", keep=True, folder=folder), home, Console(quiet=True))
    assert data.exists()
    page = (folder.parent / "build" / "notebooks" / "index.html").read_text()
    assert "ZeroDivisionError" in page
    assert 'href="1-one.html"' in page
    assert 'href="2-two.html"' not in page
    assert WAITING in page


def test_the_page_holds_all_that_it_needs_and_escapes_what_it_shows() -> None:
    cards = [Card("1-a", "A <b>", DONE, 1.25, Path("1-a.html")), Card("2-b", "B", FAILED, 0.5), Card("3-c", "C", WAITING)]
    page = index("T", datetime(2026, 1, 2, 3, 4, tzinfo=UTC), timedelta(seconds=9), cards, SUMMARY)
    assert "A &lt;b&gt;" in page
    assert "Mind &lt;this&gt;." in page
    assert "02 January 2026 at 03:04 UTC, in 9 seconds" in page
    assert "done</span> in 1.2 s" in page
    assert "Nothing is missing" in page
    assert re.findall(r'(?:src|href)="([^"]+)"', page) == ["1-a.html"]


def test_a_summary_is_exact_only_while_nothing_is_missing_or_waiting() -> None:
    assert SUMMARY.exact
    assert not replace(SUMMARY, lines=(replace(LINE, applied=1),)).exact
    assert not replace(SUMMARY, lines=(replace(LINE, waiting=1),)).exact


def test_the_auc_carries_its_bounds_and_its_customers() -> None:
    assert SUMMARY.auc() == "no model of this case was trained here"
    metrics = {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "holdout_customers": 1200.0}
    assert replace(SUMMARY, metrics=metrics).auc() == "0.9000 (0.8000 to 0.9500), judged on the newest 1,200 customers"


@pytest.mark.slow
def test_the_demo_ends_with_a_request_that_works_as_printed(root: Path, home: Home, tmp_path: Path) -> None:
    command = Path(sys.executable).with_name("churnstream")
    environment = {**os.environ, "NO_COLOR": "1"}

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([command, *words], cwd=root, env=environment, capture_output=True, text=True, check=False)

    done = call("demo", "--users", "150", "--events", "8000", "--output", str(tmp_path / "build" / "notebooks"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("(exact)") >= 5
    assert "AUC: 0." in done.stdout
    assert home.token() not in done.stdout
    assert "Traceback" not in done.stdout + done.stderr
    asking = re.search(r"^curl (?:.*\\\n)+.*$", done.stdout, re.MULTILINE)
    assert asking is not None
    answer = subprocess.run(["bash", "-c", asking[0]], cwd=root, env=environment, capture_output=True, text=True, check=True)
    (probability,) = json.loads(answer.stdout)["outputs"]
    assert 0 < probability < 1
    assert all(line["unaccounted"] == 0 for line in json.loads(call("account", "--json").stdout))
    assert "Removed 5 deployed functions" in call("reset", "--yes").stdout

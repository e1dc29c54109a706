"""What the README and CONTRIBUTING say is there, is there; what they say works, is run."""

import json
import os
import random
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from types import ModuleType

import pytest
import typer

from churnstream import topology, usecases
from churnstream.cli import app
from churnstream.codecs import EventDecoder
from churnstream.demo.summary import Summary, summarise
from churnstream.local import Home, SupervisorClient
from churnstream.operations.ledger import OUTCOMES, Line
from churnstream.settings import Settings
from churnstream.usecases.case import UseCase

PAGES = ("README.md", "CONTRIBUTING.md")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
INSIDE = {"CHURNSTREAM_FUNCTION", "CHURNSTREAM_FAILPOINTS"}  # the platform, and a test, tell their own processes; nobody else
MADE = ("build/", ".churnstream/", "data/")  # these come into being when something runs
OURS = ("churnstream/", "functions/", "notebooks/", "tests/", "assets/", "scripts/")

# Its own process, as a notebook is: MLRun keeps one run database a process.
RIVER = """
import churnstream, mlrun, sys
churnstream.connect()
project = mlrun.load_project(sys.argv[1], name="churnstream", parameters={"case": "first_day"}, save=False)
project.save_to_db()
for job, params in (("event-generator", {"customers": 20, "events": 1000, "progress": False}), ("enrichment-table", {})):
    project.run_function(job, local=True, params={"case": "first_day", **params})
for name in ("incoming-event-handler", "enrich-stream", "stream-to-features", "serving"):
    fn = project.get_function(name)
    fn.deploy()
    fn.invoke("/-/drain", method="POST")
"""


@pytest.fixture(scope="module")
def readme(root: Path) -> str:
    return (root / "README.md").read_text()


@pytest.fixture(params=PAGES)
def page(request: pytest.FixtureRequest, root: Path) -> str:
    return (root / request.param).read_text()


def blocks(text: str, language: str) -> list[str]:
    return [body for name, body in BLOCK.findall(text) if name == language]


def spans(text: str) -> list[str]:
    """What stands between single backticks, outside of blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def commands(text: str) -> list[list[str]]:
    """Every call of make or churnstream that the text shows, as words; assignments stay among them."""
    lines = [line for block in BLOCK.findall(text) for line in block[1].splitlines()]
    call = re.compile(r"(?:^|\(|^ {4})((?:make|\.venv/bin/churnstream|churnstream) [a-z][^#)\"\n]*)")
    return [shlex.split(found) for line in [*lines, *spans(text)] for found in call.findall(line)]


def targets(root: Path) -> set[str]:
    return set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))


def test_every_make_target_that_is_named_is_there(root: Path, page: str) -> None:
    named = [call for call in commands(page) if call[0] == "make"]
    assert named
    assert {call[1] for call in named} <= targets(root)
    variables = {word.split("=")[0] for call in named for word in call[2:]}
    assert all(re.search(rf"\b{name}\b", (root / "Makefile").read_text()) for name in variables)


def test_every_command_and_option_that_is_named_is_there(readme: str) -> None:
    known = typer.main.get_command(app)
    calls = [call for call in commands(readme) if call[0] != "make"]
    assert len({call[1] for call in calls}) > 5
    for _, *words in calls:
        command, rest = known, words
        while rest and hasattr(command, "commands"):
            assert rest[0] in command.commands, f"there is no command {' '.join(words)}"
            command, rest = command.commands[rest[0]], rest[1:]
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("-")} <= options


def test_the_readme_names_every_command(readme: str) -> None:
    known = typer.main.get_command(app)
    assert isinstance(known, typer.core.TyperGroup)
    seen = {name for name, command in known.commands.items() if not command.hidden}
    assert [name for name in seen if not re.search(rf"(?:churnstream|make) {name}\b|`{name}`", readme)] == []


def test_every_path_that_is_named_is_there(root: Path, page: str) -> None:
    named = [span for span in spans(page) if span.startswith(OURS) or re.fullmatch(r"[\w./-]+\.(py|md|yaml|lock)", span)]
    named += [path for path in re.findall(r"\]\(([^)#]+)\)", page) if "://" not in path]
    assert len(named) > 5
    invented = "churnstream/usecases/video.py"
    assert [path for path in named if path != invented and not path.startswith(MADE) and not (root / path).exists()] == []


def test_every_variable_that_is_named_is_read_somewhere_and_the_other_way_round(root: Path, readme: str) -> None:
    code = "\n".join(path.read_text() for path in [*root.glob("churnstream/**/*.py"), root / "tests" / "conftest.py"])
    read = set(re.findall(r"\b(?:CHURNSTREAM|MLRUN)_[A-Z_]+[A-Z]\b", code))
    named = set(re.findall(r"\b(?:CHURNSTREAM|MLRUN)_[A-Z_]+[A-Z]\b", readme))
    assert named <= read
    assert {name for name in read if name.startswith("CHURNSTREAM_")} <= named | INSIDE


def test_the_table_of_notebooks_is_the_topology(root: Path, readme: str) -> None:
    rows = [line for line in readme.splitlines() if line.startswith("| [")]
    assert [re.match(r"\| \[([^]]+)]", row)[1] for row in rows] == _numbered(root)  # type: ignore[index]
    told = {match[1]: row for row in rows if (match := re.search(r"\| `([a-z-]+)` \|", row))}
    assert told.keys() == {each.name for each in topology.FUNCTIONS}
    for each in topology.FUNCTIONS:
        cells = [cell.strip() for cell in told[each.name].split("|")]
        assert each.notebook in cells[1]
        assert cells[3] == each.kind
        assert all(f"`{stream}`" in cells[4] for stream in each.reads)
        assert all(f"`{stream}`" in cells[5] for stream in each.writes if stream != topology.DEAD_LETTERS)
        assert ("HTTP" in cells[4]) == each.http


def test_the_table_of_cases_is_what_the_package_has(readme: str) -> None:
    told = re.search(r"\| case \|.*?\n\n", readme, re.DOTALL)
    assert told is not None
    assert set(re.findall(r"^\| `(\w+)` \|", told[0], re.MULTILINE)) == set(usecases.names())
    for name in usecases.names():
        row = next(line for line in told[0].splitlines() if f"`{name}`" in line)
        assert f" {len(usecases.load(name).features.names)}," in row


def test_the_example_of_a_use_case_is_one(readme: str) -> None:
    (code,) = (block for block in blocks(readme, "python") if "UseCase(" in block)
    module = ModuleType("video")
    exec(code, module.__dict__)
    case = module.CASE
    assert isinstance(case, UseCase)
    decoded = EventDecoder(case).decode(json.dumps(case.example).encode())
    assert (decoded.batch.num_rows, decoded.refused) == (1, ())


@pytest.mark.slow
def test_the_example_of_a_use_case_runs_through_the_whole_demo(root: Path, readme: str, tmp_path: Path) -> None:
    (code,) = (block for block in blocks(readme, "python") if "UseCase(" in block)
    (tmp_path / "cases").mkdir()
    (tmp_path / "cases" / "video.py").write_text(code)
    recorded = tmp_path / "watched.csv"
    recorded.write_text("\n".join(["viewer,started_at,minutes", *_watching(random.Random(1), viewers=300)]))
    home = tmp_path / "home"
    environment = {**os.environ, "CHURNSTREAM_HOME": str(home), "PYTHONPATH": str(tmp_path)}
    program, output = Path(sys.executable).with_name("churnstream"), tmp_path / "build" / "notebooks"
    command = [program, "demo", "--case", "cases.video", "--data", recorded, "--output", output]
    try:
        done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    finally:
        SupervisorClient(Home(home)).down(timedelta(0))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "A video service's first week (video)" in done.stdout
    assert "AUC: 0." in done.stdout


def _watching(rng: random.Random, viewers: int) -> Iterator[str]:
    """Sittings of viewers who stay for some weeks, each for a time of their own."""
    for viewer in range(viewers):
        at, stays = rng.uniform(0, 60), rng.expovariate(1 / 15)
        end = at + stays
        while at <= end:
            yield f"v{viewer},{at * 86_400:.3f},{rng.uniform(1, 90):.1f}"
            at += rng.expovariate(1 / 3)


def test_the_statuses_that_the_door_gives_are_those_it_has(root: Path, readme: str) -> None:
    door = (root / "functions" / "incoming_event_handler.py").read_text()
    told = {code for row in re.findall(r"^\| (\d{3}(?:, \d{3})*) ", readme, re.MULTILINE) for code in row.split(", ")}
    assert told - {"401"} == set(re.findall(r"\b[2-5][0-2][0-9]\b", door))


@pytest.fixture(scope="module")
def river(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """An environment in which the functions behind the README's requests are deployed, and a few events have flowed."""
    home = tmp_path_factory.mktemp("readme")
    environment = {**os.environ, "CHURNSTREAM_HOME": str(home)}
    try:
        subprocess.run([sys.executable, "-c", RIVER, str(root)], env=environment, cwd=root, check=True, capture_output=True)
        yield environment
    finally:
        SupervisorClient(Home(home)).down(timedelta(0))


def test_every_request_of_the_readme_works_as_printed(root: Path, readme: str, river: dict[str, str]) -> None:
    answers = []
    for block in blocks(readme, "sh"):
        if block.startswith("curl"):
            done = subprocess.run(
                ["bash", "-c", f"set -e; {block}"], env=river, cwd=root, capture_output=True, text=True, check=True
            )
            answers.append(json.loads(done.stdout))
    event, prediction = answers
    assert event == {"accepted": 1, "refused": 0, "duplicates": 0}
    assert all(0 < probability < 1 for probability in prediction["outputs"])
    assert len(prediction["churns"]) == 2


def test_the_python_of_the_readme_runs(root: Path, readme: str, river: dict[str, str]) -> None:
    (code,) = (block for block in blocks(readme, "python") if "churnstream.connect()" in block)
    done = subprocess.run([sys.executable, "-c", code], env=river, cwd=root, capture_output=True, text=True, check=True)
    assert "(exact)" in done.stdout
    assert re.search(r"^\d+ predictions$", done.stdout, re.MULTILINE)
    assert done.stderr == ""


def test_the_readme_shows_what_the_demo_prints(root: Path, readme: str) -> None:
    (shown,) = (block for block in blocks(readme, "text") if "make down" in block)
    assert re.findall(r"^✓ (\S+)", shown, re.MULTILINE) == _numbered(root)
    stages = [each.name for each in topology.FUNCTIONS if each.kind != "job" or topology.GENERATED in each.writes]
    assert re.findall(r"^([a-z-]+) +[\d,]+ +[\d.]+ +[\d,]+$", shown, re.MULTILINE) == stages


def test_every_account_that_the_readme_shows_is_worded_as_the_ledger_words_it(readme: str) -> None:
    (shown,) = (block for block in blocks(readme, "text") if "make down" in block)
    accounts = [line for line in shown.splitlines() if " in = " in line]
    assert len(accounts) > 1
    for line in accounts:
        function, source, counts = re.match(r"(\S+) from (\S+): (.*)", line).groups()  # type: ignore[union-attr]
        numbers = (int(number.replace(",", "")) for number in re.findall(r"[\d,]+", counts))
        assert Line(function, source, None, *numbers).sentence() == line


def test_the_equation_of_an_account_names_every_outcome(page: str) -> None:
    told = [line for line in page.splitlines() if re.search(r"\bin = [a-z]", line)]
    equation = f"in = {' + '.join(OUTCOMES)}"
    assert [line for line in told if equation not in line] == []


def test_the_figures_that_the_readme_shows_go_by_the_names_that_they_have(readme: str, tmp_path: Path) -> None:
    (shown,) = (block for block in blocks(readme, "text") if "make down" in block)
    here = f"embedded://{tmp_path}"
    counts = summarise(Settings("churnstream", "first_day", here, here, archive=tmp_path), None, None, "").counts
    assert "  ".join(counts) in shown
    assert f"Mind: {usecases.load('first_day').note}" in " ".join(shown.splitlines())
    auc, low, high, customers = map(float, re.search(r"AUC: (\S+) \((\S+) to (\S+)\).* (\d+) ", shown).groups())  # type: ignore[union-attr]
    metrics = {"auc": auc, "auc_low": low, "auc_high": high, "holdout_customers": customers}
    assert f"AUC: {Summary({}, (), (), metrics, '').auc()}\n" in shown


def _numbered(root: Path) -> list[str]:
    def place(name: str) -> tuple[int, str]:
        number, letter = re.match(r"(\d+)([a-z]*)-", name).groups()  # type: ignore[union-attr]
        return int(number), letter

    return sorted((path.stem for path in (root / "notebooks").glob("*.ipynb")), key=place)

"""What every notebook has, and what none has: as they are in git, without running them."""

import ast
import re
from typing import Any

import nbformat
import pytest

import project_setup
from churnstream import topology
from tests.notebooks.river import FOLDER, NOTEBOOKS, complaints, parameters, read

CODE_START, CODE_END = "# nuclio: start-code", "# nuclio: end-code"
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:home|root|Users|work|tmp|mnt|var)/")
LINK = re.compile(r"\]\(([^)#]+)\)")
FUNCTIONS = {each.notebook: each for each in topology.FUNCTIONS}

every_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def code(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def prose(notebook: Any) -> str:
    return "\n\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")


def tree(notebook: Any) -> ast.Module:
    return ast.parse("\n".join(cell.source for cell in code(notebook)))


def calls(notebook: Any, name: str) -> list[ast.Call]:
    """Every call of a function or method of this name."""
    found = [node for node in ast.walk(tree(notebook)) if isinstance(node, ast.Call)]
    return [node for node in found if name in (getattr(node.func, "attr", ""), getattr(node.func, "id", ""))]


def test_every_function_has_its_notebook_and_every_notebook_but_the_first_its_function() -> None:
    assert ["0-setup", *sorted(FUNCTIONS, key=list(NOTEBOOKS).index)] == list(NOTEBOOKS)


@every_notebook
def test_it_is_a_valid_notebook_for_python_3_with_ids_that_stay(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    assert [each for each in ids if not re.fullmatch(r"[a-z]+(-[a-z]+)*", each)] == []


@every_notebook
def test_nothing_of_a_run_is_in_git(name: str) -> None:
    for cell in code(read(name)):
        assert cell.outputs == []
        assert cell.execution_count is None
        assert set(cell.metadata) <= {"tags"}


@every_notebook
def test_one_cell_holds_the_parameters_and_the_case_is_one(name: str) -> None:
    notebook = read(name)
    (cell,) = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    assert all(isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant) for each in ast.parse(cell.source).body)
    assert {"case"} <= parameters(notebook) <= {"case", "customers", "events", "seed", "data", "lookup"}


@every_notebook
def test_it_defines_nothing_outside_the_inline_form(name: str) -> None:
    inside, kept = False, []
    for cell in code(read(name)):
        inside = (inside or cell.source.strip() == CODE_START) and cell.source.strip() != CODE_END
        kept += [] if inside else [cell.source]
    defined = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    assert [node for node in ast.walk(ast.parse("\n".join(kept))) if isinstance(node, defined)] == []


def test_the_inline_form_is_shown_in_one_notebook() -> None:
    assert [name for name in NOTEBOOKS if any(cell.source.strip() == CODE_START for cell in code(read(name)))] == [
        "3b-enrich-stream"
    ]


@every_notebook
def test_it_begins_with_its_number_and_the_picture_with_its_stage_lit(name: str) -> None:
    beginning = read(name).cells[0].source
    assert beginning.startswith(f"# {name.partition('-')[0]} · ")
    picture = f"pipeline-{FUNCTIONS[name].name}.svg" if name in FUNCTIONS else "pipeline.svg"
    assert f"](../assets/images/{picture})" in beginning
    assert (FOLDER.parent / "assets" / "images" / picture).is_file()


@every_notebook
def test_it_says_its_goal_what_goes_in_and_what_comes_out(name: str) -> None:
    beginning = read(name).cells[0].source
    assert [word for word in ("**Goal.**", "**In.**", "**Out.**") if word not in beginning] == []


@every_notebook
def test_it_connects_checks_something_and_shows_something(name: str) -> None:
    notebook = read(name)
    assert len(calls(notebook, "connect")) == 1
    assert any(isinstance(node, ast.Assert) for node in ast.walk(tree(notebook)))
    assert re.search(r"^## (Check|Look)$", prose(notebook), re.MULTILINE)
    assert any(calls(notebook, shows) for shows in ("show", "DataFrame"))


@every_notebook
def test_its_links_lead_somewhere_and_the_last_to_the_next_notebook(name: str) -> None:
    links = LINK.findall(prose(read(name)))
    assert [each for each in links if not (FOLDER / each).is_file()] == []
    following = dict(zip(NOTEBOOKS, list(NOTEBOOKS)[1:], strict=False)).get(name)
    assert following is None or f"{following}.ipynb" in links


@every_notebook
def test_it_names_no_place_of_one_machine_and_no_secret(name: str) -> None:
    text = NOTEBOOKS[name].read_text()
    assert MACHINE_PATH.findall(text) == []
    assert re.findall(r"(?i)password|secret|bearer|api_key", text) == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_makes_its_function_as_the_project_does(name: str) -> None:
    function = FUNCTIONS[name]
    (made,) = calls(read(name), "set_function")
    told = {each.arg: each.value.value for each in made.keywords if isinstance(each.value, ast.Constant)}
    assert isinstance(made.args[0], ast.Constant)
    assert made.args[0].value == function.file
    assert told == {
        "name": function.name,
        "kind": function.kind,
        "handler": project_setup.HANDLERS.get(function.name, "handler"),
    }


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_tries_its_function_before_the_river_sees_it(name: str) -> None:
    titles = re.findall(r"^## (.+)$", prose(read(name)), re.MULTILINE)
    put_to_work = [titles.index(title) for title in ("Deploy it", "Run it") if title in titles]
    assert titles.index("Try it") < min(put_to_work)


@pytest.mark.parametrize(
    "output",
    [
        nbformat.v4.new_output("stream", name="stderr", text="anything at all"),
        nbformat.v4.new_output("stream", name="stdout", text="fine\nDeprecationWarning: not so fine"),
        nbformat.v4.new_output("display_data", {"text/html": "<b>Traceback</b> (most recent call last)"}),
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["Traceback"]),
    ],
    ids=lambda output: output.output_type,
)
def test_a_complaint_is_found_wherever_a_cell_puts_it(output: Any) -> None:
    quiet = nbformat.v4.new_output("stream", name="stdout", text="8,400 events")
    assert complaints(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[quiet])])) == []
    assert len(complaints(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(outputs=[quiet, output])]))) == 1

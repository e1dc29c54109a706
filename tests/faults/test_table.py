"""The table of faults names tests that are there, and every test of a fault stands in it."""

import ast
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def lines(root: Path) -> list[list[str]]:
    """The cells of each line of docs/faults.md's table."""
    table = [line for line in (root / "docs" / "faults.md").read_text().splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1:]]


def names_in(path: Path) -> set[str]:
    return {
        node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"
    }


def test_each_line_says_everything_and_names_a_test_that_is_there(root: Path, lines: list[list[str]]) -> None:
    assert len(lines) >= 20
    for line in lines:
        assert len(line) == 4, line
        assert all(line), line
        file, _, name = line[3].strip("`").partition("::")
        assert name in names_in(root / file), line[3]


def test_every_test_of_a_fault_has_its_line(root: Path, lines: list[list[str]]) -> None:
    named = {line[3].strip("`") for line in lines}
    here = Path(__file__)
    for path in sorted(here.parent.glob("test_*.py")):
        if path != here:
            assert {f"tests/faults/{path.name}::{name}" for name in names_in(path)} <= named

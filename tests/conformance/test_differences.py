"""The documented differences are those that the suite knows."""

from pathlib import Path

from tests.conformance.differences import DIFFERENCES


def test_each_difference_has_a_line_with_its_reason(root: Path) -> None:
    lines = (root / "docs" / "nuclio.md").read_text().split("## What differs, and why")[1].splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")][2:]
    assert sorted(row[0] for row in table) == sorted(DIFFERENCES)
    assert all(len(row) == 4 and all(row) for row in table)


def test_each_difference_is_met_in_a_case() -> None:
    cases = "".join(path.read_text() for path in Path(__file__).parent.glob("test_*.py"))
    met = [name for name in DIFFERENCES if f'differs("{name}")' in cases]
    assert sorted(met) == sorted(DIFFERENCES)

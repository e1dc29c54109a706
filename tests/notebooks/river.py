"""The notebooks, executed in order over one home, as `make demo` and a reader do."""

import re
from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest

FOLDER = Path(__file__).parents[2] / "notebooks"


def _place(path: Path) -> tuple[int, str]:
    number = re.match(r"\d+", path.name)
    assert number is not None, f"{path.name} has no number, so nobody knows when to run it"
    return int(number[0]), path.stem


NOTEBOOKS = {path.stem: path for path in sorted(FOLDER.glob("*.ipynb"), key=_place)}


def read(name: str) -> Any:
    """The notebook as it is in the repository."""
    return nbformat.read(NOTEBOOKS[name], as_version=nbformat.NO_CONVERT)


def parameters(notebook: Any) -> set[str]:
    """The names that its parameters cell sets."""
    cells = [cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", [])]
    return set(re.findall(r"^(\w+) =", cells[0].source, re.MULTILINE)) if cells else set()


class Executed:
    """``executed[name]`` is the notebook with its outputs; what comes before it runs first, each notebook once.

    ``folder`` takes the executed copies; ``given`` goes to each notebook that has a parameter of the name.
    """

    def __init__(self, home: Path, folder: Path, **given: Any):
        self._home, self._folder, self._given = home, folder, given
        self._done: dict[str, Any] = {}
        self._failed = ""

    def __getitem__(self, name: str) -> Any:
        for each in NOTEBOOKS:
            if name in self._done:
                break
            if each not in self._done:
                self._execute(each)
        return self._done[name]

    def _execute(self, name: str) -> None:
        if self._failed:
            pytest.fail(f"it comes after {self._failed}, which failed")
        told = {key: value for key, value in self._given.items() if key in parameters(read(name))}
        target = self._folder / f"{name}.ipynb"
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("CHURNSTREAM_HOME", str(self._home))
                self._done[name] = papermill.execute_notebook(
                    NOTEBOOKS[name], target, told, kernel_name="python3", progress_bar=False, cwd=FOLDER
                )
        except Exception:
            self._failed = name
            raise


NOISE = re.compile(r"warning|traceback|deprecat", re.IGNORECASE)
FONTS = "Matplotlib is building the font cache"  # once on a machine, when nobody has plotted there before


def complaints(notebook: Any) -> list[str]:
    """Every line of its outputs that complains, and whatever it wrote to stderr."""
    streams = [output for cell in notebook.cells for output in cell.get("outputs", []) if output.output_type == "stream"]
    stderr = [line for each in streams if each.name == "stderr" for line in each.text.splitlines()]
    noisy = [line for line in said(notebook).splitlines() if NOISE.search(line)]
    return [line for line in (*stderr, *noisy) if line.strip() and FONTS not in line]


def said(notebook: Any) -> str:
    """Everything that its cells put out, as text: streams, results and errors, in HTML too."""
    texts: list[str] = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            texts += [output.get("text", ""), *output.get("traceback", [])]
            texts += [content for kind, content in data.items() if kind.startswith("text/")]
    return "\n".join(texts)

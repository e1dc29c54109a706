"""Numbered notebooks: their order, their titles and parameters, and running one with papermill."""

import ast
import json
import logging
import re
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from churnstream.errors import InvalidSetting, NotebookFailed

NUMBER = re.compile(r"(\d+)([a-z]*)-")
TITLE = re.compile(r"^# +(?:\d+[a-z]* *[·:.–-] *)?(.+)$", re.MULTILINE)  # its number stands in the name already
KERNEL = "python3"
Step = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Notebook:
    """One numbered notebook. ``parameters`` are the names that its cell tagged ``parameters`` sets."""

    path: Path
    title: str
    parameters: frozenset[str]

    @property
    def name(self) -> str:
        return self.path.stem


def numbered(folder: Path) -> list[Notebook]:
    """The notebooks of ``folder`` whose names begin with a number, in its order: 1-…, 2-…, 2a-…, 10-….

    Raises InvalidSetting when there is none, or one cannot be read.
    """
    found = [(NUMBER.match(path.name), path) for path in folder.glob("*.ipynb")]
    places = {path: (int(match[1]), match[2], path.name) for match, path in found if match}
    if not places:
        raise InvalidSetting(f"{folder} holds no notebook whose name begins with a number, such as 0-setup.ipynb")
    return [_read(path) for path in sorted(places, key=places.__getitem__)]


def run(notebook: Notebook, copy: Path, given: Mapping[str, Any], step: Step | None = None) -> float:
    """Run the notebook in its own folder, keeping the executed ``copy``; returns the seconds it took.

    Of ``given`` it gets the parameters that it knows. ``step(done, cells)`` is called before each cell and at the end. Raises
    NotebookFailed with the cell and its error; the copy then holds everything up to there.
    """
    import papermill  # takes a second, which only this command needs

    engine = _telling_engine(step) if step else None
    parameters = {name: value for name, value in given.items() if name in notebook.parameters}
    began = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # of the machinery between this process and the kernel; the notebook's own are in its copy
            papermill.execute_notebook(
                str(notebook.path),
                str(copy),
                parameters,
                engine_name=engine,
                kernel_name=KERNEL,
                cwd=str(notebook.path.parent),
                progress_bar=False,
            )
    except papermill.PapermillExecutionError as cause:
        raise NotebookFailed(
            f"{notebook.path.name} stopped in its cell [{cause.exec_count}], {_first_line(cause.source)}, with"
            f" {_sentence(cause.ename, cause.evalue)}. See it in {near(copy)}"
        ) from cause
    except KeyboardInterrupt:
        logging.getLogger("asyncio").disabled = True  # it would print the kernel's own interrupt, cell and all, on the way out
        raise
    return time.perf_counter() - began


def to_html(copy: Path, images: Path) -> Path:
    """The executed ``copy`` as a page beside it, with its pictures inside; their paths are relative to the folder ``images``."""
    import nbconvert

    exporter = nbconvert.HTMLExporter(embed_images=True, mathjax_url="", require_js_url="", jquery_url="")  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        page, _ = exporter.from_filename(str(copy), {"metadata": {"name": copy.stem, "path": str(images)}})
    target = copy.with_suffix(".html")
    target.write_text(page)
    return target


def near(path: Path) -> Path:
    """The path as one would type it in the working directory."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


def _read(path: Path) -> Notebook:
    try:
        cells = json.loads(path.read_text())["cells"]
        words = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        tagged = ("".join(cell["source"]) for cell in cells if "parameters" in cell["metadata"].get("tags", ()))
        title = TITLE.search(words)
        return Notebook(path, title[1].strip() if title else path.stem, frozenset(_assigned(next(tagged, ""))))
    except (ValueError, KeyError, SyntaxError) as cause:
        raise InvalidSetting(f"{path} is no notebook that can be run: {cause}") from cause


def _assigned(code: str) -> set[str]:
    names = set()
    for node in ast.parse(code).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        names |= {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}
    return names


def _telling_engine(step: Step) -> str:
    from papermill.engines import NBClientEngine, papermill_engines

    class Telling(NBClientEngine):
        """Papermill's own engine, which says how far it has come."""

        @classmethod
        def execute_managed_notebook(cls, nb_man: Any, kernel_name: str, **options: Any) -> Any:
            """As papermill's; ``step`` hears of every cell."""
            cells, start = len(nb_man.nb.cells), nb_man.cell_start

            def cell_start(cell: Any, cell_index: int | None = None, **more: Any) -> None:
                step(cell_index or 0, cells)
                start(cell, cell_index, **more)

            nb_man.cell_start = cell_start
            done = super().execute_managed_notebook(nb_man, kernel_name, **options)
            step(cells, cells)
            return done

    papermill_engines.register("telling", Telling)
    return "telling"


def _first_line(source: str) -> str:
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return f"`{lines[0][:80]}`" if lines else "which is empty"


def _sentence(name: str, value: str) -> str:
    text = " ".join(re.sub(r"\x1b\[[0-9;]*m", "", value or "").split())
    return f"{name}: {text[:600].rstrip('.')}" if text else name

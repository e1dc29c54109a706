"""The arrows of the house: who may import whom, and which rooms may hold which driver."""

import ast
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

PACKAGE = "churnstream"
GROUND = ("errors", "records", "settings", "topology", "features", "usecases")
PORTS = ("streams.base", "streams.delivery", "tables.base")
WORKS = ("codecs", *PORTS, "stages", "graph", "models", "serving", "operations")

# Floor by floor, from the ground up. A room imports itself and what stands beside it here: a name means the
# whole room, a dotted name only that module of it.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "records": ("errors",),
    "settings": ("errors",),
    "topology": ("errors", "settings"),
    "features": ("errors",),
    "usecases": ("errors", "features"),
    "failpoints": ("errors",),
    "journal": ("errors", "records", "failpoints"),
    "pictures": ("errors", "topology"),
    "codecs": ("errors", "records", "features", "usecases"),
    "streams": ("errors", "records", "failpoints", "journal"),
    "tables": ("errors", "records", "journal"),
    "stages": ("errors", "records", "failpoints", "topology", "features", "usecases", "codecs", *PORTS),
    "graph": ("errors", "records", "failpoints", "topology", "features", "usecases", "codecs", *PORTS),
    "models": ("errors", "records", "topology", "features", "usecases", "graph", "codecs", "stages", *PORTS),
    "operations": ("errors", "features", "topology"),
    "serving": ("errors", "records", "topology", "features", "usecases", "graph", "models", "operations", "codecs", *PORTS),
    "wiring": (*GROUND, *WORKS, "journal", "streams", "tables"),
    "triggers": (*GROUND, "wiring"),
    "reading": (*GROUND, *WORKS, "streams.base", "wiring"),
    "redriving": (*GROUND, *WORKS, "streams.letters", "wiring", "reading"),
    "tryout": (*GROUND, *WORKS, "wiring"),
    "functions": (*GROUND, *WORKS, "wiring"),
    "local": (*GROUND, *WORKS, "failpoints", "journal", "wiring", "reading"),
    "settling": ("errors", "reading", "local"),
    "__init__": (*GROUND, "settling", "local"),
    "web": (*GROUND, *WORKS, "wiring", "reading", "local"),
    "demo": (*GROUND, *WORKS, "wiring", "reading", "local", "pictures", "__init__"),
    "certificate": (*GROUND, *WORKS, "wiring", "reading", "demo.style", "__init__"),
    "cli": (*GROUND, *WORKS, "wiring", "reading", "redriving", "local", "__init__", "web", "demo", "certificate", "pictures"),
    "project_setup": (*GROUND, *WORKS, "wiring", "triggers", "__init__"),
    "workflows": (),
    "notebooks": (*GROUND, *WORKS, "wiring", "triggers", "reading", "tryout", "local", "__init__"),
}

MAY_HOLD = {
    "confluent_kafka": {"streams"},
    "cryptography": {"models"},
    "mlflow": {"models"},
    "mlrun": {"functions", "local", "project_setup", "workflows", "notebooks"},
    "nuclio": {"triggers", "tryout", "functions", "local", "project_setup", "notebooks"},
    "nuclio_sdk": {"tryout", "functions", "local"},
    "optuna": {"models"},
    "redis": {"tables"},
    "sqlite3": {"journal", "local"},
    "storey": {"graph"},
    "v3io": {"streams", "tables"},
}

# Parts of the standard library that reach a file, the network, a clock or another process.
OUTSIDE = {
    "asyncio", "glob", "http", "io", "multiprocessing", "os", "shutil", "socket", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "urllib",
}  # fmt: skip
CLOCKS = {"now", "today", "utcnow"}
ENVIRONMENT = {"environ", "environb", "getenv", "get_secret_or_env"}


@dataclass(frozen=True)
class Source:
    """One file of the house under ``root``: its path there, and its syntax."""

    root: Path
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        parts = self.path.with_suffix("").parts
        return parts[1] if parts[0] == PACKAGE else parts[0]

    def imports(self) -> Iterator[str]:
        """Every module it imports, wherever in the file; a private name counts as a module of its own."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from (each.name for each in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    above = self.path.parts[:-level] if level else ()
                    source = ".".join([*above, *([module] if module else [])])
                    for each in names:
                        whole = f"{source}.{each.name}"
                        yield whole if _is_private(each.name) or _is_module(self.root, whole) else source
                case ast.Call(
                    func=ast.Attribute(attr=called) | ast.Name(id=called),
                    args=[ast.Constant(value=str(name))],
                ):
                    if called in ("import_module", "__import__"):
                        yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def sources(root: Path) -> Iterator[Source]:
    """Every file of the house under ``root``."""
    code = {path: path.read_text() for folder in (PACKAGE, "functions", "workflows") for path in (root / folder).rglob("*.py")}
    code |= {path: path.read_text() for path in root.glob("project_setup.py")}
    code |= {path: _cells(path) for path in root.glob("notebooks/*.ipynb")}
    for path, text in sorted(code.items()):
        yield Source(root, path.relative_to(root), ast.parse(text, str(path)))


def _cells(notebook: Path) -> str:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)


def breaches(root: Path) -> list[str]:
    """A sentence for every import and every name that is in the wrong room."""
    found: list[str] = []
    for source in sources(root):
        if source.room not in MAY_IMPORT:
            found.append(f"{source.path}: there is no room {source.room}; give it a floor in MAY_IMPORT")
            continue
        for name in dict.fromkeys(source.imports()):
            reason = _wrong_import(source, name)
            if reason:
                found.append(f"{source.path}: {source.room} must not import {name}: {reason}")
        for name in dict.fromkeys(_words(source.tree)):
            if source.room in GROUND and name in CLOCKS:
                found.append(f"{source.path}: {source.room} must not ask for {name}: time is an argument")
            if source.room == "functions" and name in ENVIRONMENT:
                found.append(f"{source.path}: a function must not ask for {name}: it gets its settings from wiring")
    return found


def _wrong_import(source: Source, name: str) -> str | None:
    top, *inside = name.split(".")
    if top == "functions" or (source.root / "functions" / f"{top}.py").is_file():
        return "nobody imports a function"
    if top == PACKAGE:
        return _wrong_arrow(source.room, inside or ["__init__"])
    if source.room in GROUND and (top not in sys.stdlib_module_names or top in OUTSIDE):
        return "the ground has the standard library, less what reaches a file, the network or a clock"
    if source.room not in MAY_HOLD.get(top, {source.room}):
        return f"it stays in {', '.join(sorted(MAY_HOLD[top]))}"
    return None


def _wrong_arrow(room: str, target: list[str]) -> str | None:
    if target[0] == room:
        return None
    if any(_is_private(part) for part in target):
        return "that name is private"
    allowed = MAY_IMPORT[room]
    if not any(target[: each.count(".") + 1] == each.split(".") for each in allowed):
        return f"of the package it may import {', '.join(allowed) or 'nothing'}"
    return None


def _words(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(attr=name) | ast.alias(name=name):
                yield name


def test_every_arrow_points_down(root: Path) -> None:
    assert breaches(root) == []


def test_the_table_has_no_way_up() -> None:
    floors = list(MAY_IMPORT)
    for room, allowed in MAY_IMPORT.items():
        for each in allowed:
            assert floors.index(each.split(".")[0]) < floors.index(room), f"{room} stands below {each}"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A small house: the modules that the planted imports name, all of them empty."""
    for name in (
        "errors",
        "features/moments",
        "journal",
        "streams/base",
        "streams/embedded",
        "graph/engine",
        "wiring",
        "local/home",
    ):
        _plant(tmp_path, f"churnstream/{name}.py", "")
    _plant(tmp_path, "functions/serving.py", "")
    return tmp_path


def _plant(root: Path, path: str, line: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    cell = {"cell_type": "code", "source": [line]}
    file.write_text(json.dumps({"cells": [cell]}) if file.suffix == ".ipynb" else f"{line}\n")


WRONG = [
    ("churnstream/errors.py", "import churnstream.features"),
    ("churnstream/features/windows.py", "from churnstream import wiring"),
    ("churnstream/features/windows.py", "from ..graph import engine"),
    ("churnstream/features/windows.py", "import numpy as np"),
    ("churnstream/features/windows.py", "import time"),
    ("churnstream/features/windows.py", "at = datetime.now(UTC)"),
    ("churnstream/usecases/tiny.py", "from churnstream.codecs import encode"),
    ("churnstream/usecases/tiny.py", "def load():\n    import pandas"),
    ("churnstream/journal.py", "import pyarrow\nfrom churnstream.codecs import encode"),
    ("churnstream/streams/embedded.py", "import sqlite3"),
    ("churnstream/graph/steps.py", "from churnstream.streams.embedded import EmbeddedStream"),
    ("churnstream/graph/steps.py", "from churnstream.streams import embedded"),
    ("churnstream/graph/steps.py", "import_module('churnstream.streams.embedded')"),
    ("churnstream/models/training.py", "import mlrun"),
    ("churnstream/models/training.py", "from storey import Flow"),
    ("churnstream/operations/lag.py", "from churnstream.wiring import open_stream"),
    ("churnstream/wiring.py", "from churnstream.journal import _connect"),
    ("churnstream/wiring.py", "from churnstream.local.home import Home"),
    ("churnstream/local/worker.py", "from churnstream.streams.embedded import EmbeddedStream"),
    ("churnstream/cli/common.py", "import sqlite3"),
    ("churnstream/attic.py", "import json"),
    ("functions/training.py", "from functions.serving import handler"),
    ("functions/training.py", "import serving"),
    ("functions/training.py", "from churnstream.local.home import Home"),
    ("functions/training.py", "import os\nfolder = os.environ['HOME']"),
    ("functions/training.py", "from os import getenv"),
    ("project_setup.py", "import storey"),
    (
        "notebooks/5-serving.ipynb",
        "%matplotlib inline\nfrom churnstream.streams.embedded import EmbeddedStream",
    ),
]


@pytest.mark.parametrize(("path", "line"), WRONG)
def test_an_import_in_the_wrong_room_is_caught(house: Path, path: str, line: str) -> None:
    _plant(house, path, line)
    found = breaches(house)
    assert len(found) == 1
    assert found[0].startswith(f"{path}: ")


RIGHT = [
    (
        "churnstream/features/windows.py",
        "import json\nfrom . import moments\nfrom churnstream.errors import Unknown",
    ),
    ("churnstream/streams/embedded.py", "from churnstream.journal import Journal"),
    ("churnstream/graph/steps.py", "import storey, numpy\nfrom churnstream.streams.base import StreamReader"),
    (
        "churnstream/wiring.py",
        "import os\nfrom churnstream.streams import embedded\nhome = os.environ['HOME']",
    ),
    ("churnstream/local/worker.py", "import mlrun, sqlite3\nfrom churnstream.wiring import open_stream"),
    ("churnstream/__init__.py", "def connect():\n    from churnstream.local import home"),
    ("functions/training.py", "import mlrun, lightgbm\nfrom churnstream.wiring import open_parts"),
    ("notebooks/5-serving.ipynb", "%matplotlib inline\nimport churnstream, mlrun\nchurnstream.connect()"),
]


@pytest.mark.parametrize(("path", "line"), RIGHT)
def test_an_import_from_below_is_no_breach(house: Path, path: str, line: str) -> None:
    _plant(house, path, line)
    assert breaches(house) == []


def test_a_house_without_its_upper_floors_is_no_breach(tmp_path: Path) -> None:
    _plant(tmp_path, "churnstream/errors.py", "")
    assert breaches(tmp_path) == []

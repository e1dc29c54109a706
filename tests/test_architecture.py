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
PORTS = ("streams.base", "tables.base")
WORKS = ("codecs", *PORTS, "graph", "models", "operations")

# Floor by floor, from the ground up. A room imports itself and what stands beside it: a room's name means the whole room,
# a dotted name only that module of it.
MAY_IMPORT: dict[str, tuple[str, ...]] = {
    "errors": (),
    "records": ("errors",),
    "settings": ("errors",),
    "topology": ("errors", "settings"),
    "features": ("errors",),
    "usecases": ("errors", "features"),
    "journal": ("errors", "records"),
    "codecs": ("errors", "records", "features", "usecases"),
    "streams": ("errors", "records", "journal"),
    "tables": ("errors", "records", "journal"),
    "graph": ("errors", "records", "features", "usecases", "codecs", *PORTS),
    "models": ("errors", "features", "usecases", "graph", "codecs"),
    "operations": ("errors", "features", "topology"),
    "wiring": (*GROUND, *WORKS, "journal", "streams", "tables"),
    "functions": (*GROUND, *WORKS, "wiring"),
    "local": (*GROUND, *WORKS, "journal", "wiring"),
    "__init__": (*GROUND, "local"),
    "web": (*GROUND, *WORKS, "wiring", "local"),
    "demo": (*GROUND, *WORKS, "wiring", "local", "__init__"),
    "cli": (*GROUND, *WORKS, "wiring", "local", "__init__", "web", "demo"),
    "project_setup": (*GROUND, *WORKS, "wiring", "__init__"),
    "notebooks": (*GROUND, *WORKS, "wiring", "local", "__init__"),
}

MAY_HOLD = {
    "confluent_kafka": {"streams"},
    "mlrun": {"functions", "local", "project_setup", "notebooks"},
    "nuclio": {"functions", "local", "project_setup", "notebooks"},
    "nuclio_sdk": {"functions", "local"},
    "redis": {"tables"},
    "sqlite3": {"journal", "local"},
    "storey": {"graph"},
    "v3io": {"streams", "tables"},
}

# Parts of the standard library that reach a file, the network, a clock or another process.
OUTSIDE = {
    "asyncio", "glob", "http", "io", "multiprocessing", "os", "shutil", "socket", "sqlite3", "ssl", "subprocess", "tempfile",
    "threading", "time", "urllib",
}  # fmt: skip
CLOCKS = {"now", "today", "utcnow"}
ENVIRONMENT = {"environ", "environb", "getenv", "get_secret_or_env"}


@dataclass(frozen=True)
class Source:
    """One file: the room it lies in, the module it is, and its syntax."""

    room: str
    module: str
    path: str
    tree: ast.Module

    def imports(self, root: Path) -> Iterator[str]:
        """Every module it imports, wherever in the file, and however; private names of a module count as one."""
        for node in ast.walk(self.tree):
            match node:
                case ast.Import(names=names):
                    yield from (each.name for each in names)
                case ast.ImportFrom(module=module, names=names, level=level):
                    above = self.module.split(".")[: -level or None] if level else []
                    source = ".".join([*above, *([module] if module else [])])
                    for each in names:
                        whole = f"{source}.{each.name}"
                        yield whole if _is_private(each.name) or _is_module(root, whole) else source
                case ast.Call(func=ast.Attribute(attr=called) | ast.Name(id=called), args=[ast.Constant(value=str(name))]):
                    if called in ("import_module", "__import__"):
                        yield name


def _is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def _is_module(root: Path, name: str) -> bool:
    path = root.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


def sources(root: Path) -> Iterator[Source]:
    """Every file of the house under ``root``."""
    files = [(path, path.read_text()) for folder in (PACKAGE, "functions") for path in sorted((root / folder).rglob("*.py"))]
    files += [(path, path.read_text()) for path in root.glob("project_setup.py")]
    files += [(path, _code(path)) for path in sorted((root / "notebooks").glob("*.ipynb"))]
    for path, text in files:
        parts = path.relative_to(root).with_suffix("").parts
        inside = parts[1:] if parts[0] == PACKAGE else parts
        module = ".".join(parts)
        yield Source(inside[0], module, str(path.relative_to(root)), ast.parse(text, str(path)))


def _code(notebook: Path) -> str:
    cells = [cell for cell in json.loads(notebook.read_text())["cells"] if cell["cell_type"] == "code"]
    lines = "\n".join("".join(cell["source"]) for cell in cells).splitlines()
    return "\n".join("pass" if line.startswith(("%", "!")) else line for line in lines)


def breaches(root: Path) -> list[str]:
    """A sentence for every import or name that is in the wrong room."""
    found: list[str] = []
    for source in sources(root):
        if source.room not in MAY_IMPORT:
            found.append(f"{source.path}: there is no room {source.room}; give it a floor in this test's table")
            continue
        for name in dict.fromkeys(source.imports(root)):
            reason = _wrong(source, name)
            if reason:
                found.append(f"{source.path}: {source.room} must not import {name}; {reason}")
        found += [f"{source.path}: {sentence}" for sentence in _wrong_names(source)]
    return found


def _wrong(source: Source, name: str) -> str | None:
    top, *rest = name.split(".")
    if top == "functions" or (source.room == "functions" and top in _functions(source)):
        return "nobody imports a function, and functions never one another"
    if top == PACKAGE:
        return _wrong_arrow(source.room, rest)
    if source.room in GROUND and (top not in sys.stdlib_module_names or top in OUTSIDE):
        return "the ground knows the standard library only, and of it nothing that reaches a file, the network or a clock"
    if top in MAY_HOLD and source.room not in MAY_HOLD[top]:
        return f"{top} stays in {', '.join(sorted(MAY_HOLD[top]))}"
    return None


def _wrong_arrow(room: str, target: list[str]) -> str | None:
    to = target or ["__init__"]
    if to[0] == room:
        return None
    if any(_is_private(part) for part in to):
        return "that name is private"
    allowed = MAY_IMPORT[room]
    if not any(to[: len(each.split("."))] == each.split(".") for each in allowed):
        return f"it may import {', '.join(allowed) or 'nothing of the package'}"
    return None


def _functions(source: Source) -> set[str]:
    return {each.stem for each in FUNCTION_FOLDERS.get(source.path, ())}

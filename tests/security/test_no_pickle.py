"""Nothing that comes from outside, or lies in a home, is ever unpickled: a pickle is a program."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
# Numba keeps what it compiled beside the source, as Python keeps its .pyc files, and reads it with pickle: whoever could write
# there could as well write the source.
COMPILED = "numba/core/caching.py"


def run(folder: Path, *more: str) -> dict[str, Any]:
    """What a river of its own has seen, from the first import to the last prediction."""
    command = [sys.executable, "-m", "tests.security.unpickles", str(folder), *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr[-2_000:]
    told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return told


@pytest.mark.slow
def test_from_the_door_to_a_prediction_nothing_is_unpickled(tmp_path: Path) -> None:
    told = run(tmp_path / "home")
    assert told["answered"] == 200
    assert told["predictions"] > 100
    assert [who for who in told["seen"] if COMPILED not in who] == []


@pytest.mark.slow
def test_what_is_unpickled_is_seen(tmp_path: Path) -> None:
    assert any("security/unpickles.py" in who for who in run(tmp_path / "home", "planted")["seen"])


def test_no_line_of_the_project_names_a_way_to_unpickle() -> None:
    ways = re.compile(
        r"^\s*(?:import|from)\s+(?:pickle|cloudpickle|dill|shelve|marshal|joblib)\b|allow_pickle\s*=\s*True|read_pickle", re.M
    )
    sources = [
        path for folder in ("churnstream", "functions", "notebooks") for path in (ROOT / folder).rglob("*") if path.is_file()
    ]
    sources = [path for path in sources if path.suffix in (".py", ".ipynb")]
    assert len(sources) > 100
    assert [str(path) for path in sources if ways.search(path.read_text())] == []

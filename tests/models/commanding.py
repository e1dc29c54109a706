"""`churnstream models` as a person types it, in a home of the test's own."""

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from churnstream.cli import app


def run(*words: str, code: int = 0) -> str:
    """What the command prints, on one line; it must end with ``code``."""
    result = CliRunner().invoke(app, ["models", *words])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def own_home(trained: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``home`` with a copy of another's models and keys, in which a test may promote; commands look there from now on."""
    for part in ("registry", "keys"):
        shutil.copytree(trained / part, home / part)
    monkeypatch.setenv("CHURNSTREAM_HOME", str(home))
    return home

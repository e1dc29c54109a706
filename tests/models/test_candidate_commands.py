"""`churnstream models withdraw` and `readmit`, as a person types them."""

import json
from pathlib import Path

import pandas as pd
import pytest

from churnstream.models.manifest import MANIFEST_FILE, read_manifest
from churnstream.models.registry import Registry
from tests.models.commanding import run

SHIPPED = Path(__file__).parents[2] / "assets" / "model" / "first_day"
VERSION = read_manifest(SHIPPED / MANIFEST_FILE).version


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def registered(home: Path) -> None:
    Registry(home / "registry" / "churnstream" / "first_day").add(SHIPPED, pd.DataFrame({"label": [0]}))


@pytest.mark.usefixtures("registered")
def test_a_candidate_is_withdrawn_shown_and_readmitted() -> None:
    assert run("withdraw", VERSION[:6], "--reason", "the shop [bold]closed") == (
        f"{VERSION} answers nobody as a candidate until it is readmitted."
    )
    assert f"{VERSION} withdrawn 24 h" in (shown := run("list"))
    assert f"{VERSION} withdrawn: the shop [bold]closed" in shown
    assert [each["withdrawn"] for each in json.loads(run("list", "--json"))] == [True]
    assert f"{VERSION} is withdrawn already: the shop [bold]closed." in run("withdraw", VERSION, "--reason", "again")
    assert run("readmit", VERSION[:6]).startswith(f"{VERSION} may answer customers again.")
    assert f"{VERSION} readmitted: asked for" in (shown := run("list"))
    assert f"{VERSION} withdrawn 24 h" not in shown
    assert [each["withdrawn"] for each in json.loads(run("list", "--json"))] == [False]


@pytest.mark.usefixtures("home")
def test_one_that_never_was_in_the_registry_is_named_in_full() -> None:
    assert "no model 'abc' is in the registry" in run("withdraw", "abc", "--reason", "a slip", code=1)
    assert "until it is readmitted" in run("withdraw", "0123456789ab", "--reason", "it fails")
    assert "0123456789ab withdrawn: it fails" in run("list")
    assert "no model that begins with 'fff' is withdrawn; withdrawn are: 0123456789ab" in run("readmit", "fff", code=1)


@pytest.mark.usefixtures("registered")
def test_a_withdrawal_needs_a_reason() -> None:
    run("withdraw", VERSION, code=2)
    assert "who is withdrawn is told why" in run("withdraw", VERSION, "--reason", " ", code=1)

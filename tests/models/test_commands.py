"""`churnstream models`, as a person types it."""

import json
import shutil
from pathlib import Path

import pytest

from churnstream.models.artifact import MODEL_FILE, load_artifact
from churnstream.models.keys import PRIVATE, read_keys
from churnstream.models.registry import Registry
from churnstream.usecases import load
from tests.functions.river import River
from tests.models.commanding import own_home, run

SHIPPED = Path(__file__).parents[2] / "assets" / "model" / "first_day"
FEATURES = load("first_day").features


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """A home with two models of the same events, and their versions, the newest first; nobody is the champion."""
    river = River(tmp_path_factory.mktemp("home"), "first_day")
    river.archive(customers=400, events=6_000)
    for seed in (1, 2):
        river.job("training", "fit", seed=seed)
    assert river.settings.models is not None
    return river.home, [each.version for each in Registry(river.settings.models).versions()]


@pytest.fixture
def home(trained: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return own_home(trained[0], tmp_path / "home", monkeypatch)


def test_an_empty_registry_says_where_models_come_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path))
    assert run("list") == "There are no models yet; notebook 4b trains one."
    assert json.loads(run("list", "--json")) == []
    assert "is in the registry: it is empty; train one (notebook 4b)" in run("promote", "abc", code=1)
    assert "there is no champion to roll back to" in run("rollback", code=1)


def test_models_are_listed_with_the_champion_marked(home: Path, trained: tuple[Path, list[str]]) -> None:
    newer, older = trained[1]
    shown = run("list")
    assert shown.index(newer) < shown.index(older)
    assert "champion" not in shown
    assert run("promote", older[:8]).endswith(f"{older} is the champion.")
    assert f"{older} champion 24 h" in run("list")
    told = {each["version"]: each["champion"] for each in json.loads(run("list", "--json"))}
    assert told == {newer: False, older: True}


def test_a_promotion_is_refused_forced_and_taken_back(home: Path, trained: tuple[Path, list[str]]) -> None:
    newer, older = trained[1]
    run("promote", older)
    refused = run("promote", newer, code=1)
    assert f"{newer} does not replace {older}: it is not better by more than noise" in refused
    assert "a promotion by force needs a reason" in run("promote", newer, "--force", code=1)
    assert "a reason goes with --force" in run("promote", newer, "--reason", "because", code=1)
    forced = run("promote", newer, "--force", "--reason", "to see it [bold]served")
    assert "Promoted by force, though it is not better by more than noise" in forced
    assert "promoted, by force: to see it [bold]served" in run("list")
    assert run("rollback", "--reason", "seen") == f"{older} is the champion again; it was {newer}."
    assert "rolled back: seen" in run("list")


def test_a_folder_is_verified_and_one_of_ones_own_is_signed(home: Path, tmp_path: Path) -> None:
    assert " of first_day is as " in run("verify", str(SHIPPED))
    mine = Path(shutil.copytree(SHIPPED, tmp_path / "mine"))
    (mine / "signature.json").unlink()
    assert "is not signed" in run("verify", str(mine), code=1)
    assert run("sign", str(mine)).startswith("Signed with ")
    assert load_artifact(mine, FEATURES, read_keys(home)).signer != load_artifact(SHIPPED, FEATURES, read_keys(None)).signer
    (mine / MODEL_FILE).write_text("changed")
    assert "is not as it was signed" in run("verify", str(mine), code=1)
    assert "is no model that could be signed" in run("sign", str(tmp_path / "nowhere"), code=1)


def test_signing_in_a_new_home_makes_its_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path / "new"))
    mine = Path(shutil.copytree(SHIPPED, tmp_path / "mine"))
    run("sign", str(mine))
    assert (tmp_path / "new" / "keys" / PRIVATE).stat().st_mode & 0o777 == 0o600

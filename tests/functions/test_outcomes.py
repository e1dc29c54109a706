"""From events to who was right: the stream's answers carry the version that gave them, and the archive tells the labels."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from churnstream.cli import app
from churnstream.models.dataset import build_training_set, read_archive
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, digest, read_manifest
from churnstream.models.resampling import auc
from churnstream.serving.outcomes import matured
from churnstream.topology import ENRICHMENT, INFERENCE
from churnstream.wiring import open_table
from tests.functions.river import River, in_root
from tests.functions.signing import change_manifest
from tests.serving import small_models
from tests.serving.test_rollout import place_of

MODEL = in_root("assets/model/first_day")
CHAMPION = read_manifest(MODEL / MANIFEST_FILE).version
SHARE = 0.4


@pytest.fixture(scope="module")
def river(tmp_path_factory: pytest.TempPathFactory) -> River:
    """The first day of some customers, scored by a champion, a variant that knows nothing, and the same as a shadow."""
    folder = tmp_path_factory.mktemp("outcomes")
    river = River(folder / "home", "first_day")
    river.job("enrichment-table", "build")
    river.generate(customers=300, events=6_000)
    river.flow("incoming-event-handler", "stream-to-parquet", "enrich-stream", "stream-to-features")
    noise = Path(shutil.copytree(MODEL, folder / "noise"))
    (noise / MODEL_FILE).write_text(text := small_models.text(2))
    change_manifest(river, noise, model_sha256=digest(text), version=digest(text)[:12])
    candidates = [{"role": "variant", "model_path": str(noise), "share": SHARE}, {"role": "shadow", "model_path": str(noise)}]
    with river.door("serving", candidates=candidates) as door:
        door.pump()
    return river


def run(river: River, *words: str, code: int = 0) -> str:
    with river.environment():
        result = CliRunner().invoke(app, ["models", "outcomes", *words])
    assert result.exit_code == code, result.output
    return result.output


def test_labels_are_those_that_training_learns_from(river: River) -> None:
    archive = read_archive(river.settings.archive, river.case)
    table = open_table(ENRICHMENT, river.settings)
    data = build_training_set(archive, river.case, table)
    table.close()
    known = matured(archive, river.case).set_index("user_id")
    assert len(data) > 100
    assert known.loc[data.keys, "label"].to_numpy() == pytest.approx(data.label)
    for ours, theirs in (("at", data.at), ("known", data.known)):
        assert known.loc[data.keys, ours].tolist() == theirs.tolist()
    assert known["known"].is_monotonic_increasing


def test_every_arm_is_judged_by_what_its_own_customers_did(river: River) -> None:
    told = json.loads(run(river, "--json"))
    by_role = {each["role"]: each for each in told["versions"]}
    assert {each["role"]: each["version"] == CHAMPION for each in told["versions"]} == {
        "champion": True, "variant": False, "shadow": False
    }  # fmt: skip
    known = matured(read_archive(river.settings.archive, river.case), river.case).set_index("user_id")
    rows = pd.DataFrame(river.rows(INFERENCE))
    for role, ours in (("champion", lambda user: place_of(user) >= SHARE), ("variant", lambda user: place_of(user) < SHARE)):
        mine = rows[(rows["role"] == role) & rows["user_id"].isin(known.index)]
        mine = mine[mine["event_time"] < mine["user_id"].map(known["at"])]
        newest = mine.groupby("user_id").last()
        label = known.loc[newest.index, "label"].to_numpy()
        assert all(map(ours, newest.index))
        assert by_role[role]["customers"] == len(newest) > 50
        assert by_role[role]["left"] == label.mean()
        assert by_role[role]["auc"] == auc(label.astype(np.int8), newest["probability"].to_numpy())
    assert by_role["champion"]["auc"] > 0.8
    shadow, variant = sorted(told["compared"], key=lambda each: each["role"])
    assert shadow["customers"] == shadow["theirs"] <= by_role["champion"]["customers"]
    assert variant["brier"] > 0
    assert [each["verdict"] for each in (shadow, variant)].count(1) == 0


def test_it_is_told_in_words(river: River) -> None:
    shown = run(river)
    assert f"{CHAMPION}  champion" in shown
    assert "however often one looks" in shown
    assert "models outcomes" not in shown
    early = run(river, "--hours", "1", "--json")
    assert json.loads(early)["versions"] != json.loads(run(river, "--json"))["versions"]
    assert "none was scored before the decision" in run(river, "--since", "2100-01-01", code=1)


def test_without_an_archive_it_says_what_is_missing(tmp_path: Path) -> None:
    assert "deploy stream-to-parquet" in run(River(tmp_path, "first_day"), code=1)


def test_silence_is_judged_when_its_time_has_passed(tmp_path: Path) -> None:
    """Plays of 40 players over twelve days; one churned who did not play in the seven days after the first."""
    rng, river = np.random.default_rng(5), River(tmp_path, "casual_game")
    start = datetime(2026, 3, 1, tzinfo=UTC)
    plays = {f"p{number}": sorted(rng.uniform(0, 12 * 24, rng.integers(1, 5)).tolist()) for number in range(40)}
    events = [
        {"user_id": user, "event_type": "play", "event_time": (start + timedelta(hours=hour)).isoformat(), "score": 1.0}
        for hour, user in sorted((hour, user) for user, hours in plays.items() for hour in hours)
    ]
    river.send(events)
    river.flow("incoming-event-handler", "stream-to-parquet")
    known = matured(read_archive(river.settings.archive, river.case), river.case)
    newest = sorted((max(hours) for hours in plays.values()), reverse=True)[2]  # three players have come so far
    expected = {
        user: float(not any(hours[0] + 24 <= hour < hours[0] + 8 * 24 for hour in hours))
        for user, hours in plays.items()
        if hours[0] + 8 * 24 <= newest
    }
    assert dict(zip(known["user_id"], known["label"], strict=True)) == expected
    assert 2 < sum(expected.values()) < len(expected) - 2

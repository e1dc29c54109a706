"""Real plays of a casual game through every door: nothing vanishes, every number is the reference's, and the model predicts."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from churnstream.features.reference import Observed, feature_vector, split_late
from churnstream.graph.engine import StateReader
from churnstream.models.dataset import build_training_set, read_archive
from churnstream.topology import DEAD_LETTERS, FEATURES, INFERENCE
from churnstream.wiring import open_table
from tests.functions.river import River, assert_conserved

PLAYS, PLAYERS, DUPLICATES = 153_920, 25_955, 92
HANDLER, ARCHIVE, FEATURING = "incoming-event-handler", "stream-to-parquet", "stream-to-features"


@pytest.fixture(scope="module")
def river(real_data: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> River:
    """The plays, gone through everything up to the features."""
    river = River(tmp_path_factory.mktemp("real"), "casual_game")
    job = river.generate(data=str(real_data("dodge_mud_plays.parquet")))
    assert job.outputs["produced"] == PLAYS
    river.flow(HANDLER, ARCHIVE, "enrich-stream", FEATURING)
    return river


@pytest.fixture(scope="module")
def histories(real_data: Callable[[str], Path]) -> dict[str, list[Observed]]:
    """Each player's plays, straight from the file: without exact duplicates, in order of time."""
    table = pq.read_table(real_data("dodge_mud_plays.parquet"), columns=["player_id", "event_ts", "score"])
    plays = dict.fromkeys(zip(*(table.column(name).to_pylist() for name in table.column_names), strict=True))
    found: dict[str, list[Observed]] = {}
    for player, seconds, score in sorted(plays, key=lambda play: play[1]):
        at = seconds.replace(tzinfo=UTC) if isinstance(seconds, datetime) else datetime.fromtimestamp(seconds, UTC)
        found.setdefault(str(player), []).append(Observed("play", at, {"score": float(score)}))
    return found


def test_every_play_is_accounted_for_and_the_exact_duplicates_are_counted(river: River) -> None:
    assert_conserved(river, HANDLER, ARCHIVE, "enrich-stream", FEATURING)
    line = river.lines()[HANDLER, "generated-stream"]
    assert (line.given, line.applied, line.duplicate, line.invalid) == (PLAYS, PLAYS - DUPLICATES, DUPLICATES, 0)
    assert river.rows(DEAD_LETTERS) == []
    archived = sum(pq.read_metadata(path).num_rows for path in river.settings.archive.rglob("*.parquet"))
    assert archived == PLAYS - DUPLICATES


def test_the_features_of_every_player_equal_the_slow_reference(river: River, histories: dict[str, list[Observed]]) -> None:
    case, reader, table = river.case, StateReader(river.case), open_table(FEATURES, river.settings)
    states = dict(table.items())
    table.close()
    assert set(states) == set(histories)
    assert len(states) == PLAYERS
    got, wanted = np.empty((PLAYERS, len(case.features.names))), np.empty((PLAYERS, len(case.features.names)))
    for place, (player, history) in enumerate(histories.items()):
        applied, late = split_late(case.features.lateness, history)
        assert late == []
        vector = reader.vector(states[player])
        assert vector is not None
        got[place], wanted[place] = vector, feature_vector(case.features, applied, applied[-1].at)
    exact = [place for place, name in enumerate(case.features.names) if "mean" not in name and "var" not in name]
    np.testing.assert_array_equal(got[:, exact], wanted[:, exact])
    np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9, equal_nan=True)


def test_the_labels_are_those_of_the_file(river: River, histories: dict[str, list[Observed]]) -> None:
    day, week = timedelta(hours=24), timedelta(days=7)
    ends = sorted((history[-1].at for history in histories.values()), reverse=True)
    until = ends[math.ceil(PLAYERS / 1_000) - 1]  # one in a thousand clocks may run ahead
    wanted = {}
    for player, history in histories.items():
        end = history[0].at + day
        if end + week <= until:
            wanted[player] = int(not any(end <= each.at < end + week for each in history))
    data = build_training_set(read_archive(river.settings.archive, river.case), river.case, None)
    assert dict(zip(data.keys, data.label.tolist(), strict=True)) == wanted
    assert data.unmatured == PLAYERS - len(wanted)


def test_a_model_of_the_first_day_predicts_who_leaves_and_is_served(river: River) -> None:
    trained = river.job("training", "fit", progress=False)
    told = trained.outputs
    assert told["auc"] >= 0.76
    assert 0.74 < told["auc_low"] < told["auc"] < told["auc_high"] < 0.79
    assert told["average_precision_stayers"] >= 0.42  # of those who come back, an eighth of all
    assert told["calibration_error"] < 0.015
    assert told["auc"] > told["auc_recency"] + 0.01
    groups = trained.frames["slices"].set_index(["slice", "value"])
    assert set(groups.index.get_level_values("slice")) == {"play_count_24h", "anchor_weekday"}
    assert groups["customers"].groupby("slice").sum().nunique() == 1  # each divides all
    once = groups.loc["play_count_24h", "low"]  # who played once has shown little, and the model says so
    assert (once["worse"], once["auc"] < 0.65) == ("yes", True)
    assert any(line.startswith("mind: Worse for play_count_24h = low: AUC 0.5") for line in trained.said)
    with river.door("serving", river.home / "models" / "churn-casual-game") as door:
        door.pump()
        answer = json.loads(door.post({"inputs": [{"user_id": "1"}]}, "/v2/models/churn/infer").body)
    assert 0 < answer["outputs"][0] < 1
    assert sum(record.rows for record in river.records(INFERENCE)) == PLAYS - DUPLICATES
    assert_conserved(river)


@pytest.mark.slow
def test_an_hour_tells_less_than_a_day_and_more_than_nothing(river: River) -> None:
    told = river.job("training", "fit", hours=1).outputs
    assert told["auc"] >= 0.675
    assert told["auc_low"] > 0.66
    assert told["calibration_error"] < 0.025


@pytest.mark.slow
def test_a_search_for_parameters_keeps_what_was_reached(river: River) -> None:
    pytest.importorskip("optuna", reason="the extra `search` is not installed")
    job = river.job("training", "fit", trials=12, progress=False)
    assert job.outputs["auc"] >= 0.76
    assert sum(line.startswith("trial ") for line in job.said) == 12

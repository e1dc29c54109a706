"""Training: a set that was true at the time, equal to a brute-force one, and a model that serving takes."""

import json
import random
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from churnstream.errors import InvalidSetting, LeakFound, NotEnoughData
from churnstream.features.reference import Observed, feature_vector, split_late
from churnstream.graph.engine import StateReader
from churnstream.models.artifact import FILES, load_artifact
from churnstream.models.canary import watch
from churnstream.models.dataset import TrainingSet, build_training_set, read_archive
from churnstream.models.describing import holdout_digest
from churnstream.models.joins import joined_today, with_joins
from churnstream.models.manifest import CARD_FILE, MANIFEST_FILE, MODEL_FILE, digest, read_manifest
from churnstream.models.resampling import auc
from churnstream.serving.scoring import load_folder
from churnstream.stages.enrich import decode_number
from churnstream.topology import ENRICHMENT, FEATURES, INCOMING
from churnstream.usecases.case import StatedLabel
from churnstream.wiring import model_keys, open_joins, open_registry, open_table
from tests.doors import load_function, take
from tests.functions.river import Job, River

HANDLER, ARCHIVE = "incoming-event-handler", "stream-to-parquet"


def fit(river: River, **params: Any) -> Job:
    return river.job("training", "fit", progress=False, **params)


def training_set(river: River) -> TrainingSet:
    lookup = open_table(ENRICHMENT, river.settings)
    return build_training_set(read_archive(river.settings.archive, river.case), river.case, lookup)


def wanted_set(river: River) -> dict[str, tuple[tuple[float, ...], int, datetime]]:
    """The same by brute force: every customer's whole history, the slow reference, and the label's own words."""
    case, rows = river.case, river.rows(INCOMING)
    lookup = open_table(ENRICHMENT, river.settings)
    indices = {key: decode_number(value) for key, value in lookup.items()}
    numbers = {each.field for each in case.features.features if each.field is not None} - {"socioeconomic_idx"}
    histories: dict[str, list[Observed]] = {}
    stated: dict[str, int] = {}
    for row in rows:
        values = {name: float(row[name]) for name in numbers if row[name] is not None}
        if row["event_type"] == "new_registration":
            values["socioeconomic_idx"] = indices.get(row["postcode"], 0.5)
        histories.setdefault(row["user_id"], []).append(Observed(row["event_type"], row["event_time"], values))
        if row.get("label") is not None:
            stated[row["user_id"]] = row["label"]
    applied = {user: split_late(case.features.lateness, events)[0] for user, events in histories.items()}
    newest = sorted((max(each.at for each in events) for events in applied.values() if events), reverse=True)
    until = newest[2]  # two clocks that run ahead move nothing
    found: dict[str, tuple[tuple[float, ...], int, datetime]] = {}
    for user, events in applied.items():
        starts = [each.at for each in events if each.event == case.features.anchor]
        if not starts:
            continue
        decision = min(starts) + case.decision
        before = [each for each in events if each.at < decision]
        vector = feature_vector(case.features, before, decision)
        if isinstance(case.label, StatedLabel):
            label, known = stated.get(user), min(starts) + case.label.known_after
        else:
            end = decision + case.label.span
            label, known = int(not any(decision <= each.at < end and each.event == case.label.event for each in events)), end
        if vector is not None and label is not None and known <= until:
            found[user] = vector, label, min(starts)
    return found


def assert_brute_force(river: River) -> TrainingSet:
    got, wanted = training_set(river), wanted_set(river)
    assert list(got.features.columns) == list(river.case.features.names)
    assert sorted(got.keys) == sorted(wanted)
    assert list(got.anchor) == sorted(got.anchor)
    for place, user in enumerate(got.keys):
        vector, label, anchor = wanted[user]
        np.testing.assert_allclose(got.features.iloc[place].to_numpy(), np.array(vector), rtol=1e-9, atol=1e-9, equal_nan=True)
        assert (got.label[place], got.anchor[place]) == (label, anchor)
    return got


@pytest.fixture(scope="module")
def day(tmp_path_factory: pytest.TempPathFactory) -> River:
    """300 simulated customers in the archive, a few of their events late or twice; tests only read it."""
    river = River(tmp_path_factory.mktemp("day"), "first_day")
    river.job("enrichment-table", "build")
    assert river.case.simulate is not None
    rng = random.Random(3)
    arrivals = []
    for event in river.case.simulate(3, 300, 9_000):
        delay = timedelta(hours=rng.uniform(0.1, 4)) if rng.random() < 0.03 else timedelta(0)
        arrivals += [(event["event_time"] + delay, event)] * (2 if rng.random() < 0.02 else 1)
    river.send([event for _, event in sorted(arrivals, key=lambda arrival: arrival[0])])
    river.flow(HANDLER, ARCHIVE)
    return river


def test_the_training_set_is_what_brute_force_finds_for_a_stated_label(day: River) -> None:
    found = assert_brute_force(day)
    assert 100 < len(found) < 300
    assert found.unmatured > 0
    assert 0.6 < found.label.mean() < 0.8


def test_the_training_set_is_what_brute_force_finds_for_silence(tmp_path: Path) -> None:
    # Players come for 25 days; who is silent in the week from the end of their first day has churned.
    river, rng = River(tmp_path, "casual_game"), random.Random(4)
    start = datetime.fromisoformat("2015-01-13T00:00:00+00:00")
    plays = []
    for player in range(120):
        at = start + timedelta(hours=rng.uniform(0, 25 * 24))
        for _ in range(rng.randint(1, 25)):
            plays.append((at, player))
            at += timedelta(hours=rng.expovariate(1 / (1 if rng.random() < 0.8 else 60)))
    plays = [(at, player) for at, player in plays if at < start + timedelta(days=26)]
    edges = [(start + each, 1_000) for each in (timedelta(0), timedelta(hours=24) - timedelta(microseconds=1))]
    edges += [(start, 1_001), (start + timedelta(hours=24), 1_001), (start, 1_002), (start + timedelta(days=8), 1_002)]
    sent = [
        {"user_id": str(player), "event_type": "play", "event_time": at, "score": round(rng.uniform(0, 500), 2)}
        for at, player in sorted(plays + edges)
    ]
    river.send(sent)
    river.flow(HANDLER, ARCHIVE)
    found = assert_brute_force(river)
    labels = dict(zip(found.keys, found.label.tolist(), strict=True))
    # only in the first day; again at its very end, which is after it; not before the week was over
    assert (labels["1000"], labels["1001"], labels["1002"]) == (1, 0, 1)
    assert found.unmatured > 0


def test_the_label_is_never_among_the_features(day: River) -> None:
    found = training_set(day)
    assert "label" not in found.features.columns
    assert all(not np.array_equal(found.features[name].fillna(-1), found.label) for name in found.features)


def test_nothing_after_the_decision_changes_the_training_features(tmp_path: Path, day: River) -> None:
    river = River(tmp_path, "first_day")
    river.job("enrichment-table", "build")
    before = training_set(day)
    ends = {user: anchor + timedelta(hours=24) for user, anchor in zip(before.keys, before.anchor, strict=True)}
    sent, changed = [], 0
    for row in day.rows(INCOMING):
        event = {name: value for name, value in row.items() if value is not None}
        if row["event_type"] == "new_bet" and row["user_id"] in ends and row["event_time"] >= ends[row["user_id"]]:
            event["bet_amount"] = 999_999.0
            changed += 1
        sent.append(event)
    assert changed > 50
    river.send(sent)
    river.flow(HANDLER, ARCHIVE)
    pd.testing.assert_frame_equal(training_set(river).features, before.features)


def in_the_stream(river: River) -> dict[str, float]:
    """customer -> what the features that the stream keeps say of the postcode."""
    reader, table = StateReader(river.case), open_table(FEATURES, river.settings)
    vectors = {user: reader.vector(state) for user, state in table.items()}
    table.close()
    return {user: vector[0] for user, vector in vectors.items() if vector is not None}


def test_a_lookup_table_that_changes_later_changes_nothing_that_was_joined_before(tmp_path: Path) -> None:
    river = River(tmp_path, "first_day")
    river.job("enrichment-table", "build")
    river.generate(customers=120, events=2_400)
    river.flow(HANDLER, ARCHIVE, "enrich-stream", "stream-to-features")
    told = in_the_stream(river)
    river.job("enrichment-table", "build", seed=2)
    archive = read_archive(river.settings.archive, river.case)
    lookup = open_table(ENRICHMENT, river.settings)

    today = build_training_set(archive, river.case, lookup)
    differ = [told[user] != value for user, value in zip(today.keys, today.features["socioeconomic_idx"], strict=True)]
    assert sum(differ) > 0.9 * len(differ)  # so it was, before enrich-stream wrote down what it joins

    joined = with_joins(archive, river.case, open_joins(river.settings))
    assert joined_today(joined, river.case) == 0
    data = build_training_set(joined, river.case, lookup)
    assert list(data.features["socioeconomic_idx"]) == [told[user] for user in data.keys]
    watch(data, joined, river.case, lookup)
    pd.testing.assert_frame_equal(
        data.features.drop(columns="socioeconomic_idx"), today.features.drop(columns="socioeconomic_idx")
    )


def test_an_event_that_was_not_joined_yet_gets_what_the_table_says_today(tmp_path: Path) -> None:
    river = River(tmp_path, "first_day")
    river.job("enrichment-table", "build")
    assert river.case.simulate is not None
    events = list(river.case.simulate(5, 200, 4_000))
    early = {event["user_id"] for event in events[: len(events) // 2]}
    for part in (early, {event["user_id"] for event in events} - early):
        river.send([event for event in events if event["user_id"] in part])
        river.flow(HANDLER, ARCHIVE)
        if part is early:
            river.flow("enrich-stream", "stream-to-features")
    told = in_the_stream(river)
    river.job("enrichment-table", "build", seed=2)
    archive = with_joins(read_archive(river.settings.archive, river.case), river.case, open_joins(river.settings))
    lookup = open_table(ENRICHMENT, river.settings)
    assert joined_today(archive, river.case) == 200 - len(early) > 20
    data = build_training_set(archive, river.case, lookup)
    postcodes = {event["user_id"]: event["postcode"] for event in events if "postcode" in event}
    for user, value in zip(data.keys, data.features["socioeconomic_idx"], strict=True):
        now = lookup.get(postcodes[user])
        assert value == (told[user] if user in early else decode_number(now) if now else 0.5)
    job = fit(river)
    assert f"{200 - len(early)} events that enrich-stream has not joined get what the lookup table says today" in job.said


def test_the_same_archive_gives_the_same_digest_and_another_another(day: River, tmp_path: Path) -> None:
    other = River(tmp_path, "first_day")
    other.job("enrichment-table", "build")
    other.generate(customers=50, events=1_000)
    other.flow(HANDLER, ARCHIVE)
    assert training_set(day).digest == training_set(day).digest
    assert training_set(other).digest != training_set(day).digest


def test_a_model_is_trained_judged_and_registered_with_its_card(day: River, tmp_path: Path) -> None:
    job = fit(day, export=str(tmp_path / "export"))
    folder = day.home / "models" / "churn-first-day"
    manifest = read_manifest(folder / MANIFEST_FILE)
    text = (folder / MODEL_FILE).read_text()
    assert (manifest.case, manifest.features) == ("first_day", day.case.features.names)
    assert manifest.model_sha256 == digest(text)
    assert manifest.data_digest == training_set(day).digest
    assert manifest.metrics["auc"] == job.outputs["auc"] > 0.75
    assert job.outputs["auc_low"] <= job.outputs["auc"] <= job.outputs["auc_high"]
    assert job.outputs["customers"] + job.outputs["unmatured"] <= 300
    assert "churn-first-day" in job.logged
    assert len(job.logged) > 1  # plots
    card = (folder / CARD_FILE).read_text()
    assert manifest.note in card
    assert all(f"`{name}`" in card for name in manifest.features)
    for name in FILES:
        assert (tmp_path / "export" / name).read_bytes() == (folder / name).read_bytes()
    frame = job.frames["training-set"]
    assert set(frame.columns) == {*manifest.features, "label"}  # nobody's id: MLRun keeps it when the events are gone


def test_what_was_trained_is_signed_by_the_home_and_waits_in_its_registry(day: River) -> None:
    fit(day, seed=2)
    with day.environment():
        keys, registry = model_keys(day.settings), open_registry(day.settings)
    newest = registry.versions()[0]
    artifact = load_artifact(registry.artifact(newest.version), day.case.features, keys)
    assert artifact.signer == keys.trusted[-1]
    assert artifact.manifest == newest
    rows = registry.holdout(newest.version)
    assert holdout_digest(rows) == newest.holdout_digest
    assert len(rows) == newest.metrics["holdout_customers"]
    assert (rows["anchor"] > pd.Timestamp(newest.trained_until)).all()
    assert {"slice:country", "slice:campaign", "slice:socioeconomic_idx", *newest.features} < set(rows.columns)
    served = artifact.booster.predict(rows[list(newest.features)].to_numpy(), num_threads=1)
    assert auc(rows["label"].to_numpy(), np.asarray(served)) == pytest.approx(newest.metrics["auc"], abs=1e-6)


def test_the_run_says_how_it_goes_and_what_to_keep_in_mind(day: River) -> None:
    job = fit(day)
    assert any("learning from" in line for line in job.said)
    assert f"mind: {day.case.note}" in job.said  # the label of simulated events leaks
    assert {"roc", "precision-recall", "calibration", "lift", "importance"} <= set(job.logged)
    assert {"auc_logistic_regression", "auc_recency", "not_yet_known", "data_digest", "lift_at_5_percent"} <= set(job.outputs)
    assert set(job.frames["slices"]["slice"]) == {"country", "campaign", "socioeconomic_idx"}
    assert list(job.frames["baselines"]["baseline"]) == ["logistic regression", "recency"]


def test_a_column_that_looks_into_the_future_fails_the_run_with_its_name(day: River, monkeypatch: pytest.MonkeyPatch) -> None:
    function = load_function("training")

    def careless(archive: Any, case: Any, lookup: Any, decisions: Any) -> TrainingSet:
        data = build_training_set(archive, case, lookup, decisions)
        events = archive.column("user_id").to_pandas().value_counts()
        return replace(data, features=data.features.assign(events_in_all=data.keys.map(events).astype(float)))

    monkeypatch.setattr(function, "build_training_set", careless)
    job = Job(day.home / "models")
    with day.environment(), pytest.raises(LeakFound, match="the column events_in_all looks into the future"):
        function.fit(job)
    assert job.logged == []


def test_customers_can_be_judged_earlier_than_the_case_says(day: River) -> None:
    job = fit(day, hours=1, seed=3)
    with day.environment():
        newest = open_registry(day.settings).versions()[0]
    assert newest.decision_s == 3_600
    assert job.outputs["auc"] < fit(day, seed=3).outputs["auc"]


def test_a_threshold_can_be_a_share_of_the_customers(tmp_path: Path) -> None:
    river = River(tmp_path, "first_day")
    river.job("enrichment-table", "build")
    river.generate(customers=900, events=12_000)
    river.flow(HANDLER, ARCHIVE)
    fit(river, flagged=0.1)
    with river.environment():
        newest = open_registry(river.settings).versions()[0]
    assert newest.threshold_policy == "the highest 10.0% of the customers before the hold-out"
    assert newest.threshold > 0.7
    with pytest.raises(InvalidSetting, match=r"the share of flagged customers is 1.5; it lies between 0 and 1"):
        fit(river, flagged=1.5)


def test_the_trained_model_is_served(day: River) -> None:
    folder = day.home / "models" / "churn-first-day"
    if not folder.exists():
        fit(day)
    scorer = load_folder(folder, day.case.features, model_keys(day.settings))
    day.flow("enrich-stream", "stream-to-features")
    with day.door("serving", folder) as door:
        answer = json.loads(door.post({"inputs": [[0.5] * 13]}, "/v2/models/churn/infer").body)
    assert answer["outputs"] == scorer.predict(np.full((1, 13), 0.5)).tolist()
    assert answer["model_version"] == scorer.manifest.version


def test_an_empty_archive_is_a_sentence(river: River) -> None:
    with pytest.raises(
        NotEnoughData, match=r"there are no Parquet files in .*; deploy stream-to-parquet and let events flow first"
    ):
        fit(river)


def test_an_archive_that_ends_before_any_label_matures_is_a_sentence(river: River) -> None:
    assert river.case.simulate is not None
    river.send(take(river.case.simulate(1, 1, 60), 30))
    river.flow(HANDLER, ARCHIVE)
    with pytest.raises(NotEnoughData, match=r"no customer's label is known by .*: the archive ends before any label matures"):
        fit(river)


def test_too_few_customers_are_a_sentence(river: River) -> None:
    river.generate(customers=12, events=600)
    river.flow(HANDLER, ARCHIVE)
    with pytest.raises(
        NotEnoughData, match=r"part has . customers who churned and . who stayed; it takes 5 of each: let more events flow"
    ):
        fit(river)

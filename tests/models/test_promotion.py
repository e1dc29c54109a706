"""A challenger takes over when it is better and nowhere worse; who serves sees one champion at any moment."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from churnstream.errors import ChurnstreamError, InvalidModel, InvalidSetting, NotPromoted, UnknownModel
from churnstream.features.definitions import Attribute, FeatureTable
from churnstream.models.artifact import load_artifact, write_artifact
from churnstream.models.dataset import TrainingSet
from churnstream.models.describing import CUSTOMER, describe, holdout_digest, holdout_rows
from churnstream.models.keys import Keys, new_private_key, public_key
from churnstream.models.manifest import MODEL_FILE
from churnstream.models.promotion import PROMOTED, compare, judge, predecessor, promote, roll_back
from churnstream.models.registry import CHAMPION_FILE, HOLDOUT_FILE, Registry
from churnstream.models.training import train
from churnstream.models.withdrawals import Withdrawals
from churnstream.usecases import load
from churnstream.usecases.case import EventType, Field, Kind, SilenceLabel, UseCase
from tests.models.people import customers, visits

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PRIVATE = new_private_key()
KEYS = Keys((public_key(PRIVATE),), PRIVATE)
NAMES = ("signal", "noise")
CASE = UseCase(
    name="made_by_hand",
    title="Made by hand",
    events=(EventType("seen", (*(Field(name, Kind.NUMBER) for name in NAMES), Field("country", Kind.TEXT))),),
    features=FeatureTable(anchor="seen", features=tuple(Attribute(name, "seen", name, "points", name) for name in NAMES)),
    label=SilenceLabel("seen", timedelta(days=7)),
    serving_events=("seen",),
    decision=timedelta(days=1),
    example={"user_id": "1", "event_type": "seen", "event_time": "2026-01-01T00:00:00Z"},
    slices=("country",),
)


def add(registry: Registry, data: TrainingSet, folder: Path, seed: int = 1) -> str:
    """Train on ``data``, sign, and add; returns the version."""
    trained = train(data, seed)
    artifact = folder / f"model{len(list(folder.iterdir()))}"
    write_artifact(artifact, trained.text, describe(CASE, data, trained, seed), "# A card\n", PRIVATE)
    return registry.add(artifact, holdout_rows(data, trained))


def blurred(count: int, by: float, where: str | None = None) -> TrainingSet:
    """The same customers, on whose older part the signal is blurred: who learns from them learns less."""
    data = customers(count)
    rng = np.random.default_rng(9)
    older = np.arange(count) < count * 0.7
    if where is not None:
        older &= (data.slices["country"] == where).to_numpy()
    data.features.loc[older, "signal"] = (1 - by) * data.features.loc[older, "signal"] + by * rng.normal(
        0.5, 0.9, int(older.sum())
    )
    return data


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "made"
    folder.mkdir()
    return folder


def promoted(registry: Registry, version: str, force: str | None = None) -> str:
    verdict, _ = promote(registry, version, CASE.features, KEYS, NOW, force)
    return verdict.sentence()


def test_the_first_model_has_nobody_to_beat(registry: Registry, made: Path) -> None:
    assert registry.champion() is None
    version = add(registry, customers(1_000), made)
    assert promoted(registry, version) == f"{version} is the first champion: there was none to beat"
    champion = registry.champion()
    assert champion is not None
    assert (champion.version, champion.since, champion.folder) == (version, NOW, registry.artifact(version))


def test_a_better_challenger_takes_over_and_the_figures_are_kept(registry: Registry, made: Path) -> None:
    worse = add(registry, blurred(1_500, 1.0), made)
    promoted(registry, worse)
    better = add(registry, customers(1_500), made)
    sentence = promoted(registry, better)
    assert sentence.startswith(f"on 450 rows of the hold-out the AUC of {better} less that of {worse} is +0.")
    step = registry.history()[-1]
    assert (step.version, step.before, step.deed, step.reason, step.forced) == (better, worse, PROMOTED, sentence, False)


def test_one_that_is_no_better_than_noise_does_not(registry: Registry, made: Path) -> None:
    champion = add(registry, customers(1_500), made, seed=1)
    promoted(registry, champion)
    again = add(registry, customers(1_500), made, seed=2)
    with pytest.raises(NotPromoted, match=f"{again} does not replace {champion}: it is not better by more than noise"):
        promoted(registry, again)
    kept = registry.champion()
    assert kept is not None
    assert kept.version == champion


def test_chance_alone_promotes_no_more_often_than_it_may(registry: Registry, made: Path) -> None:
    """An A/A test: the same data, another seed; one in forty may seem better by accident."""
    versions = [add(registry, customers(400, seed=place), made, seed) for place in range(6) for seed in (1, 2)]
    accidents = 0
    for one, two in zip(versions[::2], versions[1::2], strict=True):
        registry.set_champion(one, NOW, PROMOTED, "to be compared")
        accidents += compare(registry, two, CASE.features, KEYS).refusal == ""
    assert accidents <= 1


def test_one_that_is_better_on_all_and_worse_on_a_slice_does_not(registry: Registry, made: Path) -> None:
    # In ES the signal says the opposite of what it says elsewhere. The champion knows ES alone, the challenger all but ES.
    data = customers(4_000)
    slices = pd.Series(np.where(np.arange(4_000) % 4 == 0, "ES", "DE"))
    there = (slices == "ES").to_numpy()
    data.features["signal"] = np.where(there, -data.features["signal"], data.features["signal"])
    data.slices["country"] = slices
    upside = customers(4_000)
    upside.features["signal"] = -upside.features["signal"]
    promoted(registry, add(registry, upside, made))
    challenger = add(registry, data, made)
    verdict = compare(registry, challenger, CASE.features, KEYS)
    assert verdict.low > 0
    assert "worse for country = ES: the AUC falls by" in verdict.refusal
    with pytest.raises(NotPromoted, match="worse for country = ES"):
        promoted(registry, challenger)


def test_a_candidate_that_was_sent_away_is_promoted_only_when_it_is_let_back_in(registry: Registry, made: Path) -> None:
    promoted(registry, add(registry, blurred(1_500, 1.0), made))
    better = add(registry, customers(1_500), made)
    withdrawals = Withdrawals(registry.folder)
    withdrawals.withdraw(better, "canary", "it fails more often than the champion", NOW)
    with pytest.raises(NotPromoted, match="it fails more often than the champion; `churnstream models readmit"):
        promoted(registry, better)
    withdrawals.readmit(better, "mended", NOW)
    assert f"the AUC of {better} less" in promoted(registry, better)


def test_force_needs_a_reason_which_is_kept(registry: Registry, made: Path) -> None:
    promoted(registry, add(registry, customers(1_500), made, seed=1))
    again = add(registry, customers(1_500), made, seed=2)
    with pytest.raises(InvalidSetting, match="a promotion by force needs a reason"):
        promoted(registry, again, force=" ")
    promoted(registry, again, force="the law asks for it")
    step = registry.history()[-1]
    assert (step.version, step.reason, step.forced) == (again, "the law asks for it", True)


def test_the_champion_is_judged_on_no_customer_that_it_has_learnt_from(registry: Registry, made: Path) -> None:
    promoted(registry, add(registry, customers(3_000), made))  # it has learnt from what the next one is judged on
    challenger = add(registry, customers(1_000), made)
    with pytest.raises(NotPromoted, match=r"only 0 rows of its hold-out are newer than what .* has learnt from"):
        promoted(registry, challenger)


def test_force_does_not_load_what_was_tampered_with(registry: Registry, made: Path) -> None:
    version = add(registry, customers(1_000), made)
    path = registry.artifact(version) / MODEL_FILE
    path.write_text(path.read_text().replace("leaf_value=", "leaf_value=0", 1))
    with pytest.raises(InvalidModel, match="is not as it was signed"):
        promoted(registry, version, force="I want it")
    assert registry.champion() is None


def test_a_holdout_that_is_not_the_models_own_is_refused(registry: Registry, made: Path) -> None:
    promoted(registry, add(registry, blurred(1_500, 1.0), made))
    better = add(registry, customers(1_500), made)
    rows = registry.holdout(better)
    assert holdout_digest(rows) == holdout_digest(rows.copy())
    rows.assign(label=1 - rows["label"]).to_parquet(registry.artifact(better).parent / HOLDOUT_FILE)
    with pytest.raises(InvalidModel, match="is not the one that it was judged on; train it again"):
        promoted(registry, better)


def test_the_rows_that_are_kept_say_which_are_one_customers_and_not_whose(registry: Registry, made: Path) -> None:
    data = visits(customers(600), times=3)
    rows = registry.holdout(add(registry, data, made))
    kept = pd.Series(data.keys[-len(rows) :].to_numpy())
    assert len(rows) == 540
    assert pd.crosstab(kept, rows[CUSTOMER]).gt(0).to_numpy().sum() == kept.nunique() == rows[CUSTOMER].nunique() == 180
    for name in rows.select_dtypes(exclude="number"):
        assert not set(rows[name].astype(str)) & set(data.keys)


def test_rows_that_an_older_version_kept_with_ids_are_judged_alike(registry: Registry, made: Path) -> None:
    champion = train(blurred(1_500, 1.0), 1)
    data = customers(1_500)
    better = train(data, 1)
    models = []
    for place, (trained, source) in enumerate(((champion, blurred(1_500, 1.0)), (better, data))):
        write_artifact(made / f"{place}", trained.text, describe(CASE, source, trained, 1), "# A card\n", PRIVATE)
        models.append(load_artifact(made / f"{place}", CASE.features, KEYS))
    rows = holdout_rows(data, better)
    older = rows.rename(columns={CUSTOMER: "user_id"}).assign(user_id=data.keys.iloc[better.parts.holdout].to_numpy())
    assert judge(models[1], models[0], older) == judge(models[1], models[0], rows)


def test_a_model_whose_rows_were_removed_is_promoted_by_force_only(registry: Registry, made: Path) -> None:
    promoted(registry, add(registry, blurred(1_500, 1.0), made))
    better = add(registry, customers(1_500), made)
    (registry.artifact(better).parent / HOLDOUT_FILE).unlink()
    with pytest.raises(NotPromoted, match=f"it cannot be judged: the rows that {better} was judged on are not kept any more"):
        promoted(registry, better)
    promoted(registry, better, force="its rows named customers")
    assert registry.history()[-1].version == better


def test_rolling_back_goes_back_step_by_step(registry: Registry, made: Path) -> None:
    one, two, three = (add(registry, customers(500, seed=seed), made) for seed in (1, 2, 3))
    for version in (one, two, three):
        promoted(registry, version, force="in turn")
    for wanted in (two, one):
        assert roll_back(registry, CASE.features, KEYS, NOW, "it errs").version == wanted
        champion = registry.champion()
        assert champion is not None
        assert champion.version == wanted
    with pytest.raises(UnknownModel, match="there is no champion to roll back to"):
        roll_back(registry, CASE.features, KEYS, NOW, "it errs")
    promoted(registry, three, force="again")
    assert predecessor(registry) == one


def test_adding_a_model_twice_changes_nothing(registry: Registry, made: Path) -> None:
    version = add(registry, customers(500), made)
    assert add(registry, customers(500), made) == version
    assert [each.version for each in registry.versions()] == [version]


def test_a_model_is_found_by_how_its_version_begins(registry: Registry, made: Path) -> None:
    with pytest.raises(UnknownModel, match="no model 'abc' is in the registry: it is empty; train one"):
        registry.resolve("abc")
    one, two = (add(registry, customers(500, seed=seed), made) for seed in (1, 2))
    assert registry.resolve(one[:6]) == one
    with pytest.raises(UnknownModel, match=f"no model 'xyz' is in the registry: .*{two}"):
        registry.resolve("xyz")
    with pytest.raises(UnknownModel, match="is no version of a model"):
        registry.artifact("../../etc")


def test_a_pointer_that_cannot_be_read_is_a_sentence(registry: Registry, made: Path) -> None:
    promoted(registry, add(registry, customers(500), made))
    (registry.folder / CHAMPION_FILE).write_bytes(b"\xff{")
    with pytest.raises(ChurnstreamError, match=r"names no champion: .*; promote one again"):
        registry.champion()


def test_who_reads_while_champions_change_sees_one_or_the_other(registry: Registry, made: Path) -> None:
    versions = [add(registry, customers(500, seed=seed), made) for seed in (1, 2)]
    registry.set_champion(versions[0], NOW, PROMOTED, "first")
    done, wrong, seen = threading.Event(), [], set()

    def watch() -> None:
        while not done.is_set():
            champion = registry.champion()
            if champion is None or champion.version not in versions:
                wrong.append(champion)
            else:
                seen.add(champion.version)

    readers = [threading.Thread(target=watch) for _ in range(2)]
    for each in readers:
        each.start()
    for turn in range(100):
        registry.set_champion(versions[turn % 2], NOW, PROMOTED, "in turn")
    done.set()
    for each in readers:
        each.join()
    assert wrong == []
    assert seen == set(versions)


def test_the_model_that_comes_with_the_project_has_the_cases_slices() -> None:
    assert load("first_day").slices == ("country", "campaign", "socioeconomic_idx")

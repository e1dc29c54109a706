"""Training: learnt from older customers, stopped and calibrated on newer ones, judged on the newest, whom it has not seen."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from churnstream.models.baselines import baselines
from churnstream.models.calibration import fit_calibration, fold
from churnstream.models.dataset import TrainingSet
from churnstream.models.manifest import Calibration
from churnstream.models.measures import Labels, Probabilities, measure
from churnstream.models.resampling import auc
from churnstream.models.slices import judge_slices
from churnstream.models.split import HOLDOUT, Parts, split

ROUNDS = 600
PATIENCE = 50
SAID_EVERY = 50  # rounds
TOO_GOOD = 0.95
PARAMETERS: Mapping[str, Any] = {
    "objective": "binary",
    "metric": "binary_logloss",
    "learning_rate": 0.04,
    "num_leaves": 15,
    "min_data_in_leaf": 30,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbosity": -1,
}

Say = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """A model and what it was judged by.

    ``text`` is LightGBM's own, calibrated. ``metrics`` hold for the hold-out, whose ``label`` and ``probability`` stand beside
    them, in the order of ``parts.holdout``; ``earlier`` are the probabilities of the customers that it was calibrated on.
    ``baselines`` has a row for each simpler way, ``slices`` one for each group, ``importance`` the gain of each feature, the
    largest first. ``too_good`` names the features that tell the label nearly alone.
    """

    text: str
    metrics: dict[str, float]
    parts: Parts
    label: Labels
    probability: Probabilities
    earlier: Probabilities
    calibration: Calibration
    parameters: dict[str, Any]
    trained_until: datetime
    importance: pd.Series
    slices: pd.DataFrame
    baselines: pd.DataFrame
    too_good: tuple[str, ...]


def train(
    data: TrainingSet,
    seed: int,
    holdout: float = HOLDOUT,
    straddle: bool = False,
    parameters: Mapping[str, Any] | None = None,
    say: Say = lambda sentence: None,
) -> Trained:
    """Fit, stop early, calibrate and judge, each on newer customers than the step before; ``split`` says who is where.

    ``parameters`` stand above ``PARAMETERS``; ``say`` is told how it goes. Raises NotEnoughData when a part lacks a class.
    """
    parts = split(data, holdout, straddle)
    chosen = settle_parameters(parameters, len(parts.training), seed)
    say(
        f"learning from {len(parts.training):,} rows, stopping by {len(parts.validation):,}, calibrating on"
        f" {len(parts.calibration):,}, judging on the newest {len(parts.holdout):,}"
    )
    booster = fit(data, parts, chosen, say)
    raw = booster.model_to_string(num_iteration=booster.best_iteration)
    matrix = data.features.to_numpy()
    margin = lgb.Booster(model_str=raw).predict(matrix[parts.calibration], raw_score=True, num_threads=1)
    calibration = fit_calibration(np.asarray(margin), data.label[parts.calibration])
    text = fold(raw, calibration)
    served = lgb.Booster(model_str=text)  # judged as it will be served: from its text
    probability = predict(served, matrix[parts.holdout])
    label = data.label[parts.holdout]
    importance = pd.Series(booster.feature_importance("gain"), data.features.columns).sort_values(ascending=False)
    return Trained(
        text=text,
        metrics=measure(label, probability, seed),
        parts=parts,
        label=label,
        probability=probability,
        earlier=predict(served, matrix[parts.calibration]),
        calibration=calibration,
        parameters=chosen,
        trained_until=data.anchor.iloc[parts.learnt].max().to_pydatetime(),
        importance=importance,
        slices=judge_slices(data.slices.iloc[parts.holdout], label, probability, seed),
        baselines=baselines(data, parts, seed),
        too_good=too_good(data, parts),
    )


def settle_parameters(given: Mapping[str, Any] | None, rows: int, seed: int) -> dict[str, Any]:
    """LightGBM's parameters: the default ones, a leaf that a small set can fill, what was ``given`` above them, and the seed."""
    return {**PARAMETERS, "min_data_in_leaf": max(5, min(30, rows // 50)), **(given or {}), "seed": seed}


def fit(data: TrainingSet, parts: Parts, parameters: Mapping[str, Any], say: Say = lambda sentence: None) -> lgb.Booster:
    """Learn from the training part, as many trees as the validation part bears."""
    older = lgb.Dataset(data.features.iloc[parts.training], data.label[parts.training], free_raw_data=False)
    newer = older.create_valid(data.features.iloc[parts.validation], data.label[parts.validation])

    def progress(told: Any) -> None:
        if (told.iteration + 1) % SAID_EVERY == 0:
            say(f"{told.iteration + 1} trees, log loss of newer customers {told.evaluation_result_list[0][2]:.4f}")

    callbacks: list[Callable[..., Any]] = [lgb.early_stopping(PATIENCE, verbose=False), progress]
    booster = lgb.train(dict(parameters), older, ROUNDS, valid_sets=[newer], callbacks=callbacks)
    say(f"{booster.best_iteration} trees are kept")
    return booster


def predict(booster: lgb.Booster, matrix: NDArray[np.float64]) -> Probabilities:
    """(n, features) -> (n,) probabilities of churn; none for no rows."""
    return np.asarray(booster.predict(matrix, num_threads=1)) if len(matrix) else np.zeros(0)


def threshold_for(probability: Probabilities, share: float) -> float:
    """The probability from which the highest ``share`` of these customers lie."""
    return float(np.quantile(probability, 1 - share))


def too_good(data: TrainingSet, parts: Parts) -> tuple[str, ...]:
    """The features that alone rank the learnt customers with an AUC of 0.95 or more: a reason to ask where they come from."""
    label, found = data.label[parts.learnt], []
    for name in data.features.columns:
        values = data.features[name].to_numpy()[parts.learnt]
        ranked = auc(label, np.where(np.isnan(values), -np.inf, values))
        if max(ranked, 1 - ranked) >= TOO_GOOD:
            found.append(str(name))
    return tuple(found)

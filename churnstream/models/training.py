"""Training: a time split, early stopping on an earlier window, and figures measured on customers the model has not seen."""

from dataclasses import dataclass

import lightgbm as lgb
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss, roc_auc_score

from churnstream.errors import NotEnoughData
from churnstream.models.dataset import TrainingSet

Labels = NDArray[np.int8]  # 1 churned, 0 stayed
Probabilities = NDArray[np.float64]

HOLDOUT = 0.30  # the newest customers, by anchor
VALIDATION = 0.20  # of the rest, again the newest
ROUNDS = 400
PATIENCE = 50
RESAMPLES = 500
LEAST_A_CLASS = 5
PARAMETERS = {
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


@dataclass(frozen=True)
class Trained:
    """``text`` is LightGBM's own; ``metrics`` hold for the hold-out, whose labels and probabilities stand beside them."""

    text: str
    metrics: dict[str, float]
    label: Labels
    probability: Probabilities
    importance: pd.Series
    slices: pd.DataFrame


def train(data: TrainingSet, seed: int, holdout: float = HOLDOUT) -> Trained:
    """Fit on the older customers, judge on the newest ``holdout`` share; raises NotEnoughData when a part lacks a class.

    Customers are ordered by anchor, so that nothing of the hold-out is older than anything trained on.
    """
    cut = int(len(data) * (1 - holdout))
    fit = int(cut * (1 - VALIDATION))
    parts = {"training": slice(0, fit), "validation": slice(fit, cut), "hold-out": slice(cut, None)}
    for name, part in parts.items():
        counts = np.bincount(data.label[part], minlength=2)
        if counts.min() < LEAST_A_CLASS:
            raise NotEnoughData(
                f"the {name} part has {counts[1]} customers who churned and {counts[0]} who stayed;"
                f" it takes {LEAST_A_CLASS} of each: let more events flow before training"
            )
    parameters = PARAMETERS | {"seed": seed, "min_data_in_leaf": max(5, min(30, fit // 50))}
    older = lgb.Dataset(data.features[parts["training"]], data.label[parts["training"]], free_raw_data=False)
    newer = older.create_valid(data.features[parts["validation"]], data.label[parts["validation"]])
    booster = lgb.train(
        parameters,
        older,
        ROUNDS,
        valid_sets=[newer],
        callbacks=[lgb.early_stopping(PATIENCE, verbose=False), lgb.log_evaluation(0)],
    )
    text = booster.model_to_string(num_iteration=booster.best_iteration)
    label = data.label[parts["hold-out"]]
    # Judged as it will be served: from its text.
    probability = np.asarray(lgb.Booster(model_str=text).predict(data.features[parts["hold-out"]].to_numpy(), num_threads=1))
    importance = pd.Series(booster.feature_importance("gain"), data.features.columns).sort_values(ascending=False)
    slices = _by_slice(data.slices[parts["hold-out"]], label, probability)
    return Trained(text, measure(label, probability, seed), label, probability, importance, slices)


def measure(label: Labels, probability: Probabilities, seed: int) -> dict[str, float]:
    """Figures of a hold-out; ``auc_low`` and ``auc_high`` bound the middle 95 % of seeded bootstrap resamples."""
    low, high = np.quantile(_resampled_auc(label, probability, seed), [0.025, 0.975])
    figures = {
        "auc": roc_auc_score(label, probability),
        "auc_low": low,
        "auc_high": high,
        "average_precision": average_precision_score(label, probability),
        "average_precision_stayers": average_precision_score(1 - label, 1 - probability),
        "log_loss": log_loss(label, probability, labels=[0, 1]),
        "brier": brier_score_loss(label, probability),
        "lift_at_10_percent": _lift(label, probability, 0.10),
        "churn_rate": label.mean(),
        "holdout_customers": len(label),
    }
    return {name: round(float(value), 6) for name, value in figures.items()}


def _resampled_auc(label: Labels, probability: Probabilities, seed: int) -> list[float]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(RESAMPLES):
        chosen = rng.integers(0, len(label), len(label))
        if 0 < label[chosen].sum() < len(label):
            found.append(roc_auc_score(label[chosen], probability[chosen]))
    return found


def _lift(label: Labels, probability: Probabilities, share: float) -> float:
    """How many times more churners stand among the ``share`` with the highest scores than in all."""
    top = np.argsort(-probability, kind="stable")[: max(1, int(len(label) * share))]
    return float(label[top].mean() / label.mean())


def _by_slice(slices: pd.DataFrame, label: Labels, probability: Probabilities) -> pd.DataFrame:
    rows = []
    for name in slices.columns:
        for value, places in pd.Series(range(len(label))).groupby(slices[name].to_numpy()).groups.items():
            chosen = places.to_numpy()
            both = 0 < label[chosen].sum() < len(chosen)
            auc = roc_auc_score(label[chosen], probability[chosen]) if both else float("nan")
            rows.append({"slice": name, "value": value, "customers": len(chosen), "churn_rate": label[chosen].mean(), "auc": auc})
    return pd.DataFrame(rows, columns=["slice", "value", "customers", "churn_rate", "auc"])

"""The figures by which a model is judged, on customers that it has not seen."""

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, brier_score_loss, log_loss

from churnstream.models.resampling import auc, auc_interval

Labels = NDArray[np.int8]  # 1 churned, 0 stayed
Probabilities = NDArray[np.float64]

BINS = 10
DIGITS = 6


def measure(label: Labels, probability: Probabilities, seed: int) -> dict[str, float]:
    """Figures of a hold-out with both classes.

    ``auc_low`` and ``auc_high`` bound the middle 95 % of seeded bootstrap resamples; ``average_precision_stayers`` is that of
    finding those who come back; ``lift_at_5_percent`` says how many times more churners stand among the 5 % with the highest
    probabilities than in all; ``calibration_error`` is the mean distance of probability and observed share over ten equally
    filled bins.
    """
    low, high = auc_interval(label, probability, seed)
    figures = {
        "auc": auc(label, probability),
        "auc_low": low,
        "auc_high": high,
        "average_precision": average_precision_score(label, probability),
        "average_precision_stayers": average_precision_score(1 - label, 1 - probability),
        "log_loss": log_loss(label, probability, labels=[0, 1]),
        "brier": brier_score_loss(label, probability),
        "calibration_error": calibration_error(label, probability),
        "lift_at_5_percent": lift(label, probability, 0.05),
        "lift_at_10_percent": lift(label, probability, 0.10),
        "churn_rate": label.mean(),
        "holdout_customers": len(label),
    }
    return {name: round(float(value), DIGITS) for name, value in figures.items()}


def lift(label: Labels, probability: Probabilities, share: float) -> float:
    """How many times more churners stand among the ``share`` with the highest scores than in all."""
    top = np.argsort(-probability, kind="stable")[: max(1, int(len(label) * share))]
    return float(label[top].mean() / label.mean())


def lift_curve(label: Labels, probability: Probabilities) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(shares, lifts): the lift of the highest 1 %, 2 %, … 100 %."""
    shares = np.arange(1, 101) / 100
    return shares, np.array([lift(label, probability, share) for share in shares])


def reliability(label: Labels, probability: Probabilities) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """(predicted, observed, customers) of up to ten bins that hold equally many customers, in order of probability."""
    order = np.argsort(probability, kind="stable")
    bins = [each for each in np.array_split(order, BINS) if len(each)]
    predicted = np.array([probability[each].mean() for each in bins])
    observed = np.array([label[each].mean() for each in bins])
    return predicted, observed, np.array([len(each) for each in bins])


def calibration_error(label: Labels, probability: Probabilities) -> float:
    """The mean distance between what was predicted and what was observed, over the bins of ``reliability``."""
    predicted, observed, customers = reliability(label, probability)
    return float(np.abs(predicted - observed) @ customers / customers.sum())

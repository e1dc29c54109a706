"""Calibration: a probability of 0.8 should mean that eight in ten leave.

Two numbers, fitted on a window of customers that the model has not learnt from, turn its margin m into ``slope * m + intercept``
(Platt 1999, "Probabilistic outputs for support vector machines", with his targets, which keep the numbers finite where the
classes part cleanly). They are folded into the leaves: the model's text gives calibrated probabilities by itself, one path serves
them, and the contributions of the features add up to the calibrated margin. The order of customers stays what it was.
"""

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from churnstream.models.manifest import Calibration

LEAST_TO_CALIBRATE = 25  # below it the two numbers would be noise


def fit_calibration(margin: NDArray[np.float64], label: NDArray[np.int8]) -> Calibration:
    """The two numbers for these customers; none where there are too few, or where the model does not rank them at all."""
    churned, stayed = int(label.sum()), int(len(label) - label.sum())
    if min(churned, stayed) < LEAST_TO_CALIBRATE:
        return Calibration()
    target = np.where(label == 1, (churned + 1) / (churned + 2), 1 / (stayed + 2))
    twice = np.concatenate([margin, margin]).reshape(-1, 1)
    outcome = np.repeat([1, 0], len(label))
    fitted = LogisticRegression(C=np.inf).fit(twice, outcome, sample_weight=np.concatenate([target, 1 - target]))
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    if slope <= 0:
        return Calibration()
    return Calibration(method="sigmoid", slope=slope, intercept=intercept, customers=len(label))


def fold(text: str, calibration: Calibration) -> str:
    """The same model with the calibration in its leaves, as LightGBM text."""
    booster = lgb.Booster(model_str=text)
    if calibration.method == "none":
        return text
    for tree in range(booster.num_trees()):
        for leaf in range(_leaves(booster, tree)):
            value = calibration.slope * booster.get_leaf_output(tree, leaf)
            booster.set_leaf_output(tree, leaf, value + (calibration.intercept if tree == 0 else 0.0))
    return str(booster.model_to_string())


def _leaves(booster: lgb.Booster, tree: int) -> int:
    return int(booster.dump_model(num_iteration=1, start_iteration=tree)["tree_info"][0]["num_leaves"])

"""A small search for LightGBM's parameters: Optuna's TPE sampler (Bergstra et al. 2011), judged on the validation window.

    learning_rate     0.02 to 0.1, logarithmic   how much one tree says
    num_leaves        4 to 63, logarithmic       how finely it cuts
    min_data_in_leaf  5 to 200 , logarithmic     how many customers a leaf stands for
    feature_fraction  0.5 to 1                   how many features a tree may look at
    bagging_fraction  0.5 to 1                   how many customers
    lambda_l2         0.001 to 10, logarithmic   how cautious leaves are

The first trial is the default, so a search never ends below it. Calibration and hold-out see nothing of it.
"""

from typing import Any

import lightgbm as lgb

from churnstream.errors import MissingExtra
from churnstream.models.dataset import TrainingSet
from churnstream.models.split import HOLDOUT, split
from churnstream.models.training import Say, fit, settle_parameters

SEARCHED = ("learning_rate", "num_leaves", "min_data_in_leaf", "feature_fraction", "bagging_fraction", "lambda_l2")


def search(
    data: TrainingSet, trials: int, seed: int, holdout: float = HOLDOUT, straddle: bool = False, say: Say = lambda sentence: None
) -> dict[str, Any]:
    """The best of ``trials`` sets of parameters by log loss on the validation window; the same seed finds the same.

    Raises MissingExtra without Optuna, NotEnoughData when a part lacks a class.
    """
    try:
        import optuna
    except ImportError as cause:
        raise MissingExtra("a search for parameters", "search") from cause
    parts = split(data, holdout, straddle)
    default = settle_parameters(None, len(parts.training), seed)

    def judge(trial: Any) -> float:
        chosen = {
            "learning_rate": trial.suggest_float("learning_rate", 0.02, 0.1, log=True),
            "num_leaves": trial.suggest_int("num_leaves", 4, 63, log=True),
            "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", min(5, default["min_data_in_leaf"]), 200, log=True),
            "feature_fraction": trial.suggest_float("feature_fraction", 0.5, 1.0),
            "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
            "lambda_l2": trial.suggest_float("lambda_l2", 0.001, 10.0, log=True),
        }
        booster: lgb.Booster = fit(data, parts, default | chosen)
        return float(booster.best_score["valid_0"]["binary_logloss"])

    def progress(study: Any, trial: Any) -> None:
        say(f"trial {trial.number + 1} of {trials}: log loss {trial.value:.5f}, the best so far {study.best_value:.5f}")

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial({name: default.get(name, 0.001) for name in SEARCHED})
    study.optimize(judge, n_trials=trials, callbacks=[progress])
    return dict(study.best_params)

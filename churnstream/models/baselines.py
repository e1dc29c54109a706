"""What a model must beat to be worth its keep: a logistic regression on the same features, and mere silence."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from churnstream.models.dataset import TrainingSet
from churnstream.models.measures import measure
from churnstream.models.split import Parts

ITERATIONS = 2_000
KEPT = ("auc", "auc_low", "auc_high", "average_precision", "average_precision_stayers", "log_loss", "brier", "calibration_error")


def baselines(data: TrainingSet, parts: Parts, seed: int) -> pd.DataFrame:
    """A row for each baseline, by name, with its figures on the hold-out; both learn from everything but the hold-out.

    ``recency`` knows one number, the time from a customer's newest event to the decision.
    """
    columns = {"logistic regression": data.features.to_numpy(), "recency": data.silence.to_numpy().reshape(-1, 1)}
    found = {}
    for name, matrix in columns.items():
        model = make_pipeline(
            FunctionTransformer(_squashed),
            SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True),
            StandardScaler(),
            LogisticRegression(max_iter=ITERATIONS),
        )
        model.fit(matrix[parts.learnt], data.label[parts.learnt])
        figures = measure(data.label[parts.holdout], model.predict_proba(matrix[parts.holdout])[:, 1], seed)
        found[name] = {each: figures[each] for each in KEPT}
    return pd.DataFrame.from_dict(found, orient="index")


def _squashed(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Amounts and counts are skewed; a logarithm makes a straight line fit them better. Signs and gaps stay."""
    return np.sign(matrix) * np.log1p(np.abs(matrix))

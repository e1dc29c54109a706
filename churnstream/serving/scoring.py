"""A loaded model, and what it says about rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from churnstream.features.definitions import FeatureTable
from churnstream.models.artifact import Artifact, load_artifact
from churnstream.models.keys import Keys
from churnstream.models.manifest import Manifest
from churnstream.serving.fast import FastRow

FEW = 24  # rows; so many take as long one by one as they do together


@dataclass(frozen=True)
class Scorer:
    """A model whose manifest fits the running features. ``row`` scores a single one; for one thread at a time.

    Whichever way a row is scored, the probability is ``Booster.predict``'s to the last bit.
    """

    booster: lgb.Booster
    manifest: Manifest
    row: FastRow = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "row", FastRow(self.booster, len(self.manifest.features)))

    def score(self, rows: Sequence[Sequence[float]]) -> list[float]:
        """Rows of numbers in the manifest's order, NaN where one is missing -> their probabilities of churn."""
        if len(rows) <= FEW:
            return [self.row(each) for each in rows]
        return self.predict(np.array(rows, np.float64)).tolist()

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) in the manifest's order -> (n,) probabilities of churn."""
        if not len(matrix):
            return np.zeros(0)
        return np.asarray(self.booster.predict(matrix, num_threads=1))

    def margin(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) -> (n,) log-odds of churn."""
        return np.asarray(self.booster.predict(matrix, num_threads=1, raw_score=True))

    def contributions(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) -> (n, features + 1): what each feature adds to the margin, and last what there is before any does."""
        return np.asarray(self.booster.predict(matrix, num_threads=1, pred_contrib=True))


def load_folder(folder: Path, features: FeatureTable, keys: Keys) -> Scorer:
    """The signed model in ``folder``; raises InvalidModel, FingerprintMismatch or UnknownVersion. No pickle is read."""
    return of_artifact(load_artifact(folder, features, keys))


def of_artifact(artifact: Artifact) -> Scorer:
    """A model that was verified, ready to score."""
    return Scorer(artifact.booster, artifact.manifest)

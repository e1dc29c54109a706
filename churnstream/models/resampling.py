"""How far a figure may be off by chance: seeded bootstrap over customers (Efron 1979), paired where two models are compared."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

RESAMPLES = 500
MIDDLE = (0.025, 0.975)  # the middle 95 %


def auc(label: NDArray[np.int8], probability: NDArray[np.float64], weight: NDArray[np.float64] | None = None) -> float:
    """The area under the ROC curve; customers may weigh differently. NaN where one class is absent.

    >>> auc(np.array([1, 0, 1, 0], np.int8), np.array([0.9, 0.8, 0.7, 0.2]))
    0.75
    """
    return _Ranking(label, probability).area(np.ones(len(label)) if weight is None else weight)


def auc_interval(
    label: NDArray[np.int8], probability: NDArray[np.float64], seed: int, resamples: int = RESAMPLES
) -> NDArray[np.float64]:
    """(low, high): the middle 95 % of the AUC over resamples; NaN where a resample with both classes is never drawn."""
    return _middle(resampled(label, [probability], seed, resamples)[0])


def difference_interval(
    label: NDArray[np.int8],
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    seed: int,
    groups: NDArray[np.int64] | None = None,
    resamples: int = RESAMPLES,
) -> NDArray[np.float64]:
    """(low, high) of the AUC of ``one`` less that of ``other``, both on the same resamples, so that what they share cancels.

    ``groups`` numbers the customers of the rows: all rows of a customer are drawn together.
    """
    first, second = resampled(label, [one, other], seed, resamples, groups)
    return _middle(first - second)


def resampled(
    label: NDArray[np.int8],
    scores: Sequence[NDArray[np.float64]],
    seed: int,
    resamples: int = RESAMPLES,
    groups: NDArray[np.int64] | None = None,
) -> NDArray[np.float64]:
    """(scores, resamples) AUCs, each column on one resample."""
    rankings = [_Ranking(label, each) for each in scores]
    drawn = _weights(len(label), seed, resamples, groups)
    return np.array([[ranking.area(weight) for ranking in rankings] for weight in drawn]).T


def _weights(rows: int, seed: int, resamples: int, groups: NDArray[np.int64] | None) -> Iterator[NDArray[np.float64]]:
    rng = np.random.default_rng(seed)
    units = rows if groups is None else int(groups.max()) + 1
    for _ in range(resamples):
        count = np.bincount(rng.integers(0, units, units), minlength=units).astype(float)
        yield count if groups is None else count[groups]


class _Ranking:
    """Scores sorted once; customers of equal score count half, as everywhere."""

    def __init__(self, label: NDArray[np.int8], score: NDArray[np.float64]):
        self._churned = np.asarray(label, float)
        self._place, order = pd.factorize(np.asarray(score), sort=True)
        self._places = len(order)

    def area(self, weight: NDArray[np.float64]) -> float:
        churned = np.bincount(self._place, weight * self._churned, self._places)
        stayed = np.bincount(self._place, weight * (1 - self._churned), self._places)
        pairs = churned.sum() * stayed.sum()
        below = np.cumsum(stayed) - stayed / 2
        return float(churned @ below / pairs) if pairs else float("nan")


def _middle(values: NDArray[np.float64]) -> NDArray[np.float64]:
    known = values[~np.isnan(values)]
    return np.quantile(known, MIDDLE) if len(known) else np.full(2, np.nan)

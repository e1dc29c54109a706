"""Why a probability is what it is: what each feature adds to the margin, and the three that add most, in words."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isnan

import numpy as np

from churnstream.features.definitions import FeatureTable
from churnstream.serving.scoring import Scorer

REASONS = 3


@dataclass(frozen=True, slots=True)
class Explanation:
    """``contributions``, in the order of the features, and ``base`` add up to ``margin``: the log-odds of leaving.

    TreeSHAP (Lundberg, Erion and Lee 2018, arXiv:1802.03888), as LightGBM computes it.
    """

    margin: float
    base: float
    contributions: tuple[float, ...]
    reasons: tuple[str, ...]


def explain(scorer: Scorer, table: FeatureTable, rows: Sequence[Sequence[float]]) -> list[Explanation]:
    """One explanation a row."""
    matrix = np.array(rows, np.float64)
    margins, parts = scorer.margin(matrix), scorer.contributions(matrix)
    return [
        Explanation(margin, part[-1], tuple(part[:-1]), reasons(table, row, part[:-1]))
        for row, margin, part in zip(rows, margins.tolist(), parts.tolist(), strict=True)
    ]


def reasons(table: FeatureTable, row: Sequence[float], contributions: Sequence[float]) -> tuple[str, ...]:
    """The features that move the margin most, the strongest first, each a sentence; fewer where fewer move it at all."""
    order = sorted(range(len(row)), key=lambda place: -abs(contributions[place]))[:REASONS]
    return tuple(_sentence(table, place, row[place], contributions[place]) for place in order if contributions[place])


def _sentence(table: FeatureTable, place: int, value: float, contribution: float) -> str:
    feature = table.features[place]
    told = "not known" if isnan(value) else f"{value:,.6g} {feature.unit}"
    times = f"{exp(abs(contribution)):.2f} times"
    effect = f"raises the odds of leaving {times}" if contribution > 0 else f"lowers the odds of leaving {times}"
    return f"{feature.doc.rstrip('.')}: {told}. That {effect}."

"""Who is learnt from and who is judged: parts in order of time, none of which knows what came after it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from churnstream.errors import NotEnoughData
from churnstream.models.calibration import LEAST_TO_CALIBRATE
from churnstream.models.dataset import TrainingSet

HOLDOUT = 0.30  # the newest customers
CALIBRATION = 0.15  # of the rest the newest, then
VALIDATION = 0.20  # again the newest; more when they are too few of a class
LEAST_A_CLASS = 5


@dataclass(frozen=True)
class Parts:
    """Rows of a training set by part, the oldest part first: to learn, to stop early, to calibrate, and to judge.

    ``unknown`` rows of the first three were left out, because their label became known only after the first decision of the
    hold-out: who trains then could not have had it.
    """

    training: NDArray[np.int64]
    validation: NDArray[np.int64]
    calibration: NDArray[np.int64]
    holdout: NDArray[np.int64]
    unknown: int

    @property
    def learnt(self) -> NDArray[np.int64]:
        """Everything but the hold-out."""
        return np.concatenate([self.training, self.validation, self.calibration])


def split(data: TrainingSet, holdout: float = HOLDOUT, straddle: bool = False) -> Parts:
    """Cut by the customers' anchors, so that all rows of one customer fall into one part.

    ``straddle`` cuts by the instants of decision instead: a customer who is judged several times may then be learnt from at first
    and judged later. Raises NotEnoughData when a part lacks a class.
    """
    times = data.at if straddle else data.anchor
    order = times.reset_index(drop=True).sort_values(kind="stable").index.to_numpy()
    border = None if straddle else data.keys.to_numpy()[order]
    cut = _at_border(border, int(len(data) * (1 - holdout)), len(data))
    judged = order[cut:]
    older = order[:cut]
    if len(judged):
        known = (data.known.iloc[older] <= data.at.iloc[judged].min()).to_numpy()
        older, border = older[known], None if border is None else border[:cut][known]
    second = _at_border(border, int(len(older) * (1 - CALIBRATION)), len(older))
    if np.bincount(data.label[older[second:]], minlength=2).min() < LEAST_TO_CALIBRATE:
        second = len(older)  # too few to calibrate on can still be learnt from
    first = _at_border(border, int(second * (1 - VALIDATION)), second)
    first = min(first, _with_both(border, data.label[older[:second]]))
    parts = Parts(older[:first], older[first:second], older[second:], judged, cut - len(older))
    _check(data, parts)
    return parts


def _at_border(keys: NDArray[np.object_] | None, place: int, rows: int) -> int:
    """``place``, moved on to where the next customer begins."""
    while keys is not None and 0 < place < rows and keys[place] == keys[place - 1]:
        place += 1
    return place


def _with_both(keys: NDArray[np.object_] | None, label: NDArray[np.int8]) -> int:
    """From which customer on there are LEAST_A_CLASS of each class; the end when there are nowhere."""
    found = [np.flatnonzero(label == each)[-LEAST_A_CLASS:] for each in (0, 1)]
    place = int(min(each[0] for each in found)) if all(len(each) == LEAST_A_CLASS for each in found) else len(label)
    while keys is not None and 0 < place < len(label) and keys[place] == keys[place - 1]:
        place -= 1
    return place


def _check(data: TrainingSet, parts: Parts) -> None:
    named = {"training": parts.training, "validation": parts.validation, "hold-out": parts.holdout}
    for name, rows in named.items():
        counts = np.bincount(data.label[rows], minlength=2)
        if counts.min() < LEAST_A_CLASS:
            raise NotEnoughData(
                f"the {name} part has {counts[1]} customers who churned and {counts[0]} who stayed;"
                f" it takes {LEAST_A_CLASS} of each: let more events flow before training"
            )

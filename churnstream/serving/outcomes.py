"""Who was right: what each version of a model answered, beside what became of the customers since.

Every event worth a prediction was answered by the model that has the customer (a stable hash decides, so that who gets a variant
is chance), and the inference stream says which one that was. Answers over HTTP are recorded nowhere and judged nowhere: whoever
asks may ask about anything. A customer counts once, with the newest answer before the decision, when the label is known. That
answer is as old as the customer's last event before the decision, and so a little worse than what a hold-out promises.

A candidate is compared with the champion beside which it worked, on answers that were given while both did. A difference of Brier
scores stands in an interval that holds however often one looks (``sequential``). One of the AUC stands in a bootstrap interval
(``models.resampling``), which is meant for one look.
"""

from dataclasses import dataclass
from datetime import timedelta
from math import isnan

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.errors import NotEnoughData
from churnstream.models.dataset import on_time
from churnstream.models.labels import labels
from churnstream.models.resampling import MIDDLE, auc, difference_interval, resampled
from churnstream.models.watermark import watermark
from churnstream.serving.arms import CHAMPION, SHADOW
from churnstream.serving.sequential import Interval, TwoArms
from churnstream.serving.streamed import NOWHERE
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

SEED = 0
LEAST_PROBABILITY = 1e-15  # what a logarithm still takes
PLACE = ["origin_offset", "origin_row"]
Bounds = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Standing:
    """How a version did in a role, on ``customers`` whose label is known: the share that ``left``, the share that it ``flagged``
    as leaving, and its AUC (NaN where all did the same), Brier score and log loss."""

    version: str
    role: str
    customers: int
    left: float
    flagged: float
    auc: float
    brier: float
    log_loss: float


@dataclass(frozen=True, slots=True)
class Contrast:
    """A candidate less the champion ``against``. ``customers`` are its own, ``theirs`` the champion's; a shadow's are the same.

    ``brier_bounds`` hold at every look at once with 95 %, ``auc_bounds`` at this one.
    """

    version: str
    role: str
    against: str
    customers: int
    theirs: int
    brier: float
    brier_bounds: Bounds
    auc: float
    auc_bounds: Bounds

    @property
    def verdict(self) -> int:
        """-1: the candidate is worse; 1: better; 0: that is not settled."""
        return 1 if self.brier_bounds[1] < 0 else -1 if self.brier_bounds[0] > 0 else 0

    def sentence(self) -> str:
        """The comparison in words."""
        of = f"{self.customers:,} customers" if self.role == SHADOW else f"{self.customers:,} customers beside {self.theirs:,}"
        brier = f"{self.brier:+.4f} ({self.brier_bounds[0]:+.4f} to {self.brier_bounds[1]:+.4f}, however often one looks)"
        area = f"{self.auc:+.4f} ({self.auc_bounds[0]:+.4f} to {self.auc_bounds[1]:+.4f}, looking once)"
        area = "unknown: one side has customers of one kind only" if isnan(self.auc) else area
        found = {1: "it is better", -1: "it is worse", 0: "that settles nothing yet"}[self.verdict]
        return (
            f"The {self.role} {self.version}, {of}: its Brier score less that of {self.against} is {brier}: {found}."
            f" The difference of the AUCs is {area}."
        )


def matured(archive: pa.Table, case: UseCase, decision: timedelta | None = None) -> pd.DataFrame:
    """user_id, at (the decision), label (1 churned, 0 stayed), known (since when), of everyone whose label the archive tells.

    ``decision`` counts from the anchor, by default as the case says. In the order in which labels became known.
    """
    archive = on_time(archive, case.features.lateness)
    events = archive.select([KEY, EVENT_TYPE, EVENT_TIME]).to_pandas()
    until = watermark(events.groupby(KEY, sort=False)[EVENT_TIME].max())
    anchors = events.loc[events[EVENT_TYPE] == case.features.anchor].groupby(KEY, sort=False)[EVENT_TIME].min()
    rows = anchors.rename("anchor").reset_index()
    rows["at"] = rows["anchor"] + (case.decision if decision is None else decision)
    rows["label"], rows["known"] = labels(archive, events, rows, case)
    rows = rows[(rows["known"] <= until) & rows["label"].notna()]
    return rows.sort_values(["known", KEY], kind="stable")[[KEY, "at", "label", "known"]].reset_index(drop=True)


def judged(predictions: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """The rows of the inference stream (with appended_at) from before the decision, of customers whose label is known.

    ``known`` as ``matured`` gives it. Raises NotEnoughData when there is none.
    """
    found = predictions[predictions["origin_offset"] != NOWHERE] if len(predictions) else predictions
    rows = found.merge(known, on=KEY) if len(found) and len(known) else pd.DataFrame()
    rows = rows[rows[EVENT_TIME] < rows["at"]] if len(rows) else rows
    if not len(rows):
        raise NotEnoughData(
            f"of {len(known):,} customers whose label is known none was scored before the decision ({len(found):,} predictions);"
            " labels mature with time, and stream-to-parquet has to keep the events that tell them"
        )
    rows = rows.assign(model=rows["model"].astype(str), role=rows["role"].astype(str))
    return rows.sort_values(["known", KEY, EVENT_TIME, *PLACE], kind="stable").reset_index(drop=True)


def standings(rows: pd.DataFrame) -> list[Standing]:
    """How everyone did on ``judged`` rows: whoever answered first, and then the shadows."""
    heard = rows["role"] == SHADOW
    parts = [_newest(rows[~heard]), *(_newest(part) for _, part in rows[heard].groupby("model", sort=True))]
    return [
        _standing(str(version), str(role), part)
        for each in parts
        for (role, version), part in sorted(
            each.groupby(["role", "model"]), key=lambda group: (group[0][0] != CHAMPION, group[0])
        )
    ]


def contrasts(rows: pd.DataFrame) -> list[Contrast]:
    """Every candidate of ``judged`` rows beside its champion; one that never worked beside a champion is left out."""
    found = []
    for (role, version), mine in rows[rows["role"] != CHAMPION].groupby(["role", "model"], sort=True):
        champion = rows[(rows["role"] == CHAMPION) & _meanwhile(rows, mine)]
        if len(champion):
            against = champion.groupby("model")[KEY].nunique().idxmax()
            compare = _beside if role == SHADOW else _apart
            found += compare(str(version), str(role), str(against), mine, champion[champion["model"] == against])
    return found


def _meanwhile(rows: pd.DataFrame, others: pd.DataFrame) -> "pd.Series[bool]":
    return rows["appended_at"].between(others["appended_at"].min(), others["appended_at"].max())


def _newest(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.drop_duplicates(KEY, keep="last")


def _standing(version: str, role: str, rows: pd.DataFrame) -> Standing:
    label, told = _columns(rows)
    clipped = told.clip(LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
    loss = -np.where(label == 1, np.log(clipped), np.log1p(-clipped)).mean()
    flagged = float(rows["churns"].mean())
    area, brier = auc(label, told), float(((told - label) ** 2).mean())
    return Standing(version, role, len(rows), float(label.mean()), flagged, area, brier, float(loss))


def _apart(version: str, role: str, against: str, mine: pd.DataFrame, theirs: pd.DataFrame) -> list[Contrast]:
    """Two models that answered different customers."""
    both = _newest(pd.concat([mine[_meanwhile(mine, theirs)], theirs]).sort_index())
    ours = (both["model"] == version).to_numpy() & (both["role"] == role).to_numpy()
    label, told = _columns(both)
    losses = (told - label) ** 2
    if not ours.any() or ours.all():
        return []
    sequence = TwoArms()
    for loss, is_ours in zip(losses.tolist(), ours.tolist(), strict=True):
        sequence.see(loss, is_ours)
    brier = float(losses[ours].mean() - losses[~ours].mean())
    area = auc(label[ours], told[ours]) - auc(label[~ours], told[~ours])
    (one,), (other,) = (resampled(label[side], [told[side]], SEED + at) for at, side in enumerate((ours, ~ours)))
    counts = int(ours.sum()), int((~ours).sum())
    return [Contrast(version, role, against, *counts, brier, sequence.bounds, area, _middle(one - other))]


def _beside(version: str, role: str, against: str, mine: pd.DataFrame, theirs: pd.DataFrame) -> list[Contrast]:
    """A shadow, and the champion's answers to the very same events."""
    both = mine.merge(theirs[[KEY, *PLACE, "probability"]], on=[KEY, *PLACE], suffixes=("", "_champion"))
    both = _newest(both)
    if not len(both):
        return []
    label, told = _columns(both)
    answered = both["probability_champion"].to_numpy(float)
    differences = (told - label) ** 2 - (answered - label) ** 2
    sequence = Interval()
    for each in differences.tolist():
        sequence.see(each)
    low, high = difference_interval(label, told, answered, SEED)
    area = auc(label, told) - auc(label, answered)
    brier = float(differences.mean())
    return [Contrast(version, role, against, len(both), len(both), brier, sequence.bounds, area, (float(low), float(high)))]


def _columns(rows: pd.DataFrame) -> tuple[NDArray[np.int8], NDArray[np.float64]]:
    return rows["label"].to_numpy().astype(np.int8), rows["probability"].to_numpy(float)


def _middle(values: NDArray[np.float64]) -> Bounds:
    if np.isnan(values).all():
        return float("nan"), float("nan")
    low, high = np.nanquantile(values, MIDDLE)
    return float(low), float(high)

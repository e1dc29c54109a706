"""Promotion: a challenger takes the champion's place only where that is no accident.

Both are judged on the challenger's hold-out, which is newer than all that either has learnt from. The challenger has to be
better by more than noise: the interval of the difference of the two AUCs over paired bootstrap resamples lies above zero. And
it may be worse nowhere: on no declared slice does that interval lie below zero. Only signed models are compared, and the rows
are those that the challenger's manifest names.
"""

from dataclasses import dataclass
from datetime import datetime

import numpy as np
import pandas as pd

from churnstream.errors import InvalidModel, InvalidSetting, NotPromoted, UnknownModel
from churnstream.features.definitions import FeatureTable
from churnstream.models.artifact import Artifact, load_artifact
from churnstream.models.describing import CUSTOMER, SLICE, holdout_digest
from churnstream.models.keys import Keys
from churnstream.models.registry import Registry, Step
from churnstream.models.resampling import auc, difference_interval
from churnstream.models.slices import LEAST_A_CLASS
from churnstream.models.training import predict
from churnstream.models.withdrawals import Withdrawals
from churnstream.usecases.case import KEY

SEED = 0
PROMOTED, ROLLED_BACK = "promoted", "rolled back"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison found. ``better`` is the difference of the AUCs (challenger less champion), in ``low`` to ``high`` by
    95 %.

    ``worse`` has a sentence for each slice on which the challenger is worse; ``refusal`` says why it may not take over, and is
    empty when it may. ``champion`` is empty when there was none to beat.
    """

    challenger: str
    champion: str
    customers: int
    better: float
    low: float
    high: float
    worse: tuple[str, ...]
    refusal: str

    def sentence(self) -> str:
        """The comparison in words."""
        if not self.champion:
            return f"{self.challenger} is the first champion: there was none to beat"
        told = f"on {self.customers:,} rows of the hold-out the AUC of {self.challenger} less that of {self.champion} is"
        return f"{told} {self.better:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def compare(registry: Registry, challenger: str, features: FeatureTable, keys: Keys) -> Verdict:
    """Judge a version against the champion; raises what loading a model raises, and UnknownModel."""
    champion = registry.champion()
    new = load_artifact(registry.artifact(challenger), features, keys)
    sent_away = Withdrawals(registry.folder).all().get(challenger)
    if sent_away is not None:
        why = f"it was withdrawn as a candidate: {sent_away.reason}; `churnstream models readmit {challenger}` lets it back in"
        return Verdict(challenger, champion.version if champion else "", 0, 0.0, 0.0, 0.0, (), why)
    if champion is None:
        return Verdict(challenger, "", 0, 0.0, 0.0, 0.0, (), "")
    if champion.version == challenger:
        return Verdict(challenger, champion.version, 0, 0.0, 0.0, 0.0, (), f"{challenger} is the champion already")
    try:
        old = load_artifact(champion.folder, features, keys)
    except InvalidModel as cause:
        return Verdict(challenger, champion.version, 0, 0.0, 0.0, 0.0, (), f"the champion cannot be judged: {cause}")
    try:
        rows = registry.holdout(challenger)
    except UnknownModel as cause:
        return Verdict(challenger, champion.version, 0, 0.0, 0.0, 0.0, (), f"it cannot be judged: {cause}")
    return judge(new, old, _unseen(rows, new, old))


def judge(challenger: Artifact, champion: Artifact, rows: pd.DataFrame) -> Verdict:
    """Judge two models on the same rows: the challenger's features, ``label``, ``customer`` and slices.

    Rows that were kept by older versions name the customer by ``user_id`` instead.
    """
    names = (challenger.manifest.version, champion.manifest.version)
    label = rows["label"].to_numpy(np.int8)
    if np.bincount(label, minlength=2).min() < LEAST_A_CLASS:
        why = f"only {len(rows)} rows of its hold-out are newer than what {names[1]} has learnt from, too few to tell"
        return Verdict(*names, len(rows), 0.0, 0.0, 0.0, (), why)
    matrix = rows[list(challenger.manifest.features)].to_numpy(float)
    new, old = predict(challenger.booster, matrix), predict(champion.booster, matrix)
    customers = pd.factorize(rows[CUSTOMER if CUSTOMER in rows else KEY])[0]
    better = auc(label, new) - auc(label, old)
    low, high = difference_interval(label, new, old, SEED, customers)
    worse = []
    for column in (name for name in rows.columns if name.startswith(SLICE)):
        for value in sorted(rows[column].unique()):
            chosen = (rows[column] == value).to_numpy()
            if np.bincount(label[chosen], minlength=2).min() < LEAST_A_CLASS:
                continue
            bounds = difference_interval(label[chosen], new[chosen], old[chosen], SEED, pd.factorize(customers[chosen])[0])
            if bounds[1] < 0:
                name = column.removeprefix(SLICE)
                worse.append(f"worse for {name} = {value}: the AUC falls by {-bounds[1]:.4f} to {-bounds[0]:.4f}")
    refusal = "; ".join(worse)
    if not low > 0:
        refusal = f"it is not better by more than noise: the difference of the AUCs lies between {low:+.4f} and {high:+.4f}"
    return Verdict(*names, len(rows), float(better), float(low), float(high), tuple(worse), refusal)


def promote(
    registry: Registry, challenger: str, features: FeatureTable, keys: Keys, at: datetime, force: str | None = None
) -> tuple[Verdict, Step]:
    """Make ``challenger`` the champion if it may be; ``force`` is a reason to do it all the same, and is kept in the history.

    Raises NotPromoted, InvalidSetting for an empty reason, StorageFailed, and what loading the challenger raises: force does not
    load a model that was tampered with.
    """
    if force is not None and not force.strip():
        raise InvalidSetting("a promotion by force needs a reason, which is kept: --force --reason 'the champion is out of date'")
    verdict = compare(registry, challenger, features, keys)
    if verdict.refusal and force is None:
        whom = f"replace {verdict.champion}" if verdict.champion else "become champion"
        raise NotPromoted(f"{challenger} does not {whom}: {verdict.refusal}")
    if verdict.champion == challenger:
        raise NotPromoted(f"{challenger} is the champion already")
    reason = force.strip() if force else verdict.sentence()
    return verdict, registry.set_champion(challenger, at, PROMOTED, reason, forced=force is not None and bool(verdict.refusal))


def roll_back(registry: Registry, features: FeatureTable, keys: Keys, at: datetime, reason: str) -> Step:
    """Make the champion before this one the champion again; raises UnknownModel when there was none, or what loading it
    raises."""
    before = predecessor(registry)
    if before is None:
        raise UnknownModel("there is no champion to roll back to: no other model was the champion before")
    load_artifact(registry.artifact(before), features, keys)
    return registry.set_champion(before, at, ROLLED_BACK, reason)


def predecessor(registry: Registry) -> str | None:
    """Whom a rollback brings back: the history is undone step by step, so two rollbacks go back twice. None at its start."""
    line: list[str] = []
    for step in registry.history():
        if step.deed == ROLLED_BACK and len(line) > 1:
            line.pop()
        else:
            line.append(step.version)
    return line[-2] if len(line) > 1 else None


def _unseen(rows: pd.DataFrame, challenger: Artifact, champion: Artifact) -> pd.DataFrame:
    """The rows of the challenger's hold-out that are newer than what the champion has learnt from."""
    if holdout_digest(rows) != challenger.manifest.holdout_digest:
        raise InvalidModel(
            f"the hold-out beside {challenger.manifest.version} is not the one that it was judged on; train it again"
        )
    return rows[rows["anchor"] > pd.Timestamp(champion.manifest.trained_until)]

"""From what was trained to what is kept of it: the manifest, and the rows that it was judged on."""

import hashlib
from datetime import timedelta
from functools import cache
from importlib import metadata
from pathlib import Path

import pandas as pd

from churnstream.errors import InvalidSetting
from churnstream.models.dataset import TrainingSet
from churnstream.models.manifest import DTYPE, MANIFEST_VERSION, Manifest, digest
from churnstream.models.training import Trained, threshold_for
from churnstream.usecases.case import UseCase

THRESHOLD = 0.5
SLICE = "slice:"
CUSTOMER = "customer"
VERSION_DIGITS = 12


def describe(case: UseCase, data: TrainingSet, trained: Trained, seed: int, flagged: float = 0.0) -> Manifest:
    """The manifest of what was trained.

    A customer counts as leaving from a probability of 0.5 on; ``flagged`` sets the threshold so that this share of the customers
    whom the model was calibrated on would have counted. Raises InvalidSetting for a share that is none.
    """
    if not 0 <= flagged < 1:
        raise InvalidSetting(f"the share of flagged customers is {flagged}; it lies between 0 and 1")
    threshold = threshold_for(trained.earlier, flagged) if flagged and len(trained.earlier) else THRESHOLD
    policy = (
        f"the highest {flagged:.1%} of the customers before the hold-out" if threshold != THRESHOLD else "leaving is likelier"
    )
    decision: timedelta = (data.at - data.anchor).max()
    return Manifest(
        manifest_version=MANIFEST_VERSION,
        case=case.name,
        version=digest(trained.text)[:VERSION_DIGITS],
        features=case.features.names,
        dtypes=(DTYPE,) * len(case.features.names),
        units=tuple(each.unit for each in case.features.features),
        fingerprint=case.features.fingerprint,
        model_sha256=digest(trained.text),
        label=case.label.sentence(),
        decision_s=decision.total_seconds(),
        threshold=threshold,
        threshold_policy=policy,
        data_digest=data.digest,
        holdout_digest=holdout_digest(holdout_rows(data, trained)),
        trained_until=trained.trained_until.isoformat(),
        code_version=code_version(),
        calibration=trained.calibration,
        parameters=trained.parameters,
        seed=seed,
        metrics=trained.metrics,
        note=case.note,
    )


def holdout_rows(data: TrainingSet, trained: Trained) -> pd.DataFrame:
    """The rows of the hold-out: customer, anchor, at, label, a column for each slice (``slice:country``) and the features.

    ``customer`` numbers the customers from 0 in the order of these rows. It says which rows are one person's and no more: these
    rows outlive the archive, and what is kept beyond it names nobody.
    """
    rows = trained.parts.holdout
    told = pd.DataFrame({"anchor": data.anchor, "at": data.at, "label": data.label}).iloc[rows]
    told.insert(0, CUSTOMER, pd.factorize(data.keys.iloc[rows])[0])
    slices = data.slices.iloc[rows].rename(columns=lambda name: f"{SLICE}{name}")
    return pd.concat([told, slices, data.features.iloc[rows]], axis=1).reset_index(drop=True)


def holdout_digest(rows: pd.DataFrame) -> str:
    """Sixteen hexadecimal digits that change with any number of these rows."""
    return hashlib.sha256(pd.util.hash_pandas_object(rows, index=False).to_numpy().tobytes()).hexdigest()[:16]


@cache
def code_version() -> str:
    """The package's version and twelve hexadecimal digits of its source files, by which two builds of one version differ."""
    folder = Path(__file__).parents[1]
    told = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        told.update(f"{path.relative_to(folder).as_posix()}\n".encode() + path.read_bytes())
    try:
        installed = metadata.version("churnstream")
    except metadata.PackageNotFoundError:
        installed = "source"  # a function that ships as an archive
    return f"{installed}+{told.hexdigest()[:VERSION_DIGITS]}"

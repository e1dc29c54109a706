"""Groups of customers by which a model is judged apart: what the case declares, as it was known at the decision."""

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.models.resampling import auc, auc_interval
from churnstream.usecases.case import EVENT_TIME, KEY, UseCase

BANDS = ("low", "middle", "high")
UNKNOWN = "unknown"
LEAST_A_CLASS = 20  # below it a group is shown, and nothing is concluded from it


def groups(archive: pa.Table, rows: pd.DataFrame, features: pd.DataFrame, case: UseCase) -> pd.DataFrame:
    """A column for each slice of the case, as text: (n, slices), for ``rows`` (user_id, anchor, at) with their ``features``.

    Of a field the group is what the customer's oldest event that states it says, unknown when there was none before the decision.
    """
    found: dict[str, pd.Series] = {}
    for name in case.slices:
        if name in features.columns:
            found[name] = _in_words(pd.Series(features[name].to_numpy()))
        elif name in archive.column_names:
            found[name] = _in_words(_stated(archive, rows, name))
        else:
            found[name] = pd.Series(rows["anchor"].dt.day_name().to_numpy())
    return pd.DataFrame(found, index=range(len(rows)))


def _stated(archive: pa.Table, rows: pd.DataFrame, name: str) -> pd.Series:
    facts = archive.select([KEY, EVENT_TIME, name]).to_pandas().dropna(subset=[name])
    facts = facts.sort_values(EVENT_TIME, kind="stable").drop_duplicates(KEY).set_index(KEY).reindex(rows[KEY].to_numpy())
    known = facts[EVENT_TIME].array < rows["at"].array
    return pd.Series(facts[name].to_numpy()).where(known)


def _in_words(values: pd.Series) -> pd.Series:
    if not pd.api.types.is_numeric_dtype(values):
        return values.fillna(UNKNOWN).astype(str)
    edges = values.quantile([1 / 3, 2 / 3]).to_numpy()
    words = np.array(BANDS)[np.searchsorted(edges, values.to_numpy(), side="left").clip(0, 2)]
    return pd.Series(np.where(values.isna(), UNKNOWN, words))


def judge_slices(slices: pd.DataFrame, label: NDArray[np.int8], probability: NDArray[np.float64], seed: int) -> pd.DataFrame:
    """A row for each group of the hold-out: how many, how many churned, the AUC in it with its interval, and whether it is worse.

    ``worse`` when the whole interval lies below the AUC of all customers, so that chance does not explain it; never for a group
    that has too few of one class to tell.
    """
    overall, rows = auc(label, probability), []
    for name in slices.columns:
        for value, places in pd.Series(range(len(label))).groupby(slices[name].to_numpy()).groups.items():
            chosen = places.to_numpy()
            low, high = auc_interval(label[chosen], probability[chosen], seed)
            enough = np.bincount(label[chosen], minlength=2).min() >= LEAST_A_CLASS
            rows.append(
                {
                    "slice": name,
                    "value": value,
                    "customers": len(chosen),
                    "churn_rate": label[chosen].mean(),
                    "auc": auc(label[chosen], probability[chosen]),
                    "auc_low": low,
                    "auc_high": high,
                    "worse": bool(enough and high < overall),
                }
            )
    names = ["slice", "value", "customers", "churn_rate", "auc", "auc_low", "auc_high", "worse"]
    return pd.DataFrame(rows, columns=names)


def worse_groups(judged: pd.DataFrame, overall: float) -> list[str]:
    """A sentence for each group in which the model is worse than its ``overall`` AUC."""
    return [
        f"{row.slice} = {row.value}: AUC {row.auc:.3f} ({row.auc_low:.3f} to {row.auc_high:.3f}) on {row.customers} customers,"
        f" against {overall:.3f} on all"
        for row in judged.itertuples()
        if row.worse
    ]

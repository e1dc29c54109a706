"""The leak canary: what a training set knows, it must have been able to know at the decision.

Every column is computed again from an archive that ends at the decision, and must come out the same; a column that looked
further comes out otherwise. Some rows are computed a third time by the slow reference, which shares no code with the engine. A
column that nothing computes cannot be checked, and is refused as well.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.errors import LeakFound
from churnstream.features.reference import Observed, feature_vector
from churnstream.models.dataset import TrainingSet, cut_at, features_at, on_time
from churnstream.models.joins import enriched
from churnstream.tables.base import TableReader
from churnstream.usecases.case import EVENT_TIME, EVENT_TYPE, KEY, UseCase

Compute = Callable[[pa.Table, pd.DataFrame], pd.DataFrame]
CLOSE = 1e-9
BY_REFERENCE = 200


def watch(
    data: TrainingSet, archive: pa.Table, case: UseCase, lookup: TableReader | None, seed: int = 0, compute: Compute | None = None
) -> None:
    """Raises LeakFound, which names the first column that knows what was not known at the decision.

    ``compute(archive, rows)`` gives the columns of ``rows`` (user_id, at), indexed as they are; by default the case's
    definitions.
    """
    archive = on_time(archive, case.features.lateness)
    rows = pd.DataFrame({KEY: data.keys.to_numpy(), "at": data.at.array})
    again = compute or (lambda events, asked: features_at(events, asked, case, lookup))
    for _, part in rows.groupby(rows.groupby(KEY, sort=False).cumcount()):
        _compare(data.features.loc[part.index], again(cut_at(archive, part), part).reindex(part.index), part)
    chosen = rows.iloc[np.random.default_rng(seed).permutation(len(rows))[:BY_REFERENCE]]
    chosen = chosen.drop_duplicates(KEY)
    slow = _by_reference(cut_at(archive, chosen), chosen, case, lookup)
    _compare(data.features.loc[chosen.index, list(case.features.names)], slow, chosen)


def _compare(told: pd.DataFrame, known: pd.DataFrame, rows: pd.DataFrame) -> None:
    for name in told.columns:
        if name not in known.columns:
            raise LeakFound(
                str(name),
                "nothing computes it from what was known at the decision; define it as a feature of the case, or drop it",
            )
        differs = ~_close(told[name].to_numpy(float), known[name].to_numpy(float))
        if differs.any():
            place = int(np.flatnonzero(differs)[0])
            row, was, should = rows.iloc[place], told[name].iloc[place], known[name].iloc[place]
            raise LeakFound(
                str(name),
                f"for the customer who was judged at {row['at'].isoformat()} it is {was:.6g}, and {should:.6g} when it is"
                f" computed from what had happened by then; {int(differs.sum())} of {len(rows)} rows differ",
            )


def _close(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.isclose(one, other, rtol=CLOSE, atol=CLOSE, equal_nan=True)


def _by_reference(archive: pa.Table, rows: pd.DataFrame, case: UseCase, lookup: TableReader | None) -> pd.DataFrame:
    histories: dict[str, list[Observed]] = {}
    numbers = {name for each in case.features.features if (name := getattr(each, "field", None))}
    numbers |= {each.of.field for each in case.features.features if hasattr(each, "of") and each.of.field}
    for batch in enriched(archive, case, lookup):
        for event in batch.to_pylist():
            values = {name: float(event[name]) for name in numbers if event.get(name) is not None}
            histories.setdefault(event[KEY], []).append(Observed(event[EVENT_TYPE], event[EVENT_TIME], values))
    vectors = [feature_vector(case.features, histories.get(key, []), at) for key, at in zip(rows[KEY], rows["at"], strict=True)]
    nothing = (float("nan"),) * len(case.features.names)
    return pd.DataFrame([nothing if each is None else each for each in vectors], rows.index, list(case.features.names))

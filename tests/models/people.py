"""Customers to learn from, made by hand."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from churnstream.models.dataset import TrainingSet

START = datetime(2026, 3, 1, tzinfo=UTC)


def customers(
    count: int, churned: Any = None, seed: int = 0, noise: float = 0.7, matures: timedelta = timedelta(0)
) -> TrainingSet:
    """Customers an hour apart, judged after a day; the first feature tells most of the label, the second nothing.

    The label is known ``matures`` after the decision.
    """
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count).astype(np.int8) if churned is None else churned.astype(np.int8)
    features = pd.DataFrame({"signal": label + rng.normal(0, noise, count), "noise": rng.normal(0, 1, count)})
    anchor = pd.Series([START + timedelta(hours=place) for place in range(count)], dtype="datetime64[us, UTC]")
    return TrainingSet(
        keys=pd.Series([f"u{place}" for place in range(count)], name="user_id"),
        features=features,
        label=label,
        anchor=anchor,
        at=anchor + timedelta(hours=24),
        known=anchor + timedelta(hours=24) + matures,
        silence=pd.Series(rng.exponential(3_600, count)),
        slices=pd.DataFrame({"country": np.where(np.arange(count) % 2, "DE", "ES")}),
        unmatured=0,
        until=START,
        digest="0" * 16,
    )


def visits(data: TrainingSet, times: int) -> TrainingSet:
    """The same customers, each judged ``times`` times, a day apart."""
    place = np.repeat(np.arange(len(data)), times)
    later = pd.Series(pd.to_timedelta(np.tile(np.arange(times), len(data)), unit="D"))

    def again(column: Any) -> Any:
        return column.iloc[place].reset_index(drop=True)

    return TrainingSet(
        keys=again(data.keys),
        features=again(data.features),
        label=data.label[place],
        anchor=again(data.anchor),
        at=again(data.at) + later,
        known=again(data.known) + later,
        silence=again(data.silence),
        slices=again(data.slices),
        unmatured=0,
        until=data.until,
        digest=data.digest,
    )

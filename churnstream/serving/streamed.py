"""Predictions as they travel in the inference stream: a batch of vectors in, a batch of predictions out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from churnstream.serving.arms import CHAMPION, SHADOW, Scored
from churnstream.serving.rollout import Rollout
from churnstream.usecases.case import EVENT_TIME, KEY

KEPT = (KEY, EVENT_TIME, "origin_offset", "origin_row")
NOWHERE = -1  # the position of what was asked over HTTP


def score_batch(batch: pa.RecordBatch, rollout: Rollout) -> pa.RecordBatch:
    """A batch of feature vectors -> user_id, event_time, where the event stood, probability, churns, model, role.

    A row each, in order, by whoever answers the customer; after them, a row for each that a shadow scored.
    """
    champion = rollout.champion.scorer
    kept = {name: batch.column(batch.schema.get_field_index(name)) for name in KEPT}
    columns = [batch.column(batch.schema.get_field_index(name)).to_numpy() for name in champion.manifest.features]
    matrix = np.column_stack(columns)
    if rollout.alone:
        probability = rollout.by_champion(matrix)
        by = np.zeros(len(probability), np.int8)
        churns = pa.array(probability >= champion.manifest.threshold)
        return _batch(kept, pa.array(probability), churns, by, [champion.manifest.version], [CHAMPION])
    scored = rollout.score(matrix.tolist(), kept[KEY].to_pylist())
    rows = [*range(batch.num_rows), *(each.place for each in scored.shadowed)]
    taken = {name: column.take(pa.array(rows, pa.int64())) for name, column in kept.items()}
    return _by_arms(taken, scored)


def _by_arms(kept: Mapping[str, Any], scored: Scored) -> pa.RecordBatch:
    answered = [(scored.arm(place), probability) for place, probability in enumerate(scored.probabilities)]
    told = [*answered, *((each.arm, each.probability) for each in scored.shadowed)]
    arms = list(dict.fromkeys(arm for arm, _ in told))
    by = np.array([arms.index(arm) for arm, _ in told], np.int8)
    churns = pa.array([arm.decides(probability) for arm, probability in told], pa.bool_())
    probabilities = pa.array([probability for _, probability in told], pa.float64())
    return _batch(kept, probabilities, churns, by, [arm.version for arm in arms], [arm.role for arm in arms])


def _batch(
    kept: Mapping[str, Any], probability: Any, churns: Any, by: Any, versions: Sequence[str], roles: Sequence[str]
) -> pa.RecordBatch:
    columns = {**kept, "probability": probability, "churns": churns}
    columns["model"], columns["role"] = _named(by, versions), _named(by, roles)
    return pa.RecordBatch.from_pydict(columns)


def _named(by: Any, names: Sequence[str]) -> Any:
    """Each row's name, of which a dictionary holds every one once: pandas reads no other."""
    known = list(dict.fromkeys(names))
    if len(known) < len(names):
        by = np.array([known.index(name) for name in names], np.int8)[by]
    return pa.DictionaryArray.from_arrays(pa.array(by), pa.array(known))


def shadow_batch(rows: Iterable[Mapping[str, Any]]) -> pa.RecordBatch:
    """What shadows said over HTTP, in the same columns; ``rows`` have user_id, event_time, probability, churns and model."""
    told = list(rows)
    kept = {
        KEY: pa.array([each[KEY] for each in told], pa.string()),
        EVENT_TIME: pa.array([each[EVENT_TIME] for each in told], pa.timestamp("us", "UTC")),
        "origin_offset": pa.array([NOWHERE] * len(told), pa.int64()),
        "origin_row": pa.array([NOWHERE] * len(told), pa.int32()),
    }
    versions = list(dict.fromkeys(each["model"] for each in told))
    by = np.array([versions.index(each["model"]) for each in told], np.int8)
    probability = pa.array([each["probability"] for each in told], pa.float64())
    churns = pa.array([each["churns"] for each in told], pa.bool_())
    return _batch(kept, probability, churns, by, versions, [SHADOW] * len(versions))

"""A loaded model, and what it says about whole batches."""

from dataclasses import dataclass
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from churnstream.errors import InvalidModel
from churnstream.features.definitions import FeatureTable
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, Manifest, check, read_manifest
from churnstream.usecases.case import EVENT_TIME, KEY


@dataclass(frozen=True)
class Scorer:
    """A model whose manifest fits the running features."""

    booster: lgb.Booster
    manifest: Manifest

    def predict(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) in the manifest's order -> (n,) probabilities of churn."""
        if not len(matrix):
            return np.zeros(0)
        return np.asarray(self.booster.predict(matrix, num_threads=1))


def load_scorer(model: Path, manifest: Path, features: FeatureTable) -> Scorer:
    """Read LightGBM text and its manifest; raises InvalidModel, FingerprintMismatch or UnknownVersion. No pickle is read."""
    described = read_manifest(manifest)
    try:
        text = model.read_text()
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidModel(f"{model} is no LightGBM text: {cause}") from cause
    check(described, text, features)
    try:
        booster = lgb.Booster(model_str=text)
    except lgb.basic.LightGBMError as cause:
        raise InvalidModel(f"{model} is no LightGBM model: {cause}") from cause
    return Scorer(booster, described)


def load_folder(folder: Path, features: FeatureTable) -> Scorer:
    """The model in ``folder``."""
    return load_scorer(folder / MODEL_FILE, folder / MANIFEST_FILE, features)


def score_batch(batch: pa.RecordBatch, scorer: Scorer) -> pa.RecordBatch:
    """A batch of feature vectors -> user_id, event_time, probability, churns, model, and where the event stood."""
    matrix = np.column_stack([batch.column(batch.schema.get_field_index(name)).to_numpy() for name in scorer.manifest.features])
    probability = scorer.predict(matrix)
    kept = (KEY, EVENT_TIME, "origin_offset", "origin_row")
    columns = {name: batch.column(batch.schema.get_field_index(name)) for name in kept}
    columns["probability"] = pa.array(probability)
    columns["churns"] = pa.array(probability >= scorer.manifest.threshold)
    version = pa.array([scorer.manifest.version])
    columns["model"] = pa.DictionaryArray.from_arrays(pa.array(np.zeros(len(probability), np.int8)), version)
    return pa.RecordBatch.from_pydict(columns)

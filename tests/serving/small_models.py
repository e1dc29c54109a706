"""Small models of the first day's features, trained on nothing but noise: what is served is no question of quality."""

from functools import cache

import lightgbm as lgb
import numpy as np
from numpy.typing import NDArray

from churnstream.models.manifest import MANIFEST_VERSION, Calibration, Manifest, digest
from churnstream.serving.scoring import Scorer
from churnstream.usecases import first_day

TABLE = first_day.FEATURES
NAMES = TABLE.names


def vectors(rows: int, seed: int = 0) -> NDArray[np.float64]:
    """(rows, features) amounts, a tenth of them missing, some equal to where a model splits."""
    rng = np.random.default_rng(seed)
    matrix = np.round(rng.lognormal(0, 2, (rows, len(NAMES))), 2)
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    return matrix


@cache
def text(seed: int) -> str:
    """LightGBM's own."""
    matrix = vectors(2_000, seed)
    label = np.nan_to_num(matrix[:, seed % len(NAMES)]) + np.random.default_rng(seed).lognormal(0, 1, 2_000) > 3
    parameters = {"objective": "binary", "num_leaves": 15, "verbosity": -1, "num_threads": 1, "seed": seed}
    trained = lgb.train(parameters, lgb.Dataset(matrix, label, feature_name=list(NAMES)), 30)
    return str(trained.model_to_string())


def manifest(model: str) -> Manifest:
    """As training would describe the text."""
    return Manifest(
        manifest_version=MANIFEST_VERSION,
        case="first_day",
        version=digest(model)[:12],
        features=NAMES,
        fingerprint=TABLE.fingerprint,
        model_sha256=digest(model),
        label="noise",
        threshold=0.5,
        data_digest="",
        metrics={},
        dtypes=("float64",) * len(NAMES),
        units=tuple(each.unit for each in TABLE.features),
        decision_s=86_400.0,
        threshold_policy="fixed",
        holdout_digest="",
        trained_until="2026-01-01T00:00:00+00:00",
        code_version="",
        calibration=Calibration(),
        parameters={},
        seed=0,
    )


def scorer(seed: int = 1) -> Scorer:
    """A loaded model; another seed is another model."""
    return Scorer(lgb.Booster(model_str=text(seed)), manifest(text(seed)))

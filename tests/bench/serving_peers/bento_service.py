"""BentoML: a service of one worker."""

import os

import bentoml
import lightgbm as lgb
import numpy as np


@bentoml.service(workers=1, traffic={"timeout": 10})
class Churn:
    def __init__(self) -> None:
        self.model = lgb.Booster(model_file=os.environ["BENCH_MODEL"])

    @bentoml.api(route="/predict")
    async def predict(self, rows: list[list[float]]) -> list[float]:
        return self.model.predict(np.array(rows), num_threads=1).tolist()

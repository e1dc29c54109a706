"""FastAPI as its documentation writes it: pydantic models in and out."""

import os

import lightgbm as lgb
import numpy as np
from fastapi import FastAPI
from pydantic import BaseModel

model = lgb.Booster(model_file=os.environ["BENCH_MODEL"])
application = FastAPI()


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: str
    data: list[float]


class Asked(BaseModel):
    inputs: list[Tensor]


class Told(BaseModel):
    model_name: str
    outputs: list[Tensor]


@application.post("/v2/models/{name}/infer")
async def infer(name: str, asked: Asked) -> Told:
    given = asked.inputs[0]
    found = model.predict(np.array(given.data).reshape(given.shape), num_threads=1)
    return Told(model_name=name, outputs=[Tensor(name="probability", shape=[len(found)], datatype="FP64", data=found.tolist())])

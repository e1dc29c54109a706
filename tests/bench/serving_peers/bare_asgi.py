"""uvicorn's floor: a bare ASGI application around the fastest prediction there is."""

import os
from pathlib import Path

import lightgbm as lgb
import msgspec

from churnstream.serving.fast import FastRow

row = FastRow(lgb.Booster(model_str=Path(os.environ["BENCH_MODEL"]).read_text()), 13)
HEADERS = [(b"content-type", b"application/json")]


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    told = msgspec.json.decode((await receive())["body"])["inputs"][0]["data"]
    output = {"name": "probability", "shape": [1], "datatype": "FP64", "data": [row(told)]}
    body = msgspec.json.encode({"model_name": "churn", "outputs": [output]})
    await send({"type": "http.response.start", "status": 200, "headers": [*HEADERS, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

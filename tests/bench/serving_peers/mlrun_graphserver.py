"""MLRun's own serving graph, a router with a V2 model, called by uvicorn as Nuclio's processor would call it."""

import json
import os

import lightgbm as lgb
import mlrun
import numpy as np
from mlrun.serving.server import MockEvent
from mlrun.serving.v2_serving import V2ModelServer


class Model(V2ModelServer):
    def load(self):
        self.model = lgb.Booster(model_file=os.environ["BENCH_MODEL"])

    def predict(self, request):
        return self.model.predict(np.array(request["inputs"], float), num_threads=1).tolist()


function = mlrun.new_function("churn", kind="serving", image="mlrun/mlrun")
function.set_topology("router")
function.add_model("churn", class_name="Model", model_path=".")
server = function.to_mock_server(namespace={"Model": Model})
HEADERS = [(b"content-type", b"application/json")]


async def application(scope, receive, send):
    if scope["type"] != "http":
        return
    event = MockEvent((await receive())["body"], "application/json", path=scope["path"], method=scope["method"])
    answer = server.run(event, get_body=False)
    body = json.dumps(getattr(answer, "body", answer), default=str).encode()
    status = getattr(answer, "status_code", 200)
    await send({"type": "http.response.start", "status": status, "headers": [*HEADERS, (b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})

"""Asks a server with tritonclient's HTTP client, as it comes from PyPI, and prints what it was told; nothing of ours is imported.

``python triton_client.py ADDRESS TOKEN CUSTOMER``, in an environment that has ``tritonclient[http]``.
"""

import json
import sys

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException


def main(address: str, token: str, customer: str) -> None:
    client = triton.InferenceServerClient(address)
    headers = {"Authorization": f"Bearer {token}"}
    told: dict[str, object] = {
        "live": client.is_server_live(headers=headers),
        "ready": client.is_server_ready(headers=headers),
        "model_ready": client.is_model_ready("churn", headers=headers),
        "another_ready": client.is_model_ready("nobody", headers=headers),
        "server": client.get_server_metadata(headers=headers),
    }
    described = client.get_model_metadata("churn", headers=headers)
    told["model"] = described
    version = described["versions"][0]
    told["version_ready"] = client.is_model_ready("churn", version, headers=headers)

    rows = np.round(np.random.default_rng(1).lognormal(0, 2, (5, 13)), 2)
    rows[2, 3] = np.nan
    told["rows"] = [[None if value != value else value for value in row] for row in rows.tolist()]

    def infer(inputs: list[tuple[str, np.ndarray, str]], names: list[str], binary: bool, **more: object) -> dict[str, object]:
        tensors = []
        for name, data, kind in inputs:
            tensor = triton.InferInput(name, list(data.shape), kind)
            tensor.set_data_from_numpy(data, binary_data=binary)
            tensors.append(tensor)
        outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names] or None
        found = client.infer("churn", tensors, outputs=outputs, headers=dict(headers), **more)  # it writes into them
        response = found.get_response()
        plain = {each["name"]: found.as_numpy(each["name"]) for each in response["outputs"]}
        values = {
            name: [each.decode() if isinstance(each, bytes) else each for each in array.flatten().tolist()]
            for name, array in plain.items()
        }
        return values | {"id": response.get("id"), "version": response["model_version"]}

    user = np.array([customer], dtype=np.object_)
    for kind, binary in (("json", False), ("binary", True)):
        told[kind] = {
            "vectors": infer([("features", rows, "FP64")], ["probability"], binary, request_id="q1"),
            "usual": infer([("features", rows, "FP64")], [], binary),
            "pinned": infer([("features", rows, "FP64")], ["probability"], binary, model_version=version),
            "single": infer([("features", rows.astype(np.float32), "FP32")], ["probability"], binary),
            "whole": infer([("features", np.nan_to_num(rows).astype(np.int64), "INT64")], ["probability"], binary),
            "customer": infer([("user_id", user, "BYTES")], ["probability", "churns", "feature_age_s", "reasons"], binary),
            "what_if": infer([("user_id", user, "BYTES"), ("bet_sum", np.array([1e6]), "FP64")], ["probability"], binary),
            "explained": infer([("features", rows, "FP64")], ["margin", "contributions"], binary, parameters={"explain": True}),
        }
    try:
        infer([("features", rows[:, :4], "FP64")], ["probability"], False)
    except InferenceServerException as refusal:
        told["refused"] = [refusal.status(), refusal.message()]
    print(json.dumps(told))  # noqa: T201


main(*sys.argv[1:])

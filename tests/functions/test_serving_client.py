"""An independent client of the Open Inference Protocol, as it comes from PyPI, works against the deployed function unmodified.

It runs in a process of its own. Where ``tritonclient[http]`` is not installed, CHURNSTREAM_TRITONCLIENT may name the Python of an
environment that has it: ``uv venv E && uv pip install --python E/bin/python 'tritonclient[http]'``.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from churnstream.models.manifest import MANIFEST_FILE, read_manifest
from tests.bench.serving_home import Served, served
from tests.functions.river import in_root
from tests.functions.test_serving import MODEL, NAMES, booster

CLIENT = "CHURNSTREAM_TRITONCLIENT"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Any], Served]]:
    """What the client was told."""
    python = os.environ.get(CLIENT) or (sys.executable if find_spec("tritonclient") else "")
    if not python:
        pytest.skip(f"tritonclient[http] is not installed, and {CLIENT} names no Python of an environment that has it")
    with served(tmp_path_factory.mktemp("client"), customers=30) as server:
        words = [
            python,
            str(in_root("tests/functions/clients/triton_client.py")),
            server.address,
            server.token,
            server.customers[0],
        ]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        yield json.loads(done.stdout), server


def expected(rows: Any) -> list[float]:
    return list(booster().predict(np.array(rows, float), num_threads=1).tolist())


def test_health_and_metadata_are_understood(told: tuple[dict[str, Any], Served]) -> None:
    found, _ = told
    assert [found[name] for name in ("live", "ready", "model_ready", "version_ready", "another_ready")] == [True] * 4 + [False]
    assert found["server"]["name"] == "churnstream"
    assert found["model"]["versions"] == [read_manifest(MODEL / MANIFEST_FILE).version]
    inputs = {each["name"]: (each["datatype"], each["shape"]) for each in found["model"]["inputs"]}
    assert inputs["features"] == ("FP64", [-1, len(NAMES)])
    assert inputs["user_id"] == ("BYTES", [-1])


@pytest.mark.parametrize("kind", ["json", "binary"])
def test_answers_are_the_boosters_bit_for_bit(told: tuple[dict[str, Any], Served], kind: str) -> None:
    found, rows = told[0][kind], np.array(told[0]["rows"], float)
    answer = expected(rows)
    assert found["vectors"]["probability"] == found["usual"]["probability"] == found["pinned"]["probability"] == answer
    assert found["vectors"]["id"] == "q1"
    assert found["vectors"]["version"] == read_manifest(MODEL / MANIFEST_FILE).version
    assert found["usual"]["churns"] == [each >= read_manifest(MODEL / MANIFEST_FILE).threshold for each in answer]
    assert found["single"]["probability"] == expected(rows.astype(np.float32))
    assert found["whole"]["probability"] == expected(np.nan_to_num(rows).astype(np.int64))
    parts = np.array(found["explained"]["contributions"]).reshape(len(rows), len(NAMES) + 1)
    assert np.abs(parts.sum(axis=1) - found["explained"]["margin"]).max() < 1e-6


def test_both_forms_say_the_same_of_a_customer(told: tuple[dict[str, Any], Served]) -> None:
    found, _ = told
    for name in ("customer", "what_if"):
        assert found["json"][name]["probability"] == found["binary"][name]["probability"]
    assert found["json"]["customer"]["feature_age_s"][0] > 0
    assert all("odds of leaving" in each for each in found["binary"]["customer"]["reasons"] if each)


def test_a_refusal_is_the_protocols(told: tuple[dict[str, Any], Served]) -> None:
    status, sentence = told[0]["refused"]
    assert status == "400"
    assert sentence.startswith("the tensor features has shape [5, 4]")

"""100,000 rows, ordinary and not, have one probability each: over HTTP, from the stream, and by LightGBM itself, to the last bit.

LightGBM itself is ``lightgbm.Booster`` on the model's text and nothing of ours; probabilities are compared as bytes. What adds up
to a margin is asked for over all the rows.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from churnstream.codecs import ARROW, encode_batch
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, read_manifest
from churnstream.records import Record
from churnstream.topology import INFERENCE, SERVING
from churnstream.wiring import open_parts
from tests.functions.river import River, assert_conserved, in_root
from tests.serving.deployed import HEAD_LENGTH, NAME, Deployed, deployed, line

pytestmark = pytest.mark.slow

MODEL = in_root("assets/model/first_day")
MANIFEST = read_manifest(MODEL / MANIFEST_FILE)
NAMES = MANIFEST.features
WIDE = len(NAMES)
ROWS, BATCH, SINGLES = 100_000, 5_000, 1_500
NAN = float("nan")
MOST, LEAST = np.finfo(float).max, np.nextafter(0.0, 1.0)
EXTREMES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    MOST,
    -MOST,
    LEAST,
    -LEAST,
    np.finfo(float).tiny,
    1e-300,
    1e300,
    1e16,
    2.0**53 + 2,
    0.1,
    1 / 3,
    NAN,
)
Matrix = NDArray[np.float64]


def booster() -> lgb.Booster:
    return lgb.Booster(model_str=(MODEL / MODEL_FILE).read_text())


def splits() -> list[float]:
    """Every number at which a tree of the model parts."""
    lines = re.findall(r"^threshold=(.*)$", (MODEL / MODEL_FILE).read_text(), re.MULTILINE)
    return sorted({float(each) for found in lines for each in found.split()})


def all_rows() -> Matrix:
    """Amounts of every size with all their digits, some missing; extremes; the numbers at which trees part, and those beside."""
    rng = np.random.default_rng(6)
    rows = rng.lognormal(0, 3, (ROWS, WIDE)) * rng.choice([1, 1, 1, -1], (ROWS, WIDE))
    rows[::3] = np.round(rows[::3], 2)
    rows[rng.random(rows.shape) < 0.1] = np.nan
    edges = np.array(splits())
    near = np.concatenate([edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)])
    rows[1::4] = np.where(rng.random((ROWS // 4, WIDE)) < 0.5, rng.choice(near, (ROWS // 4, WIDE)), rows[1::4])
    rows[2::10] = rng.choice(EXTREMES, (ROWS // 10, WIDE))
    rows[: len(EXTREMES)] = np.array(EXTREMES)[:, None]  # and nothing but each
    return rows


@pytest.fixture(scope="module")
def rows() -> Matrix:
    return all_rows()


@pytest.fixture(scope="module")
def expected(rows: Matrix) -> Matrix:
    """By LightGBM itself."""
    return np.asarray(booster().predict(rows, num_threads=1))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    river = River(tmp_path_factory.mktemp("same") / "home", "first_day")
    with deployed(river) as found:
        yield found


def assert_same(found: Any, wanted: Matrix) -> None:
    """To the last bit."""
    assert np.array(found, np.float64).tobytes() == wanted.tobytes()


def spelt(part: Matrix) -> list[list[float | None]]:
    """Rows as JSON has them."""
    return [[None if value != value else value for value in row] for row in part.tolist()]


def flat(part: Matrix) -> list[float | None]:
    return [value for row in spelt(part) for value in row]


def tensor(part: Matrix, **more: Any) -> dict[str, Any]:
    return {"name": "features", "datatype": "FP64", "shape": list(part.shape), **more}


def in_bytes(part: Matrix, **asked: Any) -> tuple[bytes, dict[str, str]]:
    """A request in the protocol's binary extension, and its headers."""
    given = tensor(part, parameters={"binary_data_size": part.nbytes})
    head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}, **asked}).encode()
    return head + part.astype("<f8").tobytes(), {HEAD_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}


def outputs(told: Any) -> dict[str, Any]:
    """An answer's tensors by name, from its JSON or from behind it."""
    assert told.status == 200, told.raw[:500]
    found, start = {}, 0
    for each in told.body["outputs"]:
        size = each.get("parameters", {}).get("binary_data_size", 0)
        piece = told.rest[start : start + size]
        start += size
        found[each["name"]] = np.frombuffer(piece, "<f8") if size and each["datatype"] == "FP64" else each.get("data", piece)
    return found


def batches(rows: Matrix) -> Iterator[Matrix]:
    return (rows[start : start + BATCH] for start in range(0, len(rows), BATCH))


def test_what_is_served_is_calibrated_and_the_rows_reach_every_edge(rows: Matrix, expected: Matrix) -> None:
    assert (MANIFEST.calibration.method, MANIFEST.calibration.slope != 1) == ("sigmoid", True)
    assert rows.shape == (ROWS, WIDE)
    assert len(set(expected.tolist())) > 20_000  # a row each, or nearly
    assert set(splits()) <= set(rows.ravel().tolist())
    assert_same(booster().predict(rows, num_threads=2), expected)  # however many threads


@pytest.mark.parametrize("form", ["rows", "tensor", "columns", "bytes"])
def test_every_form_over_http_is_the_boosters(served: Deployed, rows: Matrix, expected: Matrix, form: str) -> None:
    found: list[Any] = []
    with line(served) as asking:
        for part in batches(rows):
            if form == "rows":
                told = asking.ask({"inputs": spelt(part)})
                assert told.status == 200, told.raw[:500]
                found += told.body["outputs"]
                continue
            if form == "tensor":
                told = asking.ask({"inputs": [tensor(part, data=flat(part))]})
            elif form == "columns":
                columns = zip(NAMES, zip(*spelt(part), strict=True), strict=True)
                given = [{"name": name, "datatype": "FP64", "shape": [len(part)], "data": data} for name, data in columns]
                told = asking.ask({"inputs": given})
            else:
                body, headers = in_bytes(part)
                told = asking.ask(body, headers=headers)
            found += list(outputs(told)["probability"])
    assert_same(found, expected)


def test_one_at_a_time_is_the_boosters_too(served: Deployed, rows: Matrix, expected: Matrix) -> None:
    with line(served) as asking:
        for place in range(SINGLES):
            row = rows[place : place + 1]
            (one,) = asking.ask({"inputs": spelt(row)}).body["outputs"]
            (two,) = outputs(asking.ask({"inputs": [tensor(row, data=flat(row))]}))["probability"]
            body, headers = in_bytes(row)
            (three,) = outputs(asking.ask(body, headers=headers))["probability"]
            (four,) = asking.ask({"inputs": [dict(zip(NAMES, spelt(row)[0], strict=True))]}).body["outputs"]
            assert_same([one, two, three, four], expected[place].repeat(4))


def test_whole_numbers_are_those_numbers(served: Deployed) -> None:
    whole = [[10**300, -(10**22), 2**53 + 1, 0, 1, 3, 2**64 + 1, -5, 7, 123456789123456789, 9, 2**63, 8]]
    with line(served) as asking:
        found = [*asking.ask({"inputs": whole}).body["outputs"], *asking.ask({"inputs": whole * 30}).body["outputs"]]
        found += outputs(asking.ask({"inputs": [{"datatype": "FP64", "shape": [1, WIDE], "data": whole[0]}]}))["probability"]
    assert_same(found, booster().predict(np.array(whole, float), num_threads=1).repeat(32))


def test_the_stream_is_the_boosters(served: Deployed, rows: Matrix, expected: Matrix) -> None:
    send(served.river, rows)
    served.client.drain(NAME, timedelta(seconds=60))
    told = served.river.rows(INFERENCE)
    assert sorted(each["user_id"] for each in told) == sorted(f"c{place}" for place in range(ROWS))
    found = {each["user_id"]: each["probability"] for each in told}
    assert_same([found[f"c{place}"] for place in range(ROWS)], expected)
    assert {each["model"] for each in told} == {MANIFEST.version}
    assert_conserved(served.river, NAME)


def send(river: River, rows: Matrix, each: int = 500) -> None:
    """Put the rows into the serving stream as stream-to-features does, one customer a row."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with river.environment():
        parts = open_parts("stream-to-features")
    for number, start in enumerate(range(0, len(rows), each)):
        part = rows[start : start + each]
        columns: dict[str, Any] = {
            "user_id": pa.array([f"c{start + place}" for place in range(len(part))]),
            "event_time": pa.array([now] * len(part), pa.timestamp("us", "UTC")),
            "origin_offset": pa.array([number] * len(part), pa.int64()),
            "origin_row": pa.array(range(len(part)), pa.int32()),
        }
        columns |= {name: pa.array(part[:, at]) for at, name in enumerate(NAMES)}
        payload = encode_batch(pa.RecordBatch.from_pydict(columns))
        with parts.begin() as unit:
            unit.append(SERVING, Record(payload, len(part), headers={"content-type": ARROW}))
    parts.close()


def test_contributions_add_up_on_all_of_them(served: Deployed, rows: Matrix) -> None:
    names = ("probability", "margin", "contributions")
    asked = [{"name": each, "parameters": {"binary_data": True}} for each in names]

    def explained(part: Matrix) -> dict[str, Any]:
        body, headers = in_bytes(part, outputs=asked)
        with line(served) as asking:
            return outputs(asking.ask(body, "/v2/models/churn/infer?explain=true", headers))

    with ThreadPoolExecutor(1) as pool:
        told = pool.map(explained, batches(rows))
        for part, found in zip(batches(rows), told, strict=True):
            wanted = booster().predict(part, num_threads=1, pred_contrib=True)
            parts = found["contributions"].reshape(len(part), WIDE + 1)
            assert_same(parts, wanted)
            assert_same(found["margin"], booster().predict(part, num_threads=1, raw_score=True))
            assert np.abs(parts.sum(axis=1) - found["margin"]).max() <= 1e-6
            assert_same(found["probability"], booster().predict(part, num_threads=1))
    with line(served) as asking:  # and in words
        part = rows[:1_000]
        answer = asking.ask({"inputs": spelt(part)}, "/v2/models/churn/infer?explain=true").body
    told = answer["explanations"]
    assert_same([[*each["contributions"].values(), each["base"]] for each in told], booster().predict(part, pred_contrib=True))
    assert max(abs(sum(each["contributions"].values()) + each["base"] - each["margin"]) for each in told) <= 1e-6

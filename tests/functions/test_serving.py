"""Serving: the same probability over HTTP and from the stream, and a sentence for whoever asks wrongly."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pytest

from churnstream.errors import ChurnstreamError, FingerprintMismatch, InvalidModel
from churnstream.graph.engine import StateReader
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, Manifest, digest, read_manifest, write_manifest
from churnstream.topology import FEATURES, INFERENCE, SERVING
from churnstream.wiring import open_table
from tests.doors import Door
from tests.functions.river import River, assert_conserved, in_root

NAME, INFER = "serving", "/v2/models/churn/infer"
MODEL = in_root("assets/model/first_day")
NAMES = read_manifest(MODEL / MANIFEST_FILE).features


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    river = River(tmp_path_factory.mktemp("template"), "first_day")
    river.job("enrichment-table", "build")
    river.generate(customers=20, events=1_000)
    river.flow("incoming-event-handler", "enrich-stream", "stream-to-features")
    return river.home


@pytest.fixture
def scored(template: Path, tmp_path: Path) -> River:
    """A river in which vectors wait in the serving stream."""
    return River(Path(shutil.copytree(template, tmp_path / "home")), "first_day")


@pytest.fixture(scope="module")
def asking(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[River, Door]]:
    """A river and its serving function, for questions that change neither."""
    river = River(Path(shutil.copytree(template, tmp_path_factory.mktemp("asking") / "home")), "first_day")
    with river.door(NAME) as door:
        yield river, door


def booster() -> lgb.Booster:
    return lgb.Booster(model_str=(MODEL / MODEL_FILE).read_text())


def expected(matrix: Any) -> list[float]:
    return list(booster().predict(np.array(matrix, float), num_threads=1).tolist())


def ask(door: Door, body: Any, path: str = INFER) -> dict[str, Any]:
    response = door.post(body, path)
    assert response.status_code == 200, response.body
    return dict(json.loads(response.body))


def vectors(river: River) -> dict[str, list[float]]:
    """Every customer's features as the table holds them."""
    reader, table = StateReader(river.case), open_table(FEATURES, river.settings)
    found = {key: reader.vector(state) for key, state in table.items()}
    table.close()
    return {key: vector.tolist() for key, vector in found.items() if vector is not None}


def test_every_vector_of_the_stream_becomes_one_prediction_bit_for_bit_the_boosters(scored: River) -> None:
    scored.flow(NAME)
    asked, told = scored.rows(SERVING), scored.rows(INFERENCE)
    assert len(told) == len(asked) > 500
    for before, after in zip(asked, told, strict=True):
        assert all(after[name] == before[name] for name in ("user_id", "event_time", "origin_offset", "origin_row"))
    assert [each["probability"] for each in told] == expected([[each[name] for name in NAMES] for each in asked])
    manifest = read_manifest(MODEL / MANIFEST_FILE)
    assert {each["model"] for each in told} == {manifest.version}
    assert [each["churns"] for each in told] == [each["probability"] >= manifest.threshold for each in told]
    assert_conserved(scored, NAME)


def test_the_stream_and_http_answer_alike_bit_for_bit(scored: River) -> None:
    with scored.door(NAME) as door:
        door.pump()
        asked = [[None if each[name] != each[name] else each[name] for name in NAMES] for each in scored.rows(SERVING)]
        answer = ask(door, {"inputs": asked})
    assert answer["outputs"] == [each["probability"] for each in scored.rows(INFERENCE)]


def test_a_record_is_scored_once_also_after_a_restart(scored: River) -> None:
    scored.flow(NAME)
    before = scored.rows(INFERENCE)
    record = scored.records(SERVING)[0]
    with scored.door(NAME) as door:
        door.apply(SERVING, record.shard, record)
        assert door.pump() == 0
    assert scored.rows(INFERENCE) == before


def test_a_customer_is_looked_up_and_scored_as_the_table_has_them(asking: tuple[River, Door]) -> None:
    river, door = asking
    known = vectors(river)
    assert len(known) == 20
    answer = ask(door, {"id": "q1", "inputs": [{"user_id": user} for user in known]})
    assert answer["outputs"] == expected(list(known.values()))
    assert (answer["id"], answer["model_name"], answer["model_version"]) == (
        "q1",
        "churn",
        read_manifest(MODEL / MANIFEST_FILE).version,
    )
    assert answer["churns"] == [probability >= 0.5 for probability in answer["outputs"]]


def test_given_features_stand_above_those_that_were_looked_up(asking: tuple[River, Door]) -> None:
    river, door = asking
    user, vector = next(iter(vectors(river).items()))
    changed = [*vector]
    changed[NAMES.index("bet_sum")], changed[NAMES.index("win_sum")] = 1e6, float("nan")
    answer = ask(door, {"inputs": [{"user_id": user, "bet_sum": 1e6, "win_sum": None}, {"user_id": user}]})
    assert answer["outputs"] == expected([changed, vector])


def test_named_features_need_no_customer(asking: tuple[River, Door]) -> None:
    vector = [0.5, 20.0, 10.0, 2.0, None, 5.0, 5.0, 1.0, None, 0.0, None, 0.0, None]
    answer = ask(asking[1], {"inputs": [dict(zip(NAMES, vector, strict=True)), vector]})
    assert answer["outputs"] == expected([vector, vector])


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("shape", [None, [2, 13]])
def test_a_tensor_of_the_open_inference_protocol_is_its_rows(asking: tuple[River, Door], nested: bool, shape: Any) -> None:
    rows = [[float(place + row) for place in range(13)] for row in (0, 100)]
    tensor = {"name": "features", "datatype": "FP64", "data": rows if nested else rows[0] + rows[1]}
    answer = ask(asking[1], {"inputs": [tensor | ({"shape": shape} if shape else {})]})
    assert answer["outputs"] == expected(rows)


def test_bytes_and_what_a_platform_has_parsed_are_one_question(asking: tuple[River, Door]) -> None:
    body = {"inputs": [[1.0] * 13]}
    assert ask(asking[1], json.dumps(body).encode())["outputs"] == ask(asking[1], body)["outputs"]


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready", "/v2/models/churn", "/v2/models/churn/ready"])
def test_the_protocols_questions_of_health_are_answered(asking: tuple[River, Door], path: str) -> None:
    assert asking[1].post(None, path, method="GET").status_code == 200


ROW = [1.0] * 13
WRONG = [
    (None, 400, "the body has no list called inputs; send"),
    ({}, 400, "the body has no list called inputs; send"),
    ([], 400, "the body has no list called inputs; send"),
    (b"", 400, "failed to json decode event"),
    (b"nonsense", 400, "failed to json decode event"),
    ({"inputs": 5}, 400, "the body has no list called inputs; send"),
    ({"inputs": []}, 400, "inputs is empty; send"),
    ({"inputs": ["ann"]}, 400, "row 0 is a str; send"),
    ({"inputs": [ROW, ROW[1:]]}, 400, "row 1 has 12 numbers, the model takes 13: socioeconomic_idx, purchase_sum"),
    ({"inputs": [["1", *ROW[1:]]]}, 400, "row 0, socioeconomic_idx is a str; a feature is a number, or null where it is unknown"),
    ({"inputs": [[True, *ROW[1:]]]}, 400, "row 0, socioeconomic_idx is a bool"),
    ({"inputs": [[ROW, *ROW[1:]]]}, 400, "row 0, socioeconomic_idx is a list"),
    ({"inputs": [[float("nan"), *ROW[1:]]]}, 400, "row 0, socioeconomic_idx is nan; a feature is a finite number"),
    ({"inputs": [[float("-inf"), *ROW[1:]]]}, 400, "row 0, socioeconomic_idx is -inf; a feature is a finite number"),
    ({"inputs": [[10**400, *ROW[1:]]]}, 400, "row 0, socioeconomic_idx is 10000000000000000000; a feature is a finite number"),
    ({"inputs": [{"bet_summ": 1}]}, 400, "row 0 names 'bet_summ', which is no feature of the model"),
    ({"inputs": [{"bet_sum": 1}]}, 400, "row 0 lacks socioeconomic_idx; give every feature"),
    ({"inputs": [{"user_id": 5}]}, 400, "row 0 has a user_id that is no text"),
    ({"inputs": [{"user_id": ""}]}, 400, "row 0 has a user_id that is no text"),
    ({"inputs": [{"user_id": "nobody"}]}, 404, "no features are known for the customer 'nobody'"),
    ({"inputs": [ROW] * 10_001}, 400, "10001 rows were asked for at once; at most 10000 are answered"),
    ({"inputs": [{"data": {}}]}, 400, "one tensor is taken, with its data as a list"),
    ({"inputs": [{"data": ROW}, {"data": ROW}]}, 400, "one tensor is taken, with its data as a list"),
    ({"inputs": [{"data": ROW, "shape": [2, 13]}]}, 400, "the tensor has shape [2, 13] and 13 numbers; the model takes [n, 13]"),
    ({"inputs": [{"data": ROW, "shape": [13]}]}, 400, "the tensor has shape [13] and 13 numbers; the model takes [n, 13]"),
    (
        {"inputs": [{"data": ROW, "shape": [-1, 13]}]},
        400,
        "the tensor has shape [-1, 13] and 13 numbers; the model takes [n, 13]",
    ),
    ({"inputs": [{"data": [ROW, 5]}]}, 400, "the tensor has shape None and 14 numbers; the model takes [n, 13]"),
    ({"inputs": [{"data": [1, ROW[1:]]}]}, 200, ""),
]


@pytest.mark.parametrize(("body", "status", "sentence"), WRONG)
def test_who_asks_wrongly_is_told_how_to_ask(asking: tuple[River, Door], body: Any, status: int, sentence: str) -> None:
    response = asking[1].post(body, INFER)
    assert response.status_code == status
    if sentence:
        told = response.body.decode() if isinstance(response.body, bytes) else str(response.body)
        assert told.removeprefix("MLRunBadRequestError: ").removeprefix("MLRunNotFoundError: ").startswith(sentence)
        assert "caused by" not in told


def test_a_question_that_was_wrong_leaves_the_next_one_right(asking: tuple[River, Door]) -> None:
    asking[1].post({"inputs": 5}, INFER)
    assert ask(asking[1], {"inputs": [ROW]})["outputs"] == expected([ROW])


# -- a model that does not fit --------------------------------------------------------------------------------------------


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A copy of the model, to tamper with."""
    return Path(shutil.copytree(MODEL, tmp_path / "model"))


def change_manifest(folder: Path, **changes: Any) -> None:
    fields = {name: getattr(read_manifest(folder / MANIFEST_FILE), name) for name in Manifest.__struct_fields__}
    write_manifest(Manifest(**(fields | changes)), folder / MANIFEST_FILE)


def start(river: River, model: Path) -> None:
    """Start serving it; raises why the model was refused, which MLRun wraps into an error of its own."""
    try:
        with river.door(NAME, model):
            pass
    except RuntimeError as wrapped:
        raise wrapped.__cause__ or wrapped from None


def test_a_copy_of_the_model_is_taken(river: River, model: Path) -> None:
    with river.door(NAME, model) as door:
        assert ask(door, {"inputs": [ROW]})["outputs"] == expected([ROW])


def test_a_models_text_that_was_tampered_with_is_refused(river: River, model: Path) -> None:
    text = (model / MODEL_FILE).read_text()
    (model / MODEL_FILE).write_text(text.replace("leaf_value=", "leaf_value=0", 1))
    with pytest.raises(InvalidModel, match="the model's text is not the one its manifest was written for"):
        start(river, model)


def test_a_model_of_other_features_is_refused(river: River, model: Path) -> None:
    change_manifest(model, fingerprint="0123456789abcdef")
    with pytest.raises(FingerprintMismatch, match="was trained on features 0123456789abcdef, the running ones are"):
        start(river, model)


def test_a_model_of_the_same_features_in_another_order_is_refused(river: River, model: Path) -> None:
    change_manifest(model, features=tuple(reversed(NAMES)))
    with pytest.raises(FingerprintMismatch, match="train again on the running definitions"):
        start(river, model)


def test_a_text_that_is_no_model_is_refused_though_its_manifest_fits(river: River, model: Path) -> None:
    (model / MODEL_FILE).write_text("tree\nnonsense\n")
    change_manifest(model, model_sha256=digest("tree\nnonsense\n"))
    with pytest.raises(InvalidModel, match="is no LightGBM model"):
        start(river, model)


@pytest.mark.parametrize(
    "content", [None, b"", b"[]", b"{}", b'{"manifest_version": 1}', b'{"manifest_version": 2}', b"\x80\x04K\x01."]
)
def test_a_model_without_a_manifest_that_can_be_read_is_refused(river: River, model: Path, content: bytes | None) -> None:
    (model / MANIFEST_FILE).unlink()
    if content is not None:
        (model / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(ChurnstreamError, match=r"is no model manifest|has manifest version"):
        start(river, model)

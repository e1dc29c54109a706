"""Serving: the same probability over HTTP and from the stream, and a sentence for whoever asks wrongly."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lightgbm as lgb
import numpy as np
import pandas as pd
import pytest

from churnstream.graph.engine import StateReader
from churnstream.models.manifest import MANIFEST_FILE, MODEL_FILE, digest, read_manifest
from churnstream.topology import FEATURES, INFERENCE, SERVING
from churnstream.wiring import open_registry, open_table, open_withdrawals
from tests.doors import Door
from tests.functions.river import River, assert_conserved, in_root
from tests.functions.signing import change_manifest
from tests.serving import small_models
from tests.waiting import wait_until

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


def probabilities(answer: dict[str, Any]) -> list[float]:
    """Those of an answer in tensors."""
    (found,) = [each for each in answer["outputs"] if each["name"] == "probability"]
    assert (found["datatype"], found["shape"]) == ("FP64", [len(found["data"])])
    return list(found["data"])


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


@pytest.mark.parametrize(("nested", "shape"), [(False, [2, 13]), (True, None), (True, [2, 13])])
def test_a_tensor_of_the_open_inference_protocol_is_its_rows(asking: tuple[River, Door], nested: bool, shape: Any) -> None:
    rows = [[float(place + row) for place in range(13)] for row in (0, 100)]
    tensor = {"name": "features", "datatype": "FP64", "data": rows if nested else rows[0] + rows[1]}
    answer = ask(asking[1], {"inputs": [tensor | ({"shape": shape} if shape else {})]})
    assert probabilities(answer) == expected(rows)


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
    (b"", 400, "the body is no JSON: Input data was truncated"),
    (b"nonsense", 400, "the body is no JSON: JSON is malformed"),
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
    ({"inputs": [{"data": {}}]}, 400, "an input is no tensor: it takes a name"),
    ({"inputs": [{"data": ROW}, {"data": ROW}]}, 400, "two tensors are called features"),
    ({"inputs": [{"data": ROW, "shape": [2, 13]}]}, 400, "the tensor features has shape [2, 13] and 13 values"),
    ({"inputs": [{"data": ROW, "shape": [13]}]}, 400, "the tensor features has shape [13]; the model takes features [n, 13]"),
    ({"inputs": [{"data": ROW, "shape": [-1, 13]}]}, 400, "the tensor features has shape [-1, 13] and 13 values"),
    ({"inputs": [{"data": [], "shape": [0, 13]}]}, 400, "the tensor features has shape [0, 13] and 0 values"),
    ({"inputs": [{"data": [ROW, 5]}]}, 400, "the tensor features has shape [2, 13] and 14 values"),
    ({"inputs": [{"data": [ROW[1:]]}]}, 400, "the tensor features has shape [1, 12]; the model takes features [n, 13]"),
    ({"inputs": [{"data": [[*ROW[1:], True]]}]}, 400, "the tensor features is FP64, and its value 12 is a bool"),
    ({"inputs": [{"data": [[*ROW[1:], "1"]]}]}, 400, "the tensor features is FP64, and its value 12 is a str"),
    ({"inputs": [{"data": [[*ROW[1:], 1e400]]}]}, 400, "the tensor features has a value that is no finite FP64"),
    ({"inputs": [{"data": [ROW], "datatype": "FP8"}]}, 400, "the tensor features has the datatype 'FP8'; there are BOOL"),
    ({"inputs": [{"data": [[300] * 13], "datatype": "INT8"}]}, 400, "the tensor features has a value that is no finite INT8"),
    ({"inputs": [{"data": [ROW], "datatype": "INT32"}]}, 400, "the tensor features is INT32, and its value 0 is a float"),
    ({"inputs": [{"name": "bet_sum", "data": [1.0]}]}, 400, "there is no tensor socioeconomic_idx"),
    ({"inputs": [{"name": "user_id", "data": [1.0]}]}, 400, "the tensor user_id is FP64 [1]; it holds one text (BYTES) a row"),
    (
        {"inputs": [{"name": "user_id", "datatype": "BYTES", "data": ["a", "b"]}, {"name": "bet_sum", "data": [1.0]}]},
        400,
        "the tensor bet_sum has 1 rows and user_id has 2",
    ),
    ({"inputs": [{"name": "user_id", "datatype": "BYTES", "data": ["nobody"]}]}, 404, "no features are known"),
    ({"inputs": [ROW], "parameters": 5}, 400, "parameters is an object"),
    ({"inputs": [ROW], "parameters": {"explain": "yes"}}, 400, "the parameter explain is 'yes'; it is true or false"),
    ({"inputs": [ROW], "parameters": {"as_of": "now"}}, 400, "the parameter as_of is 'now'; it is an instant"),
    ({"inputs": [ROW], "outputs": [{"name": "price"}]}, 400, "there is no output 'price'; there are probability"),
    ({"inputs": [ROW], "outputs": [{"name": "feature_age_s"}]}, 400, "feature_age_s was asked for, and not every row"),
    ({"inputs": [ROW], "id": 5}, 400, "the id of a request is a text"),
]


@pytest.mark.parametrize(("body", "status", "sentence"), WRONG)
def test_who_asks_wrongly_is_told_how_to_ask(asking: tuple[River, Door], body: Any, status: int, sentence: str) -> None:
    response = asking[1].post(body, INFER)
    assert response.status_code == status
    if sentence:
        told = json.loads(response.body)
        assert list(told) == ["error"]
        assert told["error"].startswith(sentence)


def test_a_question_that_was_wrong_leaves_the_next_one_right(asking: tuple[River, Door]) -> None:
    asking[1].post({"inputs": 5}, INFER)
    assert ask(asking[1], {"inputs": [ROW]})["outputs"] == expected([ROW])


def test_a_copy_of_the_model_is_taken(river: River, tmp_path: Path) -> None:
    with river.door(NAME, Path(shutil.copytree(MODEL, tmp_path / "model"))) as door:
        assert ask(door, {"inputs": [ROW]})["outputs"] == expected([ROW])


# -- the protocol ---------------------------------------------------------------------------------------------------------

VERSION = read_manifest(MODEL / MANIFEST_FILE).version
ASKED = [
    ("GET", "/v2", 200, "extensions"),
    ("GET", "/v2/", 200, "extensions"),
    ("GET", "/", 200, "extensions"),
    ("GET", "/v2/health/live", 200, "live"),
    ("GET", "/v2/health/ready", 200, "ready"),
    ("GET", "/v2/models", 200, "models"),
    ("GET", "/v2/models/churn", 200, "inputs"),
    ("GET", "/v2/models/churn/ready", 200, "ready"),
    ("GET", f"/v2/models/churn/versions/{VERSION}", 200, "outputs"),
    ("GET", f"/v2/models/churn/versions/{VERSION}/ready", 200, "ready"),
    ("GET", "/v2/models/churn/rollout", 200, "arms"),
    ("POST", f"/v2/models/churn/versions/{VERSION}/infer", 200, "outputs"),
    ("POST", "/v2/models/churn/predict", 200, "outputs"),
    ("POST", "/v2/models/churn/explain", 200, "explanations"),
    ("POST", "/", 200, "outputs"),
    ("GET", "/v2/models/nobody", 404, "there is no model 'nobody'; there is churn"),
    ("GET", "/v2/models/nobody/ready", 404, "there is no model 'nobody'"),
    ("GET", "/v2/models/churn/versions/7/ready", 404, "churn has no version '7' here; it has "),
    ("POST", "/v2/models/churn/versions/7/infer", 404, "churn has no version '7' here; it has "),
    ("POST", "/v2/models/nobody/infer", 404, "there is no model 'nobody'"),
    ("POST", "/v2/models/churn/train", 404, "a model has no operation 'train'"),
    ("GET", "/v2/models/churn/infer/more", 404, "there is nothing at /v2/models/churn/infer/more"),
    ("GET", "/v1/models", 404, "there is nothing at /v1/models"),
    ("GET", INFER, 405, f"{INFER} is for POST only"),
    ("POST", "/v2/health/live", 405, "/v2/health/live is for GET only"),
]


@pytest.mark.parametrize(("method", "path", "status", "told"), ASKED)
def test_every_route_of_the_protocol_is_answered(
    asking: tuple[River, Door], method: str, path: str, status: int, told: str
) -> None:
    response = asking[1].post({"inputs": [ROW]} if method == "POST" else b"", path, method=method)
    assert response.status_code == status
    assert response.content_type == "application/json"
    answer = json.loads(response.body)
    if status == 200:
        assert told in answer
    else:
        assert list(answer) == ["error"]
        assert answer["error"].startswith(told)


def test_mlruns_own_handler_gives_the_same_answers(asking: tuple[River, Door]) -> None:
    river, door = asking
    user = next(iter(vectors(river)))
    bodies = [{"inputs": [ROW]}, {"inputs": [{"data": [ROW], "shape": [1, 13]}]}, {"inputs": [{"user_id": user}]}]
    bodies += [{"inputs": 5}, {"inputs": [{"user_id": "nobody"}]}]
    ours = [door.post(body, INFER) for body in bodies]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(door.module, "answer", None)  # and MLRun's is called
        theirs = [door.post(body, INFER) for body in bodies]
    for one, other in zip(ours, theirs, strict=True):
        assert one.status_code == other.status_code
        assert json.loads(one.body) == json.loads(other.body)


def test_the_time_of_day_and_silence_count(template: Path, tmp_path: Path) -> None:
    river = River(Path(shutil.copytree(template, tmp_path / "home")), "first_day")
    now = datetime(2026, 6, 1, tzinfo=UTC)
    with river.door(NAME, clock=lambda: now) as door:
        known = StateReader(river.case)
        table = open_table(FEATURES, river.settings)
        user, state = next((key, state) for key, state in table.items() if known.vector(state) is not None)
        table.close()
        answer = ask(door, {"inputs": [{"user_id": user}]})
        assert datetime.fromisoformat(answer["as_of"][0]) == now
        assert answer["feature_age_s"] == [(now - known.newest(state)).total_seconds()]
        later = ask(door, {"inputs": [{"user_id": user}], "parameters": {"as_of": "2026-07-01"}})
        assert later["feature_age_s"][0] == answer["feature_age_s"][0] + 30 * 86_400
        past = door.post({"inputs": [{"user_id": user}], "parameters": {"as_of": "2025-01-01T00:00:00Z"}}, INFER)
        assert past.status_code == 400
        assert b"windows are not kept for the past" in past.body


def test_an_explanation_adds_up_and_names_the_features(asking: tuple[River, Door]) -> None:
    river, door = asking
    known = list(vectors(river).items())[:5]
    body = {"inputs": [{"user_id": user} for user, _ in known]}
    answer = ask(door, body | {"parameters": {"explain": True}})
    assert ask(door, body, "/v2/models/churn/explain")["explanations"] == answer["explanations"]
    margins = booster().predict(np.array([vector for _, vector in known]), raw_score=True, num_threads=1)
    for told, margin in zip(answer["explanations"], margins, strict=True):
        assert list(told["contributions"]) == list(NAMES)
        assert told["margin"] == margin
        assert abs(sum(told["contributions"].values()) + told["base"] - margin) < 1e-6
        assert len(told["reasons"]) == 3
    (tensor,) = ask(door, body | {"outputs": [{"name": "contributions"}]})["outputs"]
    assert tensor["shape"] == [5, 14]


def test_named_tensors_are_columns_and_stand_above_what_is_looked_up(asking: tuple[River, Door]) -> None:
    river, door = asking
    known = list(vectors(river).items())[:3]
    users = {"name": "user_id", "datatype": "BYTES", "shape": [3], "data": [user for user, _ in known]}
    bets = {"name": "bet_sum", "datatype": "FP64", "shape": [3, 1], "data": [1.0, None, 3.0]}
    changed = [[*vector] for _, vector in known]
    for row, value in zip(changed, (1.0, float("nan"), 3.0), strict=True):
        row[NAMES.index("bet_sum")] = value
    assert probabilities(ask(door, {"inputs": [users, bets]})) == expected(changed)
    columns = [{"name": name, "datatype": "FP64", "shape": [2], "data": [5.0, 7.0]} for name in NAMES]
    assert probabilities(ask(door, {"inputs": columns})) == expected([[5.0] * 13, [7.0] * 13])


def test_tensors_behind_the_json_are_read_and_written(asking: tuple[River, Door]) -> None:
    rows = np.array([ROW, [2.5] * 13], "<f4")
    tensor = {"name": "features", "datatype": "FP32", "shape": [2, 13], "parameters": {"binary_data_size": rows.nbytes}}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {"Inference_Header_Content_Length": str(len(head))}
    response = asking[1].post(head + rows.tobytes(), INFER, content_type="application/octet-stream", **headers)
    length = int(response.headers["Inference-Header-Content-Length"])
    outputs = json.loads(response.body[:length])["outputs"]
    assert [(each["name"], each["parameters"]["binary_data_size"]) for each in outputs] == [("probability", 16), ("churns", 2)]
    assert np.frombuffer(response.body[length : length + 16], "<f8").tolist() == expected(rows)
    assert len(response.body) == length + 18
    for wrong, sentence in ((b"", "the tensor features says that 104 bytes are FP32"), (b"12345678", "8 bytes follow the JSON")):
        body = head + (rows.tobytes() + wrong if wrong else b"")
        refused = asking[1].post(body, INFER, content_type="application/octet-stream", **headers)
        assert refused.status_code == 400
        assert json.loads(refused.body)["error"].startswith(sentence)


# -- several models -------------------------------------------------------------------------------------------------------


@pytest.fixture
def other(river: River, tmp_path: Path) -> Path:
    """Another model that the river trusts."""
    folder = Path(shutil.copytree(MODEL, tmp_path / "other"))
    text = small_models.text(2)
    (folder / MODEL_FILE).write_text(text)
    change_manifest(river, folder, model_sha256=digest(text), version=digest(text)[:12])
    return folder


def others(folder: Path, matrix: Any) -> list[float]:
    return list(lgb.Booster(model_file=str(folder / MODEL_FILE)).predict(np.array(matrix, float), num_threads=1).tolist())


@pytest.mark.parametrize("role", ["canary", "shadow"])
def test_candidates_answer_their_customers_or_none_and_the_account_stays_exact(river: River, other: Path, role: str) -> None:
    river.job("enrichment-table", "build")
    river.generate(customers=20, events=400)
    river.flow("incoming-event-handler", "enrich-stream", "stream-to-features")
    candidate = {"role": role, "model_path": str(other), "share": 0.5 if role == "canary" else 0.0}
    with river.door(NAME, candidates=[candidate]) as door:
        door.pump()
        told = [each for each in river.rows(INFERENCE) if each["role"] != "shadow"]
        shadows = [each for each in river.rows(INFERENCE) if each["role"] == "shadow"]
        asked = river.rows(SERVING)
        assert_conserved(river, NAME)
        matrix = [[each[name] for name in NAMES] for each in asked]
        place = {(each["user_id"], each["origin_offset"], each["origin_row"]): at for at, each in enumerate(asked)}
        for rows in (told, shadows):
            for each in rows:
                at = place[each["user_id"], each["origin_offset"], each["origin_row"]]
                assert (
                    each["probability"]
                    == (expected if each["role"] == "champion" else lambda m: others(other, m))([matrix[at]])[0]
                )
        users = {each["user_id"]: each["role"] for each in told}
        assert all(users[each["user_id"]] == each["role"] for each in told)
        assert len(told) == len(asked)
        assert len(shadows) == (len(asked) if role == "shadow" else 0)
        assert set(users.values()) == ({"champion", "canary"} if role == "canary" else {"champion"})
        known = vectors(river)
        for user, answered_by in users.items():
            answer = ask(door, {"inputs": [{"user_id": user}]})
            model = expected if answered_by == "champion" else lambda m: others(other, m)
            assert answer["outputs"] == model([known[user]])
            assert (answer["model_version"] == VERSION) == (answered_by == "champion")
        version = read_manifest(other / MANIFEST_FILE).version
        pinned = ask(door, {"inputs": [ROW]}, f"/v2/models/churn/versions/{version}/infer")
        assert (pinned["model_version"], pinned["outputs"]) == (version, others(other, [ROW]))
        before = len(river.rows(INFERENCE))
    assert_conserved(river, NAME)
    assert len(river.rows(INFERENCE)) == before + (len(users) if role == "shadow" else 0)
    if role == "shadow":
        heard = {each["user_id"]: each["probability"] for each in river.rows(INFERENCE) if each["origin_offset"] == -1}
        assert heard == {user: others(other, [known[user]])[0] for user in users}


def test_the_champion_of_the_registry_is_followed(river: River, other: Path) -> None:
    with river.environment():
        registry = open_registry(river.settings)
    nothing = pd.DataFrame({"label": [0]})
    first, second = registry.add(MODEL, nothing), registry.add(other, nothing)
    registry.set_champion(first, datetime.now(UTC), "promote", "a test")
    with river.door(NAME, "champion") as door:
        assert ask(door, {"inputs": [ROW]})["model_version"] == first
        registry.set_champion(second, datetime.now(UTC), "promote", "a test")
        answer = wait_until(lambda: (told := ask(door, {"inputs": [ROW]}))["model_version"] == second and told)
        assert answer["outputs"] == others(other, [ROW])


def test_a_quiet_function_writes_what_shadows_said_after_a_moment(river: River, other: Path) -> None:
    quiet = River(river.home, "first_day", CHURNSTREAM_SHADOW_SECONDS="0.01")
    with quiet.door(NAME, candidates=[{"role": "shadow", "model_path": str(other)}]) as door:
        ask(door, {"inputs": [{"user_id": "ann", **dict(zip(NAMES, ROW, strict=True))}]})
        assert river.rows(INFERENCE) == []  # nobody waited for it
        (told,) = wait_until(lambda: door.run(asyncio.sleep(0.01)) or river.rows(INFERENCE), "the shadow's row", seconds=20)
        assert (told["role"], told["user_id"], told["probability"]) == ("shadow", "ann", others(other, [ROW])[0])


def test_how_old_a_look_up_may_be_and_how_many_are_held_is_set_and_told(template: Path, tmp_path: Path) -> None:
    told = {"CHURNSTREAM_STALENESS_SECONDS": "0", "CHURNSTREAM_CACHED_CUSTOMERS": "4"}
    river = River(Path(shutil.copytree(template, tmp_path / "set")), "first_day", **told)
    with river.door(NAME) as door:
        parameters = json.loads(door.post(b"", "/v2/models/churn", method="GET").body)["parameters"]
        assert (parameters["staleness_s"], parameters["cached_customers"]) == (0, 4)
        customers = door.module.SERVED["churn"].customers
        before, known = customers.looks, list(vectors(river))
        for _ in range(2):
            ask(door, {"inputs": [{"user_id": user} for user in known]})
        assert customers.looks == before + 2 * len(known)  # each time anew
        assert len(customers) <= 4


def test_what_was_withdrawn_is_out_from_the_first_request_on(river: River, other: Path) -> None:
    version = read_manifest(other / MANIFEST_FILE).version
    open_withdrawals(river.settings).withdraw(version, "canary", "it failed yesterday", datetime.now(UTC))
    candidate = {"role": "canary", "model_path": str(other), "share": 0.99}
    with river.door(NAME, candidates=[candidate]) as door:
        asked = [{"user_id": f"u{number}", **dict(zip(NAMES, ROW, strict=True))} for number in range(20)]
        assert ask(door, {"inputs": asked})["outputs"] == expected([ROW] * 20)
        report = json.loads(door.post(b"", "/v2/models/churn/rollout", method="GET").body)
        assert report["arms"][1]["rolled_back"] == "it failed yesterday"

"""What is asked most is answered by a shorter way, and nobody can tell from the answer."""

import json
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from churnstream.errors import UnknownCustomer
from churnstream.serving.arms import SHADOW, Arm
from churnstream.serving.protocol import Service
from churnstream.serving.requests import Known
from churnstream.serving.rollout import Rollout
from churnstream.serving.served import ServedModel
from churnstream.serving.shortcut import answer_plainly
from tests.serving.small_models import NAMES, TABLE, scorer

WIDE = len(NAMES)
INFER = "/v2/models/churn/infer"
RNG = random.Random(11)
ROW = [round(RNG.lognormvariate(0, 3), 5) for _ in range(WIDE)]


class Someone:
    """Knows customers whose names are numbers, since noon."""

    staleness, most = timedelta(seconds=1), 1

    def __call__(self, user_id: str) -> Known:
        if not user_id.isdecimal():
            raise UnknownCustomer(f"no features are known for the customer {user_id!r}")
        number = int(user_id)
        newest = datetime(2026, 1, 1, 12, tzinfo=UTC)
        silent = timedelta(microseconds=number) if number % 2 else timedelta(days=number)
        return Known([each + number for each in ROW], newest + silent, newest)


def model(name: str = "churn", *candidates: Arm) -> ServedModel:
    return ServedModel(name, TABLE, Rollout(scorer(), candidates), Someone())  # type: ignore[arg-type]


def tensor(**more: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "features", "shape": [1, WIDE], "datatype": "FP64", "data": ROW} | more]}


SHORT = [
    *(
        tensor(data=[RNG.choice((0, 1, -5, 0.1, 1e-300, 1e300, RNG.random(), RNG.expovariate(9))) for _ in ROW])
        for _ in range(200)
    ),
    tensor(data=[0] * WIDE),
    tensor(name=""),
    *({"inputs": [{"user_id": str(number)}]} for number in range(50)),
]
USUAL: list[Any] = [
    tensor() | {"id": "1"},
    tensor() | {"parameters": {}},
    tensor(parameters={}, data=[[*ROW]]),
    tensor(shape=[WIDE, 1]),
    tensor(datatype="FP32"),
    tensor(data=[None, *ROW[1:]]),
    tensor(data=[True, *ROW[1:]]),
    tensor(data=[1e308] * WIDE),
    tensor(data=ROW[1:]),
    tensor(data="x" * WIDE),
    tensor(name=None),
    {"inputs": [ROW]},
    {"inputs": [ROW, ROW]},
    {"inputs": []},
    {"inputs": [[]]},
    {"inputs": [{}]},
    {"inputs": [7]},
    {"inputs": {"user_id": "1"}},
    {"inputs": [{"user_id": ""}]},
    {"inputs": [{"user_id": 7}]},
    {"inputs": [{"user_id": "1", NAMES[0]: 2.0}]},
    {"user_id": "1"},
]


@pytest.mark.parametrize("name", ["churn", 'a "strange" 0]}, näme'])
def test_the_answer_is_that_of_the_usual_way_to_the_last_byte(name: str) -> None:
    served = model(name)
    for body in SHORT:
        told = answer_plainly(served, body)
        assert told == msgspec.json.encode(served.infer(body)), body
    assert served.rollout.champion.rows == 2 * len(SHORT)


@pytest.mark.parametrize("body", USUAL, ids=range(len(USUAL)))
def test_what_is_unusual_takes_the_usual_way(body: Any) -> None:
    served = model()
    assert answer_plainly(served, body) is None if len(body) == 1 else True
    reply = Service({"churn": served}).answer("POST", INFER, {}, {}, body)
    again = Service({"churn": served}).answer("POST", INFER, {}, {}, json.dumps(body).encode())
    assert (reply.status, reply.encoded()) == (again.status, again.encoded())


def test_who_is_not_known_is_told_so() -> None:
    reply = Service({"churn": model()}).answer("POST", INFER, {}, {}, {"inputs": [{"user_id": "nobody"}]})
    assert (reply.status, json.loads(reply.encoded())) == (404, {"error": "no features are known for the customer 'nobody'"})


def test_beside_a_candidate_everybody_takes_the_usual_way() -> None:
    served = model("churn", Arm(scorer(2), SHADOW))
    assert answer_plainly(served, SHORT[0]) is None
    assert Service({"churn": served}).answer("POST", INFER, {}, {}, SHORT[0]).status == 200
    assert served.rollout.candidates[0].rows == 1


@pytest.mark.parametrize(
    "path", [f"{INFER}?explain=true", "/v2/models/churn/explain", f"/v2/models/churn/versions/{'{version}'}/infer"]
)
def test_who_asks_for_more_gets_it(path: str) -> None:
    served = model()
    address, _, query = path.format(version=served.rollout.champion.version).partition("?")
    given = dict([query.split("=")]) if query else {}
    reply = Service({"churn": served}).answer("POST", address, given, {}, {"inputs": [{"user_id": "1"}]})
    assert reply.status == 200
    assert ("explanations" in json.loads(reply.encoded())) is ("explain" in path)

"""The two questions that are asked most, by the shortest way: one vector of plain numbers, and one customer.

Byte for byte what ``ServedModel.infer`` says, as JSON. Whatever is unusual about a question is left to that, and so is everything
that is wrong with it.
"""

from functools import lru_cache
from typing import Any

import msgspec

from churnstream.serving.requests import USER, Known, plain
from churnstream.serving.served import ServedModel
from churnstream.serving.tensors import DOUBLE, FLAG
from churnstream.serving.wishes import AGE, AS_OF, CHURNS, PROBABILITY

_encode = msgspec.json.Encoder().encode


def answer_plainly(model: ServedModel, body: dict[str, Any]) -> bytes | None:
    """The answer to a request that holds nothing but ``inputs``; None where it takes the usual way. Raises UnknownCustomer."""
    rollout = model.rollout
    inputs = body.get("inputs")
    if type(inputs) is not list or len(inputs) != 1 or not rollout.alone:
        return None
    given, champion = inputs[0], rollout.champion
    if type(given) is not dict:
        return None
    known: Known | None = None
    values: Any
    if len(given) == 1:
        user = given.get(USER)
        if type(user) is not str or not user:
            return None
        known = model.customers(user)
        values = known.values
    else:
        values = given.get("data")
        wide = len(model.names)
        if (
            wide < 2
            or given.get("datatype") != DOUBLE
            or given.get("shape") != [1, wide]
            or type(given.get("name")) is not str
            or type(values) is not list
            or len(values) != wide
            or not plain(values)
        ):
            return None
    champion.rows += 1
    probability = champion.scorer.row(values)
    flag = b"true" if champion.decides(probability) else b"false"
    if known is None:
        before, between = _of_vector(model.name, champion.version)
        return b"".join((before, _encode(probability), between, flag, b"]}]}"))
    age = (known.as_of - known.newest).total_seconds()
    head, churns, as_of, silent = _of_customer(model.name, champion.version)
    return b"".join((head, _encode(probability), churns, flag, as_of, _encode(known.as_of), silent, _encode(age), b"]}"))


@lru_cache(maxsize=64)
def _of_vector(name: str, version: str) -> tuple[bytes, bytes]:
    """What stands before and between the two numbers of an answer in tensors."""
    return _head(name, version) + b"[" + _tensor(PROBABILITY, DOUBLE), b"]}," + _tensor(CHURNS, FLAG)


def _tensor(name: str, datatype: str) -> bytes:
    return _encode({"name": name, "datatype": datatype, "shape": [1], "data": []})[:-2]


@lru_cache(maxsize=64)
def _of_customer(name: str, version: str) -> tuple[bytes, ...]:
    """What stands before each of the four values of an answer in lists."""
    return _head(name, version) + b"[", *(f'],"{each}":['.encode() for each in (CHURNS, AS_OF, AGE))


def _head(name: str, version: str) -> bytes:
    return _encode({"model_name": name, "model_version": version})[:-1] + b',"outputs":'

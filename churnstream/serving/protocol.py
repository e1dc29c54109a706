"""The Open Inference Protocol, version 2, over HTTP: every route of it, and errors as it writes them.

Health, readiness and metadata of the server and of models, with and without ``/versions/{version}``, and inference, with tensors
in JSON or in the binary extension (github.com/kserve/open-inference-protocol, "open_inference_rest.yaml"). Beside it: ``POST /``
asks the first model, ``/predict`` is another word for ``/infer``, ``/explain`` for ``/infer?explain=true``, ``GET /v2/models``
lists the models, and ``/rollout`` tells how a model's candidates do.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.metadata import version as installed
from typing import Any

import msgspec

from churnstream.errors import BadRequest, ChurnstreamError, UnknownCustomer, UnknownModel
from churnstream.serving.served import ServedModel
from churnstream.serving.shortcut import answer_plainly
from churnstream.serving.tensors import as_bytes, take_bytes

JSON, BINARY = "application/json", "application/octet-stream"
HEAD_LENGTH = "Inference-Header-Content-Length"
INFER, READY, METADATA, ROLLOUT = "infer", "ready", "", "rollout"
OPERATIONS = {INFER: INFER, "predict": INFER, "explain": INFER, READY: READY, METADATA: METADATA, ROLLOUT: ROLLOUT}
DIGITS = 18  # of a number of bytes
READS, WRITES = ("GET", "HEAD"), ("POST", "PUT")
EXPLAIN = "explain"
YES, NO = frozenset({"true", "1", "yes", ""}), frozenset({"false", "0", "no"})

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)  # not frozen, which would cost every request a microsecond
class Reply:
    """``body`` is what JSON is made of, or, with a ``content_type`` other than JSON, bytes."""

    status: int
    body: Any
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        """The bytes to send."""
        return self.body if isinstance(self.body, bytes) else _spelt(self.body)


class NoSuchRoute(ChurnstreamError):
    """The protocol has no such path, or this server no such model."""


@dataclass(frozen=True, slots=True)
class Route:
    """Where a path leads: to the server itself (``model`` empty), or to an operation of a model."""

    model: str
    version: str
    operation: str
    explains: bool = False


@lru_cache(maxsize=512)
def route(path: str) -> Route:
    """Where ``path`` leads; raises NoSuchRoute.

    >>> route("/v2/models/churn/versions/7/infer")
    Route(model='churn', version='7', operation='infer', explains=False)
    """
    steps = path.strip("/").split("/")
    match steps:
        case [""]:
            return Route("", "", "root")
        case ["v2"]:
            return Route("", "", METADATA)
        case ["v2", "health", ("live" | "ready") as which]:
            return Route("", "", which)
        case ["v2", "models"]:
            return Route("", "", "models")
        case ["v2", "models", model, "versions", version, *rest] if len(rest) < 2:
            pass
        case ["v2", "models", model, *rest] if len(rest) < 2:
            version = ""
        case _:
            raise NoSuchRoute(f"there is nothing at {path[:80]}; the protocol's paths begin with /v2")
    last = rest[0] if rest else METADATA
    if last not in OPERATIONS:
        raise NoSuchRoute(f"a model has no operation {last[:40]!r}; it has infer, ready, and its metadata")
    return Route(model, version, OPERATIONS[last], last == "explain")


class Service:
    """Answers requests; never raises for what a caller did wrong."""

    def __init__(self, models: Mapping[str, ServedModel]):
        self._models = models

    def answer(
        self, method: str, path: str, query: Mapping[str, str] | None, headers: Mapping[str, Any] | None, body: Any
    ) -> Reply:
        """One request. ``body`` is bytes, or what a platform has made of JSON already."""
        try:
            where = route(path)
            posts = where.operation == INFER or (where.operation == "root" and method in WRITES)
            allowed = WRITES if posts else READS
            if method not in allowed:
                told = allowed if where.operation != "root" else READS + WRITES
                return Reply(405, {"error": f"{path} is for {told[0]} only"}, headers={"Allow": ", ".join(told)})
            if not posts:
                return self._ask(where)
            return self._infer(where, query or {}, headers or {}, body)
        except (NoSuchRoute, UnknownCustomer, UnknownModel) as cause:
            return Reply(404, {"error": str(cause)})
        except BadRequest as cause:
            return Reply(400, {"error": str(cause)})
        except UnicodeEncodeError:
            return Reply(400, {"error": "a text in the request is no Unicode: it has half of a surrogate pair"})
        except RecursionError:
            return Reply(400, {"error": "lists in the request stand too deep in one another"})

    def _model(self, name: str) -> ServedModel:
        found = self._models.get(name) if name else next(iter(self._models.values()), None)
        if found is None:
            raise NoSuchRoute(f"there is no model {name[:80]!r}; there is {', '.join(self._models)}")
        return found

    def _ask(self, where: Route) -> Reply:
        if not where.model:
            return Reply(200, self._about_the_server(where.operation))
        model = self._model(where.model)
        if where.version:
            model.arm(where.version)
        if where.operation == READY:
            return Reply(200, {"name": model.name, "ready": True})
        return Reply(200, model.report() if where.operation == ROLLOUT else model.metadata())

    def _about_the_server(self, what: str) -> dict[str, Any]:
        if what in ("live", "ready"):
            return {what: True}
        if what == "models":
            return {"models": list(self._models)}
        return {"name": "churnstream", "version": installed("churnstream"), "extensions": ["binary_tensor_data"]}

    def _infer(self, where: Route, query: Mapping[str, str], headers: Mapping[str, Any], body: Any) -> Reply:
        model = self._model(where.model)
        length = headers.get(HEAD_LENGTH) if headers else None
        if isinstance(body, bytes | bytearray | str):
            body = _read(body, length)
        elif length is not None:
            _size(length)
        elif type(body) is dict and len(body) == 1 and not (query or where.version or where.explains):
            told = answer_plainly(model, body)
            if told is not None:
                return Reply(200, told)
        explains = (bool(query) and _explains(query)) or where.explains
        answered = model.infer(body, where.version, explains)
        wanted = _in_bytes(body)
        return _with_bytes(answered, wanted) if wanted is not None else Reply(200, answered)


def _explains(query: Mapping[str, str]) -> bool:
    given = query.get(EXPLAIN, "false").lower()
    if given not in YES | NO:
        raise BadRequest(f"{EXPLAIN} is {given[:20]!r} in the address; it is true or false")
    return given in YES


def _read(body: Any, length: Any) -> Any:
    """A body's JSON, with the tensors that follow it as bytes put where they belong; raises BadRequest."""
    raw = body.encode() if isinstance(body, str) else bytes(body)
    if length is None:
        return _json(raw)
    size = _size(length)
    if size > len(raw):
        raise BadRequest(f"{HEAD_LENGTH} is {size}, and the body has {len(raw)} bytes")
    read = _json(raw[:size])
    take_bytes(read.get("inputs") if isinstance(read, dict) else None, raw[size:])
    return read


def _size(length: Any) -> int:
    text = str(length)
    if not (text.isascii() and text.isdecimal()) or len(text) > DIGITS:
        raise BadRequest(f"{HEAD_LENGTH} is {text[:20]!r}; it says how many bytes of the body are JSON")
    return int(text)


def _json(raw: bytes) -> Any:
    try:
        return _decode(raw)
    except (msgspec.DecodeError, ValueError, RecursionError) as cause:
        told = cause
    try:
        return json.loads(raw)  # which reads NaN as well: no JSON, and what clients in Python write all the same
    except (ValueError, RecursionError):
        raise BadRequest(f"the body is no JSON: {told}") from None


def _in_bytes(body: Any) -> set[str] | None:
    """Which outputs the caller wants as bytes, by name, ``*`` for all; None when there is none."""
    outputs, parameters = body.get("outputs"), body.get("parameters")
    if outputs is None and parameters is None:
        return None
    if not outputs:
        return {"*"} if (parameters or {}).get("binary_data_output") is True else None
    return {each["name"] for each in outputs if (each.get("parameters") or {}).get("binary_data") is True} or None


def _with_bytes(told: dict[str, Any], wanted: set[str]) -> Reply:
    parts = []
    for each in told["outputs"]:
        if isinstance(each, dict) and (each["name"] in wanted or "*" in wanted):
            parts.append(as_bytes(each["datatype"], each.pop("data")))
            each["parameters"] = {"binary_data_size": len(parts[-1])}
    if not parts:
        return Reply(200, told)
    head = _spelt(told)
    return Reply(200, head + b"".join(parts), BINARY, {HEAD_LENGTH: str(len(head))})


def _spelt(body: Any) -> bytes:
    try:
        return _encode(body)
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can write and UTF-8 cannot
        return json.dumps(msgspec.to_builtins(body)).encode()

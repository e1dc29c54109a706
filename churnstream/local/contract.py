"""Nuclio's contract with a Python function: its module, its handler, and what it may return."""

import base64
import importlib
import inspect
import linecache
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import nuclio_sdk
import nuclio_sdk.json_encoder
from nuclio.build import mlrun_footer
from nuclio_sdk.response import SINGLE_RESPONSE

from churnstream.errors import InvalidFunction

_encode = nuclio_sdk.json_encoder.Encoder().encode


@dataclass(frozen=True, slots=True)
class Answer:
    """What a handler returned, as HTTP says it; ``rest`` yields the chunks after ``body`` when it streams."""

    status: int
    body: bytes
    content_type: str = "text/plain"
    headers: Mapping[str, str] = field(default_factory=dict)
    rest: AsyncIterator[bytes] | None = None


def load_module(function: Mapping[str, Any]) -> ModuleType:
    """The module of an MLRun function; raises InvalidFunction when it has no code.

    Errors in the code itself are raised as they are: they are the author's, and so is their traceback.
    """
    name = function["metadata"]["name"]
    code, filename = _source(function)
    if function.get("kind") == "serving" and not _has_entry_points(code):
        code += mlrun_footer.format("serving_v2")
    module = ModuleType(f"function_{name.replace('-', '_')}")
    module.__file__ = filename
    # a traceback shows the lines that ran, also when they came with the deployment and not from a file
    linecache.cache[filename] = (len(code), None, code.splitlines(keepends=True), filename)
    sys.modules[module.__name__] = module
    exec(compile(code, filename, "exec"), module.__dict__)
    return module


def handler_name(function: Mapping[str, Any]) -> str:
    """The name of the function to call, as the deployment says it (``module:name``), else ``handler``."""
    spec = function["spec"]
    for given in (spec.get("function_handler"), spec.get("default_handler")):
        name = (given or "").rpartition(":")[2]
        if name.isidentifier():
            return name
    return "handler"


def _source(function: Mapping[str, Any]) -> tuple[str, str]:
    spec = function["spec"]
    build = spec.get("build") or {}
    named = build.get("origin_filename") or spec.get("filename") or spec.get("command") or ""
    encoded = build.get("functionSourceCode")
    if encoded:
        return base64.b64decode(encoded).decode(), f"{Path(named).stem or function['metadata']['name']}.py"
    if named and Path(named).is_file():
        return Path(named).read_text(), named
    if function.get("kind") == "serving":
        return "", f"{function['metadata']['name']}.py"
    raise InvalidFunction(f"{function['metadata']['name']} was deployed without code; give set_function a .py file")


def _has_entry_points(code: str) -> bool:
    return "nuclio_init_hook" in code or "def init_context(" in code


class Handler:
    """One worker's function: ``init_context`` once, then ``handler`` for each event."""

    def __init__(self, module: ModuleType, name: str, context: Any):
        handle = getattr(module, name, None)
        if not callable(handle):
            raise InvalidFunction(f"the deployed code has no function called {name!r}; Nuclio calls {name}(context, event)")
        self._handle = handle
        self._module = module
        self._context = context

    async def begin(self) -> None:
        """Run ``init_context``, inside the event loop, so that it may start tasks on it."""
        init = getattr(self._module, "init_context", None)
        if init is not None:
            started = init(self._context)
            if inspect.isawaitable(started):
                await started

    async def call(self, event: Any) -> Answer:
        """The handler's answer; what it raises is raised."""
        output = self._handle(self._context, event)
        if inspect.iscoroutine(output):
            output = await output
        return await to_answer(output)


async def to_answer(output: Any) -> Answer:
    """A handler's return value as Nuclio's own wrapper understands it."""
    if nuclio_sdk.Response.get_handler_output_type(output) == SINGLE_RESPONSE:
        return _to_answer(nuclio_sdk.Response.from_entrypoint_output(_encode, output))
    chunks = nuclio_sdk.Response.from_entrypoint_output_async(_encode, output)
    first = _to_answer(await anext(chunks, nuclio_sdk.Response.empty_response()))
    return Answer(first.status, first.body, first.content_type, first.headers, _decoded(chunks))


def _to_answer(response: Mapping[str, Any]) -> Answer:
    body = response["body"]
    raw = base64.b64decode(body) if response["body_encoding"] == "base64" else body.encode()
    return Answer(int(response["status_code"]), raw, response["content_type"], response["headers"] or {})


async def _decoded(chunks: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield base64.b64decode(chunk)


def decode_body(body: bytes, content_type: str) -> Any:
    """The body as a handler gets it: read when it is declared as JSON and is JSON, else the bytes."""
    if content_type == "application/json":
        return nuclio_sdk.event._EventDeserializer._try_deserialize_json(body)
    return body


def reload_settings() -> None:
    """Make MLRun read the environment again: when it was imported, the function's own was not set."""
    importlib.import_module("mlrun").mlconf.reload()

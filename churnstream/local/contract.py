"""Nuclio's contract with a Python function: its module, its handler, and what it may return."""

import asyncio
import base64
import importlib
import inspect
import linecache
import sys
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import nuclio_sdk
import nuclio_sdk.json_encoder
from nuclio.build import mlrun_footer
from nuclio_sdk.response import SINGLE_RESPONSE

from churnstream.errors import EmptyAnswer, HandlerGaveUp, InvalidFunction

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
        """The handler's answer; what it raises is raised, and what would end the process is raised as HandlerGaveUp."""
        answered = self.begin_call(event)
        return answered if isinstance(answered, Answer) else await answered

    def begin_call(self, event: Any) -> "Answer | Coroutine[Any, Any, Answer]":
        """The handler's answer where it gives it without waiting, otherwise what to await for it; raises as ``call`` does."""
        try:
            output = self._handle(self._context, event)
            return _plain(output) or self._go_on(output)
        except Exception:
            raise
        except BaseException as cause:
            raise _given_up(cause) from cause

    async def _go_on(self, output: Any) -> Answer:
        try:
            if isinstance(output, Coroutine):
                output = await output
            return await to_answer(output)
        except Exception:
            raise
        except BaseException as cause:
            task = asyncio.current_task()
            if isinstance(cause, asyncio.CancelledError) and task is not None and task.cancelling():
                raise  # it is the call that was cancelled
            raise _given_up(cause) from cause


def _given_up(cause: BaseException) -> HandlerGaveUp:
    return HandlerGaveUp(f"the handler raised {type(cause).__name__}: {cause}")


async def to_answer(output: Any) -> Answer:
    """A handler's return value as Nuclio's own wrapper understands it.

    A list stands for the answers to a batch of events, of which a single event gets the first. Raises EmptyAnswer.
    """
    if type(output) is list:
        if not output:
            raise EmptyAnswer("the handler returned an empty list, which is no answer on a cluster either; return a dict or text")
        output = output[0]
    plain = _plain(output)
    if plain is not None:
        return plain
    if nuclio_sdk.Response.get_handler_output_type(output) == SINGLE_RESPONSE:
        return _to_answer(nuclio_sdk.Response.from_entrypoint_output(_encode, output))
    chunks = nuclio_sdk.Response.from_entrypoint_output_async(_encode, output)
    first = _to_answer(await anext(chunks, nuclio_sdk.Response.empty_response()))
    return Answer(first.status, first.body, first.content_type, first.headers, _decoded(chunks))


def _plain(output: Any) -> Answer | None:
    """The answer that most handlers give, text or bytes, without the detour by way of the SDK, which makes base64 of bytes."""
    status, content_type, body = 200, "text/plain", output
    headers: Mapping[str, str] = {}
    if type(output) is nuclio_sdk.Response:
        status, content_type, headers, body = int(output.status_code), output.content_type, output.headers or {}, output.body
    if type(body) is str:
        return Answer(status, body.encode(), content_type, headers)
    return Answer(status, body, content_type, headers) if type(body) is bytes else None


def _to_answer(response: Mapping[str, Any]) -> Answer:
    body = response["body"]
    raw = base64.b64decode(body) if response["body_encoding"] == "base64" else body.encode()
    return Answer(int(response["status_code"]), raw, response["content_type"], response["headers"] or {})


async def _decoded(chunks: AsyncIterator[str]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield base64.b64decode(chunk)


def reload_settings() -> None:
    """Make MLRun read the environment again: when it was imported, the function's own was not set."""
    importlib.import_module("mlrun").mlconf.reload()

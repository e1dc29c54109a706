import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import nuclio_sdk
import pytest

from churnstream.errors import EmptyAnswer, HandlerGaveUp, InvalidFunction
from churnstream.local.contract import Answer, Handler, handler_name, load_module, to_answer


def answer(output: Any) -> Answer:
    return asyncio.run(to_answer(output))


@pytest.mark.parametrize(
    ("output", "status", "body", "content_type"),
    [
        ("hello", 200, b"hello", "text/plain"),
        (b"\x00\xff", 200, b"\x00\xff", "text/plain"),
        ({"a": 1}, 200, b'{"a": 1}', "application/json"),
        (["one", "two"], 200, b"one", "text/plain"),  # the answers to a batch, of which one event gets the first
        ([{"a": 1}], 200, b'{"a": 1}', "application/json"),
        ((202, "taken"), 202, b"taken", "text/plain"),
        ((400, {"why": "odd"}), 400, b'{"why": "odd"}', "application/json"),
        (nuclio_sdk.Response(body={"a": 1}, status_code=201), 201, b'{"a": 1}', "application/json"),
        (nuclio_sdk.Response(body=b"\xff", content_type="image/png"), 200, b"\xff", "image/png"),
    ],
)
def test_what_a_handler_returns_means_what_nuclio_says(output: Any, status: int, body: bytes, content_type: str) -> None:
    answered = answer(output)
    assert (answered.status, answered.body, answered.content_type) == (status, body, content_type)


def test_a_response_keeps_its_headers() -> None:
    assert answer(nuclio_sdk.Response(headers={"x-n": "1"}, body="")).headers == {"x-n": "1"}


def test_a_generator_streams_its_chunks() -> None:
    def chunks() -> Iterator[str]:
        yield from ("a", "b", "c")

    async def whole() -> bytes:
        answered = await to_answer(chunks())
        rest: AsyncIterator[bytes] | None = answered.rest
        assert rest is not None
        return answered.body + b"".join([chunk async for chunk in rest])

    assert asyncio.run(whole()) == b"abc"


def test_an_empty_list_is_no_answer() -> None:
    with pytest.raises(EmptyAnswer, match="empty list"):
        answer([])


@pytest.mark.parametrize("raised", ["SystemExit(3)", "KeyboardInterrupt()", "asyncio.CancelledError()", "GeneratorExit()"])
@pytest.mark.parametrize("kind", ["def", "async def"])
def test_a_handler_cannot_end_its_worker(function: Callable[..., dict[str, Any]], kind: str, raised: str) -> None:
    handler = Handler(load_module(function(f"import asyncio\n{kind} handler(context, event): raise {raised}")), "handler", None)
    with pytest.raises(HandlerGaveUp, match=raised.removeprefix("asyncio.").partition("(")[0]):
        asyncio.run(handler.call(None))


def test_a_call_that_is_cancelled_from_outside_is_cancelled(function: Callable[..., dict[str, Any]]) -> None:
    code = "import asyncio\nasync def handler(context, event): await asyncio.sleep(60)"
    handler = Handler(load_module(function(code)), "handler", None)

    async def cancel() -> None:
        call = asyncio.create_task(handler.call(None))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())


def test_the_handlers_name_comes_from_the_deployment() -> None:
    assert handler_name({"spec": {"function_handler": "alpha-nuclio:score"}}) == "score"
    assert handler_name({"spec": {"default_handler": "score"}}) == "score"
    assert handler_name({"spec": {}}) == "handler"


def test_a_serving_function_without_entry_points_gets_mlruns(function: Callable[..., dict[str, Any]]) -> None:
    module = load_module(function("class Step: pass", kind="serving"))
    assert callable(module.init_context)
    assert callable(module.handler)


def test_a_function_is_loaded_from_its_file_when_it_brings_no_code(tmp_path: Path) -> None:
    (tmp_path / "alpha.py").write_text("ONE = 1")
    spec = {"filename": str(tmp_path / "alpha.py"), "build": {}}
    assert load_module({"kind": "remote", "metadata": {"name": "alpha"}, "spec": spec}).ONE == 1


def test_a_function_without_code_is_refused() -> None:
    with pytest.raises(InvalidFunction, match="without code"):
        load_module({"kind": "remote", "metadata": {"name": "alpha"}, "spec": {}})


def test_code_without_the_named_handler_is_refused(function: Callable[..., dict[str, Any]]) -> None:
    with pytest.raises(InvalidFunction, match="handler"):
        Handler(load_module(function("ONE = 1")), "handler", None)

"""What a handler returns, or raises, is answered alike."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pytest

from tests.conformance.conftest import Start
from tests.conformance.differences import OURS, Difference, Driver
from tests.conformance.drivers import BODY_LIMIT, DidNotStart, Running
from tests.conformance.messages import Request

BIG = bytes(range(256)) * 16_384
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Case:
    """The answer to a call of ``path``; one that Nuclio gives otherwise names the difference."""

    path: str
    body: bytes
    content_type: str = "text/plain"
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


CASES = (
    Case("/text", b"hello"),
    Case("/empty", b""),
    Case("/unicode", "żółw 🐢".encode()),
    Case("/lines", b"one\ntwo\r\n"),
    Case("/nothing", b"None"),
    Case("/bytes", b"\x00\xff\n"),
    Case("/no-bytes", b""),
    Case("/big", BIG),
    Case("/dict", b'{"a": 1, "\\u017c": [null, true, 1.5]}', JSON),
    Case("/no-dict", b"{}", JSON),
    Case("/odd-numbers", b'{"nan": "NaN", "most": "Infinity", "least": "-Infinity"}', JSON),
    Case("/odd-things", b'{"on": "datetime.date(2026, 1, 1)", "shape": "<shape>"}', JSON),
    Case("/number", b"7"),
    Case("/fraction", b"0.1"),
    Case("/truth", b"True"),
    Case("/object", b"a shape"),
    Case("/status-and-text", b"taken", status=202),
    Case("/status-and-dict", b'{"why": "odd"}', JSON, 400),
    Case("/status-and-bytes", b"\"b'raw'\"", JSON),
    Case("/status-and-list", b"[1, 2]", JSON),
    Case("/status-and-nothing", b"", status=204),
    Case("/three", b"(1, 2, 3)"),
    Case("/list", b"first"),
    Case("/list-of-responses", b"one", status=202),
    Case("/response", b"hello"),
    Case("/response-nothing", b"None"),
    Case("/response-dict", b'{"a": 1}', JSON, 201),
    Case("/response-list", b"[1, 'a']"),
    Case("/response-number", b"5", "text/csv"),
    Case("/response-bytes", b"\x89PNG\x00", "image/png"),
    Case("/response-type", b"a,b", "text/csv; charset=utf-8"),
    Case("/response-headers", b"x", headers={"x-text": "one two", "x-lower": "yes", "x-empty": ""}),
    Case("/response-unicode-header", b"x", headers={"x-text": "żółw"}),
    Case("/response-type-header", b"x"),
    Case("/redirect", b"", status=302, headers={"location": "/elsewhere"}),
    Case("/missing", b"no such thing", status=404),
    Case("/broken", b"later", status=503, headers={"retry-after": "5"}),
    Case("/teapot", b"short and stout", status=418),
    Case("/contexts-response", b"own", status=203),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.path.strip("/"))
def test_an_answer(start: Start, driver: Driver, case: Case) -> None:
    reply = start(driver, "answers").ask(Request(case.path))
    assert (reply.status, reply.body) == (case.status, case.body)
    assert reply.content_type == case.content_type
    assert {name: reply.headers.get(name) for name in case.headers} == case.headers


@pytest.mark.parametrize("path", ["/raise", "/raise-without-words", "/exit", "/no-such-answer"])
def test_what_a_handler_raises_is_a_500_and_the_worker_goes_on(
    start: Start, driver: Driver, path: str, differs: Callable[[Difference], None]
) -> None:
    function = start(driver, "answers")
    reply = function.ask(Request(path))
    assert (reply.status, reply.content_type) == (500, "text/plain")
    if driver == OURS:
        assert b"Traceback" not in reply.body
        assert b"boom" not in reply.body
    else:
        differs("traceback")
        assert b"Traceback" in reply.body
    assert function.ask(Request("/text")).body == b"hello"


def test_a_generator_is_streamed(start: Start, driver: Driver, differs: Callable[[Difference], None]) -> None:
    reply = start(driver, "answers").ask(Request("/generator"))
    if driver == OURS:
        assert reply.body == b"abc"
    else:
        differs("generator")
        assert reply.status == 500


def test_an_empty_list_is_no_answer(start: Start, server: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(server, "answers", afresh=True)
    assert function.ask(Request("/no-list")).status == 500
    if server == OURS:
        assert function.ask(Request("/text")).body == b"hello"
    else:
        differs("empty list")  # its worker is lost, and 10 s later it says so
        assert function.ask(Request("/text")).status == 503


def test_a_header_that_is_no_text(start: Start, driver: Driver, differs: Callable[[Difference], None]) -> None:
    headers = start(driver, "answers").ask(Request("/response-number-header")).headers
    assert headers["x-text"] == "stays"
    told = {name: headers.get(name) for name in ("x-number", "x-truth")}
    if driver == OURS:
        assert told == {"x-number": "5", "x-truth": "true"}
    else:
        differs("header of a number")
        assert told == {"x-number": None, "x-truth": None}


def test_a_header_stays_one_header(start: Start, server: Driver) -> None:
    headers = start(server, "answers").ask(Request("/response-broken-header")).headers
    assert headers["x-text"] == "one  X-Evil: two"
    assert "x-evil" not in headers


@pytest.mark.parametrize("size", [0, 1, 65_537, 3 * 2**20, BODY_LIMIT])
def test_a_body_arrives_whole(start: Start, driver: Driver, size: int) -> None:
    body = (BIG * 2)[:size]
    reply = start(driver, "answers").ask(Request("/digest", body, headers={"Content-Type": "application/octet-stream"}))
    assert reply.body.decode() == hashlib.sha256(body).hexdigest()


def test_a_body_above_the_limit_is_refused(start: Start, server: Driver, differs: Callable[[Difference], None]) -> None:
    function = start(server, "answers")
    reply = function.ask(Request("/digest", b"x" * (BODY_LIMIT + 1)))
    if server == OURS:
        assert reply.status == 413
    else:
        differs("body above the limit")
        assert reply.status == 400
    assert function.ask(Request("/text")).body == b"hello"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_any_method_reaches_the_handler(start: Start, driver: Driver, method: str) -> None:
    assert start(driver, "answers").ask(Request("/text", method=method)).body == b"hello"


def test_head_has_no_body(start: Start, server: Driver) -> None:
    reply = start(server, "answers").ask(Request("/text", method="HEAD"))
    assert (reply.status, reply.body) == (200, b"")


def test_user_data_lasts(start: Start, driver: Driver) -> None:
    function: Running = start(driver, "answers")
    first, second = (int(function.ask(Request("/calls")).body) for _ in range(2))
    assert second == first + 1


def test_a_handler_may_have_another_name(start: Start, driver: Driver) -> None:
    reply = start(driver, "bare", handler="score").ask(Request(body=b'{"x": 1}', headers={"Content-Type": JSON}))
    assert reply.body == b'{"scored": {"x": 1}}'


def test_a_function_whose_init_context_raises_does_not_start(start: Start, driver: Driver) -> None:
    with pytest.raises(DidNotStart, match="no tables today"):
        start(driver, "broken")


def test_a_function_without_its_handler_does_not_start(start: Start, driver: Driver) -> None:
    with pytest.raises(DidNotStart, match="nobody"):
        start(driver, "bare", handler="nobody")

"""Everything that a handler may return, one form a path."""

import datetime
import hashlib
import sys

import nuclio_sdk

BIG = bytes(range(256)) * 16_384  # 4 MiB


class Shape:
    """Neither text nor JSON."""

    def __str__(self):
        return "a shape"

    def __repr__(self):
        return "<shape>"


def fail(context, event):
    raise ValueError("boom")


def fail_without_words(context, event):
    raise KeyError


def leave(context, event):
    sys.exit(3)


def responds(**given):
    return lambda context, event: nuclio_sdk.Response(**given)


ANSWERS = {
    "/text": lambda context, event: "hello",
    "/empty": lambda context, event: "",
    "/unicode": lambda context, event: "żółw 🐢",
    "/lines": lambda context, event: "one\ntwo\r\n",
    "/nothing": lambda context, event: None,
    "/bytes": lambda context, event: b"\x00\xff\n",
    "/no-bytes": lambda context, event: b"",
    "/big": lambda context, event: BIG,
    "/dict": lambda context, event: {"a": 1, "ż": [None, True, 1.5]},
    "/no-dict": lambda context, event: {},
    "/odd-numbers": lambda context, event: {"nan": float("nan"), "most": float("inf"), "least": float("-inf")},
    "/odd-things": lambda context, event: {"on": datetime.date(2026, 1, 1), "shape": Shape()},
    "/number": lambda context, event: 7,
    "/fraction": lambda context, event: 0.1,
    "/truth": lambda context, event: True,
    "/object": lambda context, event: Shape(),
    "/status-and-text": lambda context, event: (202, "taken"),
    "/status-and-dict": lambda context, event: (400, {"why": "odd"}),
    "/status-and-bytes": lambda context, event: (200, b"raw"),
    "/status-and-list": lambda context, event: (200, [1, 2]),
    "/status-and-nothing": lambda context, event: (204, ""),
    "/three": lambda context, event: (1, 2, 3),
    "/list": lambda context, event: ["first", {"second": 2}],
    "/no-list": lambda context, event: [],
    "/list-of-responses": lambda context, event: [nuclio_sdk.Response(body="one", status_code=202), "two"],
    "/response": responds(body="hello"),
    "/response-nothing": responds(),
    "/response-dict": responds(body={"a": 1}, status_code=201, content_type="text/html"),
    "/response-list": responds(body=[1, "a"]),
    "/response-number": responds(body=5, content_type="text/csv"),
    "/response-bytes": responds(body=b"\x89PNG\x00", content_type="image/png"),
    "/response-type": responds(body="a,b", content_type="text/csv; charset=utf-8"),
    "/response-headers": responds(body="x", headers={"X-Text": "one two", "x-lower": "yes", "X-Empty": ""}),
    "/response-unicode-header": responds(body="x", headers={"X-Text": "żółw"}),
    "/response-number-header": responds(body="x", headers={"X-Number": 5, "X-Truth": True, "X-Text": "stays"}),
    "/response-broken-header": responds(body="x", headers={"X-Text": "one\r\nX-Evil: two"}),
    "/response-type-header": responds(body="x", headers={"Content-Type": "text/html"}),
    "/redirect": responds(status_code=302, headers={"Location": "/elsewhere"}, body=""),
    "/missing": responds(status_code=404, body="no such thing"),
    "/broken": responds(status_code=503, body="later", headers={"Retry-After": "5"}),
    "/teapot": responds(status_code=418, body="short and stout"),
    "/contexts-response": lambda context, event: context.Response(body="own", status_code=203),
    "/generator": lambda context, event: (each for each in ("a", "b", "c")),
    "/raise": fail,
    "/raise-without-words": fail_without_words,
    "/exit": leave,
    "/digest": lambda context, event: hashlib.sha256(event.body).hexdigest(),
}


def init_context(context):
    context.user_data.calls = 0


def handler(context, event):
    context.user_data.calls += 1
    if event.path == "/calls":
        return str(context.user_data.calls)
    return ANSWERS[event.path](context, event)

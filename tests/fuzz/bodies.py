"""Bodies that somebody may send: good events, nearly good ones, and nonsense; the same for the same seed."""

import gzip
import json
import random
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY, UseCase

KINDS = (
    "application/json",
    "application/x-ndjson",
    "text/plain",
    "",
    "application/json; charset=utf-16",
    "multipart/form-data",
    "x/y\xff",
)
METHODS = ("POST",) * 20 + ("PUT", "GET", "DELETE", "PATCH", "OPTIONS")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, -0.0, 1e308, -1e308, 2**53, 2**63, 2**64, -(2**63), 10**400, 0.1, "", " ", "\x00", "é", "😀" * 50,
    "\ud800", "9999-12-31T23:59:59Z", "0000-01-01T00:00:00Z", "2026-02-30T00:00:00Z", "2026-01-01T00:00:00+99:99", "1e9", "NaN",
    [], {}, [[]], {"a": {}}, "x" * 5_000,
)  # fmt: skip
RAW = (
    b"",
    b"\n\n",
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"[[]]",
    b"NaN",
    b"[NaN]",
    b"\xff\xfe",
    b"\xef\xbb\xbf{}",
    b"{} {}",
    b'"\\ud800"',
    b"//",
)


@dataclass(frozen=True, slots=True)
class Sent:
    """One request's method, headers beside the token, and the pieces in which its body comes."""

    method: str
    headers: Mapping[str, str]
    pieces: tuple[bytes, ...]


def requests(case: UseCase, seed: int) -> Iterator[Sent]:
    """Without end."""
    rng = random.Random(f"fuzz {case.name} {seed}")
    while True:
        body = rng.choices((_events, _mutated, _flipped, _deep, _raw, _noise, _zipped), (30, 30, 15, 3, 8, 10, 4))[0](case, rng)
        yield Sent(rng.choice(METHODS), _headers(rng, body), tuple(_pieces(body, rng)))


def event(case: UseCase, rng: random.Random) -> dict[str, Any]:
    """A good one."""
    kind = rng.choice(case.events)
    at = f"2026-01-{rng.randint(1, 28):02}T{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"
    made: dict[str, Any] = {KEY: f"u{rng.randrange(50)}", EVENT_TYPE: kind.name, EVENT_TIME: at}
    if rng.random() < 0.3:
        made[EVENT_ID] = f"e{rng.randrange(100)}"
    for field in kind.fields:
        values = {"text": "x", "date": "1990-12-31", "number": rng.randrange(1, 100) / 4, "whole": rng.randint(0, 1)}
        if field.required or rng.random() < 0.5:
            made[field.name] = values[str(field.kind)]
    return made


def _events(case: UseCase, rng: random.Random) -> bytes:
    return _written([event(case, rng) for _ in range(rng.choice((1, 1, 1, 2, 5, 30)))], rng)


def _mutated(case: UseCase, rng: random.Random) -> bytes:
    events: list[Any] = [event(case, rng) for _ in range(rng.choice((1, 1, 2, 5)))]
    for _ in range(rng.randint(1, 3)):
        victim = rng.choice(events)
        if not isinstance(victim, dict):
            continue
        name = rng.choice([*victim, "more"])
        deed = rng.randrange(4)
        if deed == 0:
            victim.pop(name, None)
        elif deed == 1:
            events[events.index(victim)] = deepcopy(rng.choice(VALUES))
        else:
            victim[name] = deepcopy(rng.choice(VALUES))
    return _written(events, rng)


def _written(events: list[Any], rng: random.Random) -> bytes:
    def form(value: Any) -> bytes:
        return json.dumps(value, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")

    if len(events) == 1 and rng.random() < 0.7:
        return form(events[0])
    if rng.random() < 0.5:
        return form(events)
    return rng.choice((b"\n", b"\r\n", b"\n\n")).join(form(each) for each in events)


def _flipped(case: UseCase, rng: random.Random) -> bytes:
    body = bytearray(_events(case, rng))
    for _ in range(rng.randint(1, 5)):
        place = rng.randrange(len(body))
        deed = rng.randrange(3)
        if deed == 0:
            body[place] = rng.randrange(256)
        elif deed == 1:
            del body[place:]
            body += b" "
        else:
            body[place:place] = bytes(rng.randrange(256) for _ in range(3))
    return bytes(body)


def _deep(case: UseCase, rng: random.Random) -> bytes:
    depth = rng.choice((10, 500, 2_000, 20_000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'[{"a":', b"}]")))
    return opening * depth + b"1" + closing * (depth if rng.random() < 0.7 else 0)


def _raw(case: UseCase, rng: random.Random) -> bytes:
    return rng.choice(RAW)


def _noise(case: UseCase, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((1, 10, 100, 1_000)))


def _zipped(case: UseCase, rng: random.Random) -> bytes:
    return gzip.compress(_events(case, rng) if rng.random() < 0.5 else b" " * 200_000)


def _headers(rng: random.Random, body: bytes) -> dict[str, str]:
    headers = {"content-type": rng.choice(KINDS)}
    if body[:2] == b"\x1f\x8b":
        headers["content-encoding"] = rng.choice(("gzip", "br", "identity"))
    return headers


def _pieces(body: bytes, rng: random.Random) -> Iterator[bytes]:
    while body and rng.random() < 0.2:
        cut = rng.randint(0, len(body))
        yield body[:cut]
        body = body[cut:]
    yield body

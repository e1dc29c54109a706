"""What calls a function, as Nuclio's event: an HTTP request, a record of a stream, a tick of a clock."""

import json
import os
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import nuclio_sdk

from churnstream.local.triggers import EMBEDDED, CronTrigger, StreamTrigger
from churnstream.records import Delivered

JSON = "application/json"
_decode_json = msgspec.json.Decoder().decode
NOT_SAID = ("", -1, 0, "", "", "")  # url, shard_id, num_shards, type, type_version, version of what comes through no stream


class _Ids:
    """Of events: no two alike, in whichever process; a random number for each would cost a call of the kernel."""

    def __init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        self._mine, self._count = os.urandom(8).hex(), 0

    def next(self) -> str:
        """32 hexadecimal digits."""
        self._count += 1
        return f"{self._mine}{self._count:016x}"


_ids = _Ids()


def request_event(scope: Mapping[str, Any], body: bytes, trigger: Any) -> Any:
    """A request as an ASGI server describes it; ``trigger`` is Nuclio's TriggerInfo.

    Of a header or a field that was sent twice the last one counts. The body is read when it is declared as JSON and is JSON.
    """
    headers = _headers(scope["headers"])
    query = scope["query_string"]
    content_type = headers.get("Content-Type", "")
    return nuclio_sdk.Event(
        decode_body(body, content_type) if body else body,
        content_type,
        trigger,
        dict(parse_qsl(query.decode("latin-1"), keep_blank_values=True)) if query else {},
        headers,
        _ids.next(),
        scope["method"],
        normal_path(scope["path"]),
        len(body),
        datetime.now(UTC).replace(tzinfo=None),
        *NOT_SAID,
        topic="",
    )


def record_event(record: Delivered, trigger: StreamTrigger, shards: int) -> Any:
    """A record; as Nuclio's streams do, its body is bytes whatever its headers say, and its timestamp UTC without saying so."""
    return nuclio_sdk.Event(
        body=record.payload,
        content_type="",
        trigger=nuclio_sdk.event.TriggerInfo(EMBEDDED, trigger.name),
        headers=dict(record.headers),
        _id=f"{record.stream}-{record.shard}-{record.offset}",
        method="",
        path="/",
        size=len(record.payload),
        timestamp=record.appended_at.astimezone(UTC).replace(tzinfo=None),
        url="",
        shard_id=record.shard,
        num_shards=shards,
        _type="",
        type_version="",
        version="",
        offset=record.offset,
        topic=record.stream,
    )


def tick_event(trigger: CronTrigger) -> Any:
    """A tick."""
    now = datetime.now(UTC)
    body = trigger.body.encode()
    return nuclio_sdk.Event(
        body,
        "",
        nuclio_sdk.event.TriggerInfo("cron", trigger.name),
        {},
        dict(trigger.headers),
        f"{trigger.name}-{now.timestamp():.3f}",
        "",
        "/",
        len(body),
        now.replace(tzinfo=None),
        *NOT_SAID,
        topic="",
    )


def decode_body(body: bytes, content_type: str) -> Any:
    """The body as a handler gets it: read when it is declared as JSON and is JSON, else the bytes."""
    if content_type == JSON:
        try:
            return _decode_json(body)  # in a seventh of the time
        except (msgspec.DecodeError, ValueError, RecursionError):
            pass  # what Python alone reads, such as NaN, it reads below
        try:
            return json.loads(body.decode())
        except (ValueError, RecursionError):  # as Nuclio's wrapper does; the handler says what is wrong with it
            return body
    return body


def normal_path(path: str) -> str:
    """A path as Nuclio hands it over, without empty steps and detours.

    >>> normal_path("//a/./b/../c d/")
    '/a/c d/'
    """
    if "//" not in path and "/." not in path and path[:1] == "/":
        return path
    *steps, last = path.split("/")
    kept: list[str] = []
    for step in steps:
        if step == "..":
            kept = kept[:-1]
        elif step not in ("", "."):
            kept.append(step)
    if last == "..":
        kept, last = kept[:-1], ""
    return "/" + "/".join([*kept, last])


def _headers(raw: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    try:
        return {_canonical(name): value.decode() for name, value in raw}
    except UnicodeDecodeError:
        return {_canonical(name): value.decode("latin-1") for name, value in raw}


@lru_cache(maxsize=1024)
def _canonical(name: bytes) -> str:
    return "-".join(part.capitalize() for part in name.decode("latin-1").split("-"))

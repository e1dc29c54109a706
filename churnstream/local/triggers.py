"""What calls a function beside HTTP: read from its specification, as a cluster reads it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from churnstream.errors import InvalidFunction

EMBEDDED = "embedded-stream"
PREFIX = "spec.triggers."
DEFAULT_HTTP = "default-http"
SESSION_TIMEOUT = timedelta(seconds=10)  # as on a cluster
BODY_LIMIT = 64 * 1024 * 1024  # bytes of one request
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h)")


@dataclass(frozen=True, slots=True)
class StreamTrigger:
    """Calls the function with each record of a stream; an ``explicit`` one moves on when told to.

    A ``declinable`` one moves on unless an answer says that it shall not (``Response.ensure_no_ack``), or when told to.
    """

    name: str
    stream: str
    explicit: bool = False
    declinable: bool = False


@dataclass(frozen=True, slots=True)
class CronTrigger:
    """Calls the function every so often."""

    name: str
    every: timedelta
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Triggers:
    """All triggers of one function; HTTP is always there."""

    http: str = DEFAULT_HTTP
    body_limit: int = BODY_LIMIT
    streams: tuple[StreamTrigger, ...] = ()
    crons: tuple[CronTrigger, ...] = ()

    @property
    def explicit(self) -> bool:
        """True when a stream's position moves only as the function acknowledges."""
        return any(each.explicit for each in self.streams)


def read_triggers(function: Mapping[str, Any]) -> Triggers:
    """The triggers in an MLRun function; raises InvalidFunction for one that only a cluster can serve."""
    http, body_limit = DEFAULT_HTTP, BODY_LIMIT
    streams: list[StreamTrigger] = []
    crons: list[CronTrigger] = []
    for name, trigger in _configured(function).items():
        attributes = trigger.get("attributes") or {}
        if trigger.get("disabled"):
            continue
        match trigger.get("kind"):
            case "http":
                http, body_limit = name, int(attributes.get("maxRequestBodySize") or BODY_LIMIT)
            case "embedded-stream":
                mode = trigger.get("explicitAckMode")
                stream = _needed(attributes, "stream", name)
                streams.append(StreamTrigger(name, stream, mode == "explicitOnly", mode == "enable"))
            case "cron":
                event = attributes.get("event") or {}
                every = duration(_needed(attributes, "interval", name))
                crons.append(CronTrigger(name, every, event.get("body") or "", event.get("headers") or {}))
            case kind:
                raise InvalidFunction(
                    f"the trigger {name!r} is of kind {kind!r}; one machine serves http, cron and "
                    f"{EMBEDDED}, a cluster (MLRUN_DBPATH) the others"
                )
    return Triggers(http, body_limit, tuple(streams), tuple(crons))


def workers(function: Mapping[str, Any]) -> int:
    """How many processes an MLRun function asks for: its ``min_replicas``, or a stream trigger's ``maxWorkers`` if that is more.

    A cluster multiplies them, pods by workers in a pod; one machine knows processes only, and takes the larger number. The
    ``maxWorkers`` of an HTTP trigger do not count: MLRun writes 8 there without being asked. Raises InvalidFunction.
    """
    triggers = [trigger for trigger in _configured(function).values() if not trigger.get("disabled")]
    asked = [trigger.get("maxWorkers") for trigger in triggers if trigger.get("kind") == EMBEDDED]
    return max(1, *(_whole(each) for each in (function["spec"].get("min_replicas"), *asked)))


def session_timeout(function: Mapping[str, Any]) -> timedelta:
    """How long a worker may give no sign of life until others get its shards: the shortest ``sessionTimeout`` of its triggers."""
    given = [(trigger.get("attributes") or {}).get("sessionTimeout") for trigger in _configured(function).values()]
    return min((duration(each) for each in given if each), default=SESSION_TIMEOUT)


def duration(text: str) -> timedelta:
    """A duration as Go writes it; raises InvalidFunction.

    >>> duration("1m30s")
    datetime.timedelta(seconds=90)
    """
    parts = _DURATION.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise InvalidFunction(f"{text!r} is no interval; write it like 2s, 500ms or 1h30m")
    found = timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    if not found:
        raise InvalidFunction(f"the interval {text!r} is zero; it must be longer")
    return found


def _configured(function: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    spec = function["spec"]
    base = ((spec.get("base_spec") or {}).get("spec") or {}).get("triggers") or {}
    config = spec.get("config") or {}
    return {
        **base,
        **{key.removeprefix(PREFIX): given for key, given in config.items() if key.startswith(PREFIX)},
    }


def _whole(given: Any) -> int:
    try:
        return int(given or 0)
    except (TypeError, ValueError) as cause:
        raise InvalidFunction(f"{given!r} is no number of workers; give min_replicas and maxWorkers as whole numbers") from cause


def _needed(attributes: Mapping[str, Any], name: str, trigger: str) -> str:
    given = attributes.get(name)
    if not given:
        raise InvalidFunction(f"the trigger {trigger!r} has no attribute {name!r}")
    return str(given)

"""How much one worker takes on at once, and how long it waits for whoever does not go on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from churnstream.errors import InvalidSetting

HEAD_BYTES = 32 * 1024  # of a request's first line and headers together
HEAD_COUNT = 100  # headers
HEAD_S = 10.0  # for them to arrive, and for the first byte of a connection
BODY_WAIT_S = 30.0  # for the next piece of a request's body
BODY_S = 300.0  # for all of it
MOST_REQUESTS = 1_000
MOST_MEMORY = 256 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one worker: ``body`` bytes of one request; ``requests`` and ``memory`` bytes of bodies that it holds at once."""

    body: int
    requests: int = MOST_REQUESTS
    memory: int = MOST_MEMORY

    @classmethod
    def read(cls, body: int, environment: Mapping[str, str]) -> Self:
        """``body`` is the HTTP trigger's; CHURNSTREAM_MOST_REQUESTS and CHURNSTREAM_MOST_MEMORY (bytes) change the others.

        A single body always finds room. Raises InvalidSetting.
        """
        requests = _whole(environment, "CHURNSTREAM_MOST_REQUESTS", MOST_REQUESTS)
        return cls(body, requests, max(body, _whole(environment, "CHURNSTREAM_MOST_MEMORY", MOST_MEMORY)))


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    given = environment.get(name) or str(default)
    if not given.isdecimal() or not int(given):
        raise InvalidSetting(f"{name} is {given!r}; it is a whole number above 0")
    return int(given)

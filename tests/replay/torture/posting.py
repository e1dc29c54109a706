"""Clients of the door: they post JSON over HTTP while everything is killed, and send again what was not answered, until it was.

One gives its events ids, the other its requests an Idempotency-Key; what they send again must come in once all the same.
"""

import contextlib
import http.client
import json
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from churnstream.errors import ChurnstreamError
from churnstream.topology import INCOMING, writers
from churnstream.usecases.case import EVENT_ID, EVENT_TIME, EVENT_TYPE, KEY
from churnstream.usecases.first_day import BET, simulate
from tests.replay.torture.river import LONGEST_S, PROJECT, River

(DOOR,) = writers(INCOMING)
EVENTS_EACH = 20  # of a request
SHARE = 40  # events of the stream for each that a client posts
MOST_REQUESTS = 200  # a client
IMPATIENCE = 0.15  # of the sendings the answer is not waited for
ANSWER_S = 20.0
AGAIN_S = 0.05
ACCEPTED, COME_AGAIN = 202, (502, 503, 504)
LOST = (OSError, http.client.HTTPException, ChurnstreamError, KeyError, ValueError)  # KeyError: nobody knows the address just now


@dataclass(frozen=True)
class Request:
    """A body, and what is sent beside it."""

    body: bytes
    headers: Mapping[str, str]


def requests_with_ids(seed: int, count: int) -> Iterator[Request]:
    """Good events, each with an id; every tenth is in a request twice."""
    for bundle in _bundles(seed, count, "i"):
        told = [event | {EVENT_ID: f"{seed}-{number}"} for number, event in bundle]
        yield Request(_lines(told + told[::10]), {"Content-Type": "application/x-ndjson"})


def requests_with_keys(seed: int, count: int) -> Iterator[Request]:
    """Events without ids, the last of each request one that is refused."""
    for bundle in _bundles(seed, count, "k"):
        number, last = bundle[-1]
        odd = {KEY: last[KEY], EVENT_TYPE: BET, EVENT_TIME: last[EVENT_TIME], "bet_amount": f"wrong {number}"}
        headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": f'"{seed}-{number}"'}
        yield Request(_lines([*(event for _, event in bundle), odd]), headers)


def requests_of(events: int) -> int:
    """How many requests a client posts beside so many events of the stream."""
    return max(5, min(MOST_REQUESTS, events // SHARE // EVENTS_EACH))


class Client:
    """Posts requests one after the other, each until it is accepted; ``allow`` says how many it may have posted by now.

    ``patient`` clients wait for every answer. ``again`` counts the tries after the first, ``unanswered`` what was sent in vain.
    """

    def __init__(self, river: River, requests: Iterator[Request], patient: bool, seed: int):
        self._river, self._requests = river, list(requests)
        self._impatience, self._rng = 0.0 if patient else IMPATIENCE, random.Random(f"client {seed}")
        self._changed = threading.Condition()
        self._allowed = self.posted = self.again = self.unanswered = 0
        self._address = ""
        self._failure: Exception | None = None
        self._over = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def allow(self, share: float) -> None:
        """Have this share of the requests posted, in the end."""
        with self._changed:
            self._allowed = max(self._allowed, int(share * len(self._requests)))
            self._changed.notify_all()

    def finish(self) -> None:
        """Return when all were accepted; raises what went wrong."""
        self.allow(1.0)
        deadline = time.monotonic() + 10 * LONGEST_S
        with self._changed:
            while self.posted < len(self._requests) and self._failure is None:
                self._river.heal()
                self._changed.wait(timeout=0.5)
                if time.monotonic() > deadline:
                    raise TimeoutError(f"{self.posted} of {len(self._requests)} requests were accepted")
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End it."""
        with self._changed:
            self._over = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        try:
            for request in self._requests:
                with self._changed:
                    self._changed.wait_for(lambda: self._over or self.posted < self._allowed)
                while not self._over and not self._post(request):
                    self.again += 1
                    time.sleep(AGAIN_S)
                with self._changed:
                    if self._over:
                        return
                    self.posted += 1
                    self._changed.notify_all()
        except Exception as cause:
            with self._changed:
                self._failure = cause
                self._changed.notify_all()

    def _post(self, request: Request) -> bool:
        """Whether it was accepted."""
        connection, sent = None, False
        try:
            self._address = self._address or self._river.client.state(PROJECT, DOOR)["address"]
            host, _, port = self._address.rpartition(":")
            connection = http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)
            headers = {"Authorization": f"Bearer {self._river.home.token()}", **request.headers}
            connection.request("POST", "/", request.body, headers)
            sent = True
            if self._rng.random() < self._impatience:
                self.unanswered += 1
                return False
            answer = connection.getresponse()
            told = answer.read()
        except LOST:
            self._address = ""  # it may have moved
            self.unanswered += sent
            return False
        finally:
            if connection is not None:
                with contextlib.suppress(OSError):
                    connection.close()
        if answer.status in COME_AGAIN:
            return False
        if answer.status != ACCEPTED:
            raise RuntimeError(f"the door answered {answer.status}: {told[:500].decode(errors='replace')}")
        return True


def clients(river: River, seed: int, events: int, patient: bool) -> list[Client]:
    """One of each kind, with customers of their own."""
    count = requests_of(events)
    return [
        Client(river, requests_with_ids(seed + 2, count), patient, seed),
        Client(river, requests_with_keys(seed + 3, count), patient, seed + 1),
    ]


def _bundles(seed: int, count: int, prefix: str) -> Iterator[list[tuple[int, dict[str, Any]]]]:
    """So many bundles of numbered events, in order of event time."""
    customers = max(4, count // 2)
    world = simulate(seed, customers, count * EVENTS_EACH - customers)
    numbered = enumerate(dict(event) | {KEY: f"{prefix}-{event[KEY]}"} for event in world)
    for _ in range(count):
        yield [next(numbered) for _ in range(EVENTS_EACH)]


def _lines(events: list[dict[str, Any]]) -> bytes:
    return b"\n".join(json.dumps(each, default=lambda at: at.isoformat()).encode() for each in events)

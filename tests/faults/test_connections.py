"""Ten thousand producers come, say half of something or nothing, and go: the door still answers, and keeps nothing of them."""

import http.client
import json
import random
import socket
from pathlib import Path

import psutil

from churnstream import topology
from churnstream.local import SupervisorClient
from churnstream.reading import count, totals
from churnstream.settings import read_settings
from churnstream.topology import INCOMING
from tests.deployable import deployable
from tests.waiting import wait_until

CONNECTIONS, AT_ONCE = 10_000, 200
CUSTOMERS = 40
NAME, PROJECT = "incoming-event-handler", "crowded"


def body(number: int) -> bytes:
    told = {
        "user_id": f"u{number % CUSTOMERS}",
        "event_type": "new_bet",
        "event_time": "2026-01-03T12:00:00Z",
        "bet_amount": float(number),
    }
    return json.dumps(told).encode()


def half(rng: random.Random, token: str) -> bytes:
    """The beginning of a request: none of it, some of its head, or some of its body; never all of it."""
    told = body(0)
    head = f"POST / HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {len(told)}\r\n\r\n".encode()
    whole = head + told
    return whole[: rng.choice((0, rng.randrange(len(head)), rng.randrange(len(head), len(whole))))]


def test_producers_that_come_and_go_leave_nothing_behind_and_cost_nobody_an_event(root: Path, platform: SupervisorClient) -> None:
    code = (root / topology.function(NAME).file).read_bytes()
    state = platform.deploy(PROJECT, NAME, deployable(code, NAME, PROJECT, env={"CHURNSTREAM_CASE": "first_day"}))
    assert state["state"] == "ready", state["message"]
    token, rng = platform.home.token(), random.Random(10_000)
    host, _, port = state["address"].rpartition(":")
    worker = psutil.Process(state["pid"])

    def post(number: int) -> int:
        connection = http.client.HTTPConnection(state["address"], timeout=60)
        connection.request("POST", "/", body(number), {"Authorization": f"Bearer {token}"})
        status = connection.getresponse().status
        connection.close()
        return status

    assert [post(number) for number in range(CUSTOMERS)] == [202] * CUSTOMERS  # every shard's journal is open now
    before, posted = worker.num_fds(), CUSTOMERS
    for _ in range(CONNECTIONS // AT_ONCE):
        producers = [socket.create_connection((host, int(port)), timeout=60) for _ in range(AT_ONCE)]
        for each in producers:
            each.sendall(half(rng, token))
        assert post(posted) == 202, "who says all of it is served in the middle of them"
        posted += 1
        for each in producers:
            each.close()
    wait_until(lambda: worker.num_fds() <= before)
    assert post(posted) == 202
    assert platform.state(PROJECT, NAME)["workers"][0]["pid"] == worker.pid, "and it is the same process"
    settings = read_settings({"CHURNSTREAM_HOME": str(platform.home.root), "CHURNSTREAM_PROJECT": PROJECT})
    assert count(INCOMING, settings) == posted + 1
    lines = [line for line in totals(settings) if line.function == NAME and line.source == "http"]
    assert [(line.given, line.applied, line.unaccounted) for line in lines] == [(posted + 1, posted + 1, 0)]

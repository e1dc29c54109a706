"""A consumer that stands still while a producer goes on: the door says when to come back, keeps nothing of what it did not take,
and everything that it took arrives."""

import http.client
import json
from collections import Counter
from pathlib import Path

import psutil
import pytest

from churnstream import topology
from churnstream.local import SupervisorClient
from churnstream.reading import peek, totals
from churnstream.settings import read_settings
from churnstream.topology import ENRICHED, INCOMING
from tests.deployable import deployable
from tests.waiting import standing_still, wait_until

DOOR, CONSUMER, PROJECT = "incoming-event-handler", "enrich-stream", "slow"
BACKLOG, ROWS, CUSTOMERS = 5_000, 500, 40  # rows that may wait; of a request; and whose they are
REFUSALS = 250  # while the consumer stands still: requests of 12 MB in all
MOST_GROWTH = 6_000_000  # bytes of the door's memory meanwhile


def body(request: int) -> bytes:
    """Rows that say which they are."""
    rows = (
        {
            "user_id": f"u{row % CUSTOMERS}",
            "event_type": "new_bet",
            "event_time": "2026-01-03T12:00:00Z",
            "bet_amount": float(row),
        }
        for row in range(request * ROWS, (request + 1) * ROWS)
    )
    return "\n".join(map(json.dumps, rows)).encode()


def deploy(root: Path, platform: SupervisorClient, name: str, reads: str = "") -> dict[str, object]:
    code = (root / topology.function(name).file).read_bytes()
    triggers = {"in": {"kind": "embedded-stream", "attributes": {"stream": reads}}} if reads else {}
    env = {"CHURNSTREAM_CASE": "first_day", "CHURNSTREAM_BACKLOG_ROWS": str(BACKLOG)}
    state = platform.deploy(PROJECT, name, deployable(code, name, PROJECT, triggers=triggers, env=env))
    assert state["state"] == "ready", state["message"]
    return state


@pytest.mark.slow
def test_behind_a_consumer_that_stands_still_nothing_grows_and_nothing_is_dropped(root: Path, platform: SupervisorClient) -> None:
    door, consumer = deploy(root, platform, DOOR), deploy(root, platform, CONSUMER, INCOMING)
    settings = read_settings({"CHURNSTREAM_HOME": str(platform.home.root), "CHURNSTREAM_PROJECT": PROJECT})
    producer = http.client.HTTPConnection(str(door["address"]), timeout=60)
    answers: Counter[int] = Counter()

    def post(request: int) -> int:
        producer.request("POST", "/", body(request), {"Authorization": f"Bearer {platform.home.token()}"})
        answer = producer.getresponse()
        told = json.loads(answer.read())
        answers[answer.status] += 1
        if answer.status == 503:
            assert answer.headers["Retry-After"] == "5"
            assert told["error"].startswith(f"{CONSUMER} has ")
            assert told["error"].endswith(f"rows of {INCOMING} left to read, {BACKLOG:,} may wait; send this again later")
        return answer.status

    sent = 0
    with standing_still(int(str(consumer["pid"]))):
        while post(sent) == 202:
            sent += 1
        assert sent * ROWS > BACKLOG, "so much may wait"
        process = psutil.Process(int(str(door["pid"])))
        before = process.memory_info().rss
        assert {post(sent) for _ in range(REFUSALS)} == {503}
        assert process.memory_info().rss - before < MOST_GROWTH
        waiting = [line for line in totals(settings) if line.function == CONSUMER]
        assert sum(line.given for line in waiting) <= sent * ROWS
    for request in range(sent, sent + 2 * BACKLOG // ROWS):  # what was refused, and more, now that there is room again
        wait_until(lambda request=request: post(request) == 202)
    sent += 2 * BACKLOG // ROWS
    wait_until(lambda: [each["lag"] for each in platform.find(CONSUMER, PROJECT)["streams"]] == [0])
    producer.close()
    assert answers[202] == sent
    assert set(answers) == {202, 503}
    lines = {(line.function, line.source): line for line in totals(settings) if line.given}
    assert {place: (line.given, line.applied, line.unaccounted) for place, line in lines.items()} == {
        (DOOR, "http"): (sent * ROWS, sent * ROWS, 0),
        (CONSUMER, INCOMING): (sent * ROWS, sent * ROWS, 0),
    }
    behind = peek(ENRICHED, 0, settings)
    for customer, amounts in behind.groupby("user_id")["bet_amount"]:
        mine = range(int(str(customer)[1:]), sent * ROWS, CUSTOMERS)
        assert amounts.tolist() == pytest.approx(list(mine)), "each once, and in order"

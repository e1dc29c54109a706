"""The product's own door answers alike."""

import json

import pytest

from tests.conformance.conftest import Start
from tests.conformance.differences import Driver
from tests.conformance.drivers import ROOT
from tests.conformance.messages import Request

BET = {"user_id": "u1", "event_type": "new_bet", "event_time": "2026-03-01T10:00:00+00:00", "bet_amount": 2.5}
ODD = {**BET, "bet_amount": "much"}
JSON, LINES = {"Content-Type": "application/json"}, {"Content-Type": "application/x-ndjson"}


def lines(*events: object) -> bytes:
    return "\n".join(json.dumps(each) for each in events).encode()


@pytest.mark.parametrize(
    ("request_", "status", "counts"),
    [
        (Request("/", json.dumps(BET).encode(), headers=JSON), 202, (1, 0)),
        (Request("/", json.dumps([BET, BET, ODD]).encode(), headers=JSON), 202, (2, 1)),
        (Request("/", lines(BET, ODD), headers=LINES), 202, (1, 1)),
        (Request("/", lines(BET), method="PUT"), 202, (1, 0)),
        (Request("/", b"{", headers=JSON), 400, None),
        (Request("/", method="GET"), 405, None),
    ],
    ids=["one", "an array", "lines", "put", "no JSON", "get"],
)
def test_events_come_in(start: Start, driver: Driver, request_: Request, status: int, counts: tuple[int, int] | None) -> None:
    reply = start(driver, "incoming_event_handler", folder=ROOT / "functions").ask(request_)
    told = json.loads(reply.body)
    assert (reply.status, reply.content_type) == (status, "application/json")
    assert counts is None or (told["accepted"], told["refused"]) == counts
    assert ("POST" in reply.headers.get("allow", "")) == (status == 405)

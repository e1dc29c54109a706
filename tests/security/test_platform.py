"""Real processes: who may enter, and what Prometheus is told, of a platform with several workers."""

import contextlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
from prometheus_client.parser import text_string_to_metric_families

from churnstream.errors import UnknownFunction
from churnstream.journal import Changes
from churnstream.local import SupervisorClient
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.topology import GENERATED
from churnstream.usecases import load
from churnstream.wiring import open_parts

NAME, PROJECT = "incoming-event-handler", "watched"
CODE = (Path(__file__).parents[2] / "functions" / "incoming_event_handler.py").read_text()
EVENT = json.dumps(dict(load("first_day").example), default=str).encode()


@pytest.fixture
def deployed(platform: SupervisorClient, function: Callable[..., Any]) -> Iterator[str]:
    """The address of the real handler in two workers."""
    trigger = {"kind": "embedded-stream", "attributes": {"stream": GENERATED}}
    made = function(CODE, name=NAME, triggers={"in": trigger})
    made["spec"]["min_replicas"] = 2
    state = platform.deploy(PROJECT, NAME, made)
    assert (state["state"], state["message"]) == ("ready", "")
    yield state["address"]
    with contextlib.suppress(UnknownFunction):
        platform.delete(PROJECT, NAME)


def get(address: str, path: str, token: str, method: str = "GET", body: bytes = b"") -> requests.Response:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    with requests.Session() as session:  # a connection each, and so any worker
        session.trust_env = False
        return session.request(method, f"http://{address}{path}", data=body, headers=headers, timeout=30)


def values(text: str, name: str, **labels: str) -> list[float]:
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples if each.name == name]
    return [each.value for each in samples if labels.items() <= each.labels.items()]


def test_the_workers_of_a_function_answer_for_all_of_them_and_the_platform_for_all_functions(
    platform: SupervisorClient, deployed: str, wait_until: Callable[..., Any]
) -> None:
    ingest, operate = platform.home.issue("ingest"), platform.home.token()
    for _ in range(20):
        assert get(deployed, "/", ingest, "POST", EVENT).status_code == 202
    assert get(deployed, "/", platform.home.issue("infer"), "POST", EVENT).status_code == 403
    assert get(deployed, "/-/metrics", ingest).status_code == 403
    parts = open_parts(
        "event-generator", read_settings({"CHURNSTREAM_HOME": str(platform.home.root), "CHURNSTREAM_PROJECT": PROJECT})
    )
    for shard in range(8):
        parts.journal(shard).write(Changes(appends=[(GENERATED, Record(EVENT, 1))]), datetime.now(UTC))
    parts.close()
    platform.drain(NAME, timedelta(seconds=30), PROJECT)
    control = f"127.0.0.1:{json.loads(platform.home.supervisor_file.read_text())['port']}"
    assert get(control, "/-/metrics", ingest).status_code == 403
    whose, requested = {"project": PROJECT, "function": NAME}, "churnstream_http_requests_total"

    def told(address: str) -> str:
        """The metrics, once they tell of everything that was done."""
        answered = get(address, "/-/metrics", operate)
        assert answered.status_code == 200
        answers = sum(values(answered.text, requested, route="function", status="202", **whose))
        rows = sum(values(answered.text, "churnstream_rows_total", outcome="in", source=GENERATED, **whose))
        handled = sum(values(answered.text, "churnstream_handler_duration_seconds_count", trigger="stream", **whose))
        refused = values(answered.text, requested, route="function", status="403", **whose)
        return answered.text if (answers, rows, refused) == (20, 8, [1]) and handled >= 8 else ""

    for address in (deployed, control):
        text = wait_until(partial(told, address))
        assert sum(values(text, "churnstream_rows_total", outcome="applied", source="http", **whose)) == 20
        assert set(values(text, "churnstream_events_unaccounted", **whose)) == {0}
        assert set(values(text, "churnstream_lag_records", **whose)) == {0}
        assert "s1-u000001" not in text
    assert values(text, "churnstream_workers", function=NAME, state="ready") == [2]
    assert len(values(text, "churnstream_build_info")) == 1
    told_by_door = get(deployed, "/-/openapi.json", operate).json()
    assert told_by_door["paths"]["/"]["post"]["x-scope"] == "ingest"


def test_a_crash_loop_ends_in_an_error_that_tells_the_last_traceback(
    platform: SupervisorClient, function: Callable[..., Any]
) -> None:
    code = "def init_context(context):\n    raise OSError('no such shop')\ndef handler(c, e): pass"
    state = platform.deploy(PROJECT, "stillborn", function(code, name="stillborn"))
    assert state["state"] == "error"
    for part in ("OSError: no such shop", "Traceback", "line 2, in init_context"):
        assert part in state["message"]
    platform.delete(PROJECT, "stillborn")

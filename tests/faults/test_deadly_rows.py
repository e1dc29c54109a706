"""A row that ends the process of who works on it: found over as many restarts as it takes, and left out; all else goes on."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from math import ceil, log2
from pathlib import Path
from typing import Any

import pytest

from churnstream.journal import Changes
from churnstream.local import SupervisorClient
from churnstream.local.suspects import DEATHS
from churnstream.records import Record
from churnstream.settings import Settings, read_settings
from churnstream.topology import DEAD_LETTERS, GENERATED, INCOMING, SHARDS
from churnstream.wiring import open_journal, open_parts, open_stream
from tests.deployable import deployable
from tests.waiting import platform, wait_until

NAME, PROJECT = "incoming-event-handler", "shop"
ROWS = 300  # a record
# Passes on what it is given, in rows of JSON; a row that says how to die is obeyed.
MORTAL = """
import json, os, signal
from churnstream.records import Record
from churnstream.wiring import open_parts

def init_context(context):
    context.user_data.parts = open_parts("incoming-event-handler")

def handler(context, event):
    with context.user_data.parts.begin(event) as unit:
        if unit.replayed:
            return "replayed"
        rows = event.body.splitlines()
        for row in rows:
            match json.loads(row).get("die"):
                case "leave": os._exit(3)
                case "crash": os.kill(os.getpid(), signal.SIGSEGV)
                case "raise": raise ValueError("no")
        unit.append("incoming-events-stream", Record(event.body, len(rows)))
        unit.count("applied", len(rows))
    return "passed on"
"""


class River:
    """A mortal function between two streams."""

    def __init__(self, client: SupervisorClient):
        self.client = client
        self.settings: Settings = read_settings({"CHURNSTREAM_HOME": str(client.home.root), "CHURNSTREAM_PROJECT": PROJECT})
        self.sent: dict[int, list[dict[str, Any]]] = {shard: [] for shard in range(SHARDS)}

    def write(self, records: int, deadly: dict[tuple[int, int], str]) -> None:
        """So many records into every shard; ``deadly`` is (shard, number of the row there) -> how."""
        source = open_parts("event-generator", self.settings)
        for shard, sent in self.sent.items():
            for _ in range(records):
                rows = [{"shard": shard, "number": len(sent) + place} for place in range(ROWS)]
                for row in rows:
                    if (shard, row["number"]) in deadly:
                        row["die"] = deadly[shard, row["number"]]
                sent += rows
                body = "\n".join(map(json.dumps, rows)).encode()
                source.journal(shard).write(Changes(appends=[(GENERATED, Record(body, ROWS))]), datetime.now(UTC))
        source.close()

    def state(self) -> dict[str, Any]:
        return self.client.state(PROJECT, NAME)

    def lag(self) -> int:
        streams = [each for each in self.client.find(NAME, PROJECT)["streams"] if each["stream"] == GENERATED]
        return sum(each["lag"] for each in streams) if streams else -1

    def rows(self, stream: str) -> dict[int, list[Any]]:
        reader = open_stream(stream, self.settings, NAME)
        found = {
            shard: [json.loads(row) for each in reader.read(shard, 0, 10**6, 10**9) for row in each.payload.splitlines()]
            for shard in range(SHARDS)
        }
        reader.close()
        return found

    def assert_only_these_were_left_out(self, deadly: dict[tuple[int, int], str]) -> None:
        """Everything else came through once and in order, these are in the dead letters, and the account says so."""
        out, letters = self.rows(INCOMING), self.rows(DEAD_LETTERS)
        for shard, sent in self.sent.items():
            good = [row for row in sent if (shard, row["number"]) not in deadly]
            assert out[shard] == good, f"shard {shard}"
            refused = {json.loads(each["payload"])["number"]: each["reason"] for each in letters[shard]}
            assert refused == {number: reason for (place, number), reason in deadly.items() if place == shard}
            assert [each["offset"] * ROWS + each["row"] for each in letters[shard]] == sorted(refused)
            bad = len(sent) - len(good)
            account = {(GENERATED, "applied"): len(good)} | ({(GENERATED, "invalid"): bad} if bad else {})
            assert open_journal(NAME, shard, self.settings).accounts() == account


@pytest.fixture
def river(tmp_path: Path) -> Iterator[River]:
    with platform(tmp_path / "home") as client:
        yield River(client)


# The same, but it holds three records back before it writes and acknowledges them, and obeys only then.
HOLDING = """
import json, os, signal
from churnstream.records import Record
from churnstream.wiring import open_parts
from nuclio_sdk import QualifiedOffset

def init_context(context):
    context.user_data.parts, context.user_data.held = open_parts("incoming-event-handler"), []
    context.platform.set_drain_callback(lambda: write(context))

async def write(context):
    held, context.user_data.held = context.user_data.held, []
    for event in held:
        with context.user_data.parts.begin(event) as unit:
            if not unit.replayed:
                if b"die" in event.body:
                    os.kill(os.getpid(), signal.SIGSEGV)
                unit.append("incoming-events-stream", Record(event.body, 1))
        await context.platform.explicit_ack(QualifiedOffset.from_event(event))

async def handler(context, event):
    context.user_data.held.append(event)
    if len(context.user_data.held) >= 3:
        await write(context)
"""


def deploy(river: River, workers: int, code: str = MORTAL, more: Any = None) -> None:
    trigger = {"kind": "embedded-stream", "attributes": {"stream": GENERATED}, **(more or {})}
    body = deployable(code, NAME, PROJECT, triggers={"in": trigger})
    body["spec"]["min_replicas"] = workers
    river.client.deploy(PROJECT, NAME, body)


ENDED = "the function's process {} while it worked on it"
LEFT, CRASHED = ENDED.format("ended with exit code 3"), ENDED.format("was ended by SIGSEGV")


def test_one_row_that_ends_its_process_is_alone_in_the_dead_letters(river: River) -> None:
    river.write(3, {(5, ROWS + 123): "leave"})
    deploy(river, 1)
    wait_until(lambda: river.lag() == 0)
    river.assert_only_these_were_left_out({(5, ROWS + 123): LEFT})
    state = river.state()
    assert state["state"] == "ready"
    assert state["restarts"] <= 1 + DEATHS + ceil(log2(ROWS)) + 2
    before = state["restarts"]
    river.write(2, {})
    wait_until(lambda: river.lag() == 0)
    assert river.state()["restarts"] == before, "the doubt has passed"


@pytest.mark.slow
def test_rows_that_end_two_workers_in_several_ways_are_all_found_and_those_that_raise_too(river: River) -> None:
    deadly = {(2, 0): "crash", (2, 7): "raise", (2, ROWS - 1): "leave", (6, 2 * ROWS + 55): "crash"}
    river.write(3, deadly)
    deploy(river, 2)
    wait_until(lambda: river.lag() == 0, seconds=120)
    reasons = {"crash": CRASHED, "leave": LEFT, "raise": "the function failed on it: ValueError: no"}
    river.assert_only_these_were_left_out({place: reasons[how] for place, how in deadly.items()})


def test_of_a_function_that_acknowledges_the_whole_record_is_left_out(river: River) -> None:
    river.write(4, {(1, 2 * ROWS + 3): "crash"})
    deploy(river, 1, HOLDING, {"explicitAckMode": "explicitOnly"})
    wait_until(lambda: river.lag() == 0)
    (letter,) = river.rows(DEAD_LETTERS)[1]
    assert (letter["offset"], letter["row"], letter["reason"]) == (2, None, CRASHED)
    out = river.rows(INCOMING)
    for shard, sent in river.sent.items():
        assert out[shard] == (sent if shard != 1 else sent[: 2 * ROWS] + sent[3 * ROWS :])

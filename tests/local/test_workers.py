"""Real processes: the workers of one function share its shards."""

import contextlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from churnstream.errors import PlatformFailed, UnknownFunction
from churnstream.journal import Changes
from churnstream.local import SupervisorClient
from churnstream.records import Record
from churnstream.settings import Settings, read_settings
from churnstream.topology import GENERATED, INCOMING, SHARDS
from churnstream.wiring import Parts, open_journal, open_parts, open_stream

Make = Callable[..., dict[str, Any]]
Wait = Callable[[Callable[[], Any]], Any]

NAME = "incoming-event-handler"
# Passes every record on, with the process that did. A file called `gate` makes it wait in the middle of a record; one called
# `lock` makes worker 0 lock its journal there, and wait for ever.
PASS_ON = """
import os, sqlite3, time
from pathlib import Path
from churnstream.records import Record
from churnstream.wiring import open_parts

def init_context(context):
    context.user_data.parts = open_parts("incoming-event-handler")

def handler(context, event):
    if event.trigger.kind != "http":
        with context.user_data.parts.begin(event) as unit:
            if unit.replayed:
                return "replayed"
            while Path("gate").exists():
                Path(f"waiting-{os.getpid()}").touch()
                time.sleep(0.002)
            if Path("lock").exists() and context.worker_id == "0":
                connection = sqlite3.connect(context.user_data.parts.journal(event.shard_id).path, isolation_level=None)
                connection.execute("BEGIN IMMEDIATE")
                Path(f"locked-{event.shard_id}").touch()
                time.sleep(600)
            unit.append("incoming-events-stream", Record(event.body, 1, headers={"pid": str(os.getpid())}))
            unit.count("applied", 1)
    return {"pid": os.getpid(), "worker": context.worker_id}
"""


class River:
    """A function with a stream before it and one behind it, in a home of its own."""

    def __init__(self, client: SupervisorClient, project: str, wait_until: Wait):
        self.client, self.project = client, project
        self.wait_until = wait_until
        self.settings: Settings = read_settings({"CHURNSTREAM_HOME": str(client.home.root), "CHURNSTREAM_PROJECT": project})
        self.written = 0
        self._source: Parts | None = None

    def write(self, records: int) -> None:
        """So many more records into every shard; each says its number."""
        self._source = self._source or open_parts("event-generator", self.settings)
        for number in range(self.written, self.written + records):
            for shard in range(SHARDS):
                self._source.journal(shard).write(Changes(appends=[(GENERATED, Record(b"%d" % number))]), datetime.now(UTC))
        self.written += records

    def state(self) -> dict[str, Any]:
        return self.client.state(self.project, NAME)

    def workers(self) -> dict[int, dict[str, Any]]:
        return {each["number"]: each for each in self.state()["workers"]}

    def shares(self) -> list[int]:
        return sorted(len(each["shards"]) for each in self.workers().values())

    def is_shared_by(self, *sizes: int) -> bool:
        return self.shares() == sorted(sizes)

    def scale(self, workers: int) -> dict[str, Any]:
        """As ``churnstream scale`` does."""
        return self.client._ask("PUT", f"/functions/{self.project}/{NAME}/workers", {"workers": workers}, 60)

    def out(self) -> dict[int, list[tuple[int, int]]]:
        """shard -> (number, process) of every record behind the function, in order."""
        reader = open_stream(INCOMING, self.settings)
        found = {
            shard: [(int(each.payload), int(each.headers["pid"])) for each in reader.read(shard, 0, 10**6, 10**9)]
            for shard in range(SHARDS)
        }
        reader.close()
        return found

    def processes(self) -> set[int]:
        return {pid for records in self.out().values() for _, pid in records}

    def assert_each_came_through_once_and_in_order(self) -> None:
        self.client.drain(NAME, timedelta(seconds=30), self.project)
        for shard, records in self.out().items():
            assert [number for number, _ in records] == list(range(self.written)), f"shard {shard}"
            assert open_journal(NAME, shard, self.settings).accounts() == {(GENERATED, "applied"): self.written}


Deploy = Callable[..., River]


@pytest.fixture
def deployed(
    platform: SupervisorClient,
    function: Make,
    wait_until: Wait,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Iterator[Deploy]:
    """``deployed(workers, code=…, more=…, **attributes)`` is a river whose function runs in so many workers, in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    project = request.node.name.replace("_", "-")[:60]

    def deploy(workers: int, code: str = PASS_ON, more: Any = None, **attributes: str) -> River:
        trigger = {"kind": "embedded-stream", "attributes": {"stream": GENERATED, **attributes}}
        body = function(code, name=NAME, triggers={"in": trigger, **(more or {})})
        body["spec"]["min_replicas"] = workers
        state = platform.deploy(project, NAME, body)
        assert (state["state"], state["message"]) == ("ready", "")
        return River(platform, project, wait_until)

    yield deploy
    with contextlib.suppress(UnknownFunction):
        platform.delete(project, NAME)


def test_two_workers_share_the_shards_and_the_records(deployed: Deploy) -> None:
    river = deployed(2)
    workers = river.workers()
    assert [len(each["shards"]) for each in workers.values()] == [4, 4]
    assert sorted(shard for each in workers.values() for shard in each["shards"]) == list(range(SHARDS))
    river.write(5)
    river.assert_each_came_through_once_and_in_order()
    for shard, records in river.out().items():
        owner = next(each["pid"] for each in workers.values() if shard in each["shards"])
        assert {pid for _, pid in records} == {owner}


def test_killing_one_of_two_again_and_again_loses_doubles_and_reorders_nothing(deployed: Deploy) -> None:
    kills, records, rng = 6, 60, random.Random(1)
    river = deployed(2)
    for part in range(kills):
        river.write(records // kills)
        victim = rng.choice(river.wait_until(lambda: [each for each in river.workers().values() if each["state"] == "ready"]))
        os.kill(victim["pid"], signal.SIGKILL)
        river.wait_until(lambda victim=victim: river.workers()[victim["number"]]["pid"] != victim["pid"])
        reached = part * (records // kills) // 2
        river.wait_until(lambda reached=reached: sum(len(each) for each in river.out().values()) >= reached * SHARDS)
    river.assert_each_came_through_once_and_in_order()
    river.wait_until(lambda: river.is_shared_by(4, 4))
    assert river.state()["restarts"] == kills
    assert len(river.processes()) > 2


def test_a_dead_workers_shards_do_not_wait_until_it_is_back(deployed: Deploy, tmp_path: Path) -> None:
    slow = PASS_ON.replace(
        "def init_context(context):", "def init_context(context):\n    while Path('closed').exists(): time.sleep(0.01)"
    )
    river = deployed(2, code=slow)
    (tmp_path / "closed").touch()
    dead, alive = river.workers()[0], river.workers()[1]
    os.kill(dead["pid"], signal.SIGKILL)
    river.wait_until(lambda: river.workers()[1]["shards"] == list(range(SHARDS)))
    river.write(2)
    river.assert_each_came_through_once_and_in_order()
    assert river.processes() == {alive["pid"]}
    (tmp_path / "closed").unlink()
    river.wait_until(lambda: river.is_shared_by(4, 4))
    assert river.workers()[0]["shards"] == dead["shards"], "they come back"


def test_a_worker_that_was_thought_dead_cannot_write_and_gives_its_shards_up(deployed: Deploy, tmp_path: Path) -> None:
    river = deployed(2, sessionTimeout="1s")
    gate = tmp_path / "gate"
    gate.touch()
    river.write(1)
    stopped, other = (river.workers()[number]["pid"] for number in (0, 1))
    river.wait_until(lambda: all((tmp_path / f"waiting-{pid}").exists() for pid in (stopped, other)))
    os.kill(stopped, signal.SIGSTOP)  # in the middle of a record
    try:
        river.wait_until(lambda: river.workers()[0]["state"] == "silent")
        gate.unlink()
        river.wait_until(lambda: river.workers()[1]["shards"] == list(range(SHARDS)))
        river.write(3)
        river.assert_each_came_through_once_and_in_order()
        assert river.processes() == {other}
    finally:
        os.kill(stopped, signal.SIGCONT)
    river.wait_until(lambda: river.is_shared_by(4, 4))
    assert f"is held by process {other} (epoch" in river.client.logs(river.project, NAME)[0].decode()
    river.write(3)
    river.assert_each_came_through_once_and_in_order()
    assert river.processes() == {stopped, other}
    assert river.state()["restarts"] == 0


def test_a_silent_worker_that_keeps_a_journal_locked_is_killed(deployed: Deploy, tmp_path: Path) -> None:
    river = deployed(2, sessionTimeout="1s")
    (tmp_path / "lock").touch()
    river.write(1)
    victim = river.workers()[0]["pid"]
    river.wait_until(lambda: list(tmp_path.glob("locked-*")))
    os.kill(victim, signal.SIGSTOP)
    (tmp_path / "lock").unlink()
    river.wait_until(lambda: river.is_shared_by(4, 4) and river.state()["restarts"] == 1)
    river.assert_each_came_through_once_and_in_order()
    assert victim not in river.processes()


def test_workers_come_and_go_while_records_flow(deployed: Deploy) -> None:
    river = deployed(1)
    writer = threading.Thread(target=lambda: [river.write(10) for _ in range(20)])
    writer.start()
    for workers, sizes in ((3, (3, 3, 2)), (2, (4, 4)), (5, (2, 2, 2, 1, 1)), (1, (8,))):
        state = river.scale(workers)
        assert (state["state"], len(state["workers"])) == ("ready", workers)
        assert river.is_shared_by(*sizes)
    writer.join(60)
    river.assert_each_came_through_once_and_in_order()
    assert river.state()["restarts"] == 0


def test_the_number_of_workers_outlives_the_platform_until_the_function_is_deployed_again(
    deployed: Deploy,
) -> None:
    river = deployed(1)
    with pytest.raises(PlatformFailed, match="takes 1 to 8 workers, as many as its streams have shards"):
        river.scale(9)
    with pytest.raises(PlatformFailed, match="0 is not among them"):
        river.scale(0)
    with pytest.raises(PlatformFailed, match="say how many workers there should be"):
        river.client._ask("PUT", f"/functions/{river.project}/{NAME}/workers", {"workers": "many"})
    river.scale(2)
    river.client.down(timedelta(0))
    river.client.up()
    river.wait_until(lambda: river.is_shared_by(4, 4))
    deployed(3)
    assert river.is_shared_by(3, 3, 2)
    river.client.delete(river.project, NAME)
    with pytest.raises(UnknownFunction):
        river.scale(2)


def test_requests_spread_over_the_workers_and_each_can_be_asked_to_drain_all(deployed: Deploy) -> None:
    river = deployed(2)
    address, headers = river.state()["address"], {"Authorization": f"Bearer {river.client.home.token()}"}
    answered: dict[str, int] = {}

    def both() -> bool:
        answer = requests.post(f"http://{address}/", headers=headers, timeout=30).json()  # a connection each
        answered[answer["worker"]] = answer["pid"]
        return len(answered) == 2

    river.wait_until(both)
    assert answered == {str(number): each["pid"] for number, each in river.workers().items()}
    for _ in range(4):
        river.write(2)
        drained = requests.post(f"http://{address}/-/drain?deadline=30", headers=headers, timeout=60).json()
        assert drained == {"drained": True, "positions": {GENERATED: [river.written] * SHARDS}}
    river.assert_each_came_through_once_and_in_order()


def test_a_clock_ticks_in_one_worker_and_moves_when_that_is_gone(deployed: Deploy, tmp_path: Path) -> None:
    code = """
import os
from pathlib import Path
def handler(context, event):
    if event.trigger.kind == "cron":
        with Path(f"ticks-{os.getpid()}").open("a") as file:
            file.write(".")
"""

    def ticks() -> dict[int, int]:
        return {int(path.name.partition("-")[2]): path.stat().st_size for path in tmp_path.glob("ticks-*")}

    river = deployed(2, code=code, more={"clock": {"kind": "cron", "attributes": {"interval": "10ms"}}})
    river.wait_until(lambda: sum(ticks().values()) > 10)
    keeper = river.workers()[0]["pid"]
    assert set(ticks()) == {keeper}
    os.kill(keeper, signal.SIGKILL)
    river.wait_until(lambda: ticks().get(river.workers()[1]["pid"], 0) > 10)


def test_one_of_two_that_cannot_start_is_an_error_at_the_deployment(platform: SupervisorClient, function: Make) -> None:
    code = (
        "def init_context(context):\n    if context.worker_id == '1': raise ValueError('not me')\n"
        "def handler(context, event): pass"
    )
    body = function(code, name="picky")
    body["spec"]["min_replicas"] = 2
    state = platform.deploy("shop", "picky", body)
    assert (state["state"], state["workers"]) == ("error", [])
    assert "picky, worker 1, did not start: ValueError: not me" in state["message"]

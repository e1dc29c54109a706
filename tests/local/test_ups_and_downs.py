"""Real processes: how a platform starts and ends, by order, by force, and with its home."""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psutil
import pytest

from churnstream.errors import AlreadyRunning, PlatformFailed
from churnstream.journal import Changes
from churnstream.local import Home, SupervisorClient, connect
from churnstream.local.supervisor import claim
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.wiring import open_parts
from tests import waiting
from tests.local.asking import WHO, ask

Make = Callable[..., dict[str, Any]]
Wait = Callable[[Callable[[], Any]], Any]


def family(home: Home) -> list[psutil.Process]:
    """The supervisor of a home, its nursery and their workers."""
    supervisor = psutil.Process(json.loads(home.supervisor_file.read_text())["pid"])
    return [supervisor, *supervisor.children(recursive=True)]


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory, function: Make) -> Iterator[SupervisorClient]:
    """A platform that was started, and a function ``alpha`` on it deployed, by a process that has ended since."""
    code = """
import json, sys
from pathlib import Path
from churnstream.local import Home, SupervisorClient
SupervisorClient(Home(Path(sys.argv[1]))).deploy("shop", "alpha", json.load(sys.stdin))
"""
    environment = os.environ | {"CHURNSTREAM_CASE": "the notebook's"}
    with waiting.platform(tmp_path_factory.mktemp("left") / ".churnstream", up=False) as client:
        command = [sys.executable, "-c", code, str(client.home.root)]
        subprocess.run(command, input=json.dumps(function(WHO)), env=environment, text=True, check=True, timeout=60)
        yield client


@pytest.fixture(scope="module")
def often_ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisorClient]:
    with waiting.platform(tmp_path_factory.mktemp("mortal") / ".churnstream", up=False) as client:
        yield client


@pytest.fixture
def mortal(often_ended: SupervisorClient) -> Iterator[SupervisorClient]:
    """A platform that a test may end however it likes; the next one finds it running, or starts it, without a function."""
    yield often_ended
    running, home = often_ended.running(), often_ended.home
    for project, name in home.specs():
        if running:
            often_ended.delete(project, name)
        else:
            home.spec(project, name).unlink()


def test_functions_outlive_whoever_deployed_them(left_behind: SupervisorClient) -> None:
    assert ask(left_behind, left_behind.state("shop", "alpha")).status_code == 200


def test_the_settings_of_whoever_deploys_do_not_leak_into_functions(left_behind: SupervisorClient) -> None:
    environment = ask(left_behind, left_behind.state("shop", "alpha")).json()["environment"]
    assert "CHURNSTREAM_CASE" not in environment


def test_two_homes_do_not_disturb_each_other(left_behind: SupervisorClient, platform: SupervisorClient, function: Make) -> None:
    mine = platform.deploy("shop", "twin", function("def handler(c, e): return 'first'", name="twin"))
    theirs = left_behind.deploy("shop", "twin", function("def handler(c, e): return 'second'", name="twin"))
    assert (ask(platform, mine).text, ask(left_behind, theirs).text) == ("first", "second")
    assert ask(platform, theirs).status_code == 401
    left_behind.delete("shop", "twin")
    assert ask(platform, mine).text == "first"


def test_a_deleted_home_leaves_no_process(left_behind: SupervisorClient, wait_until: Wait) -> None:
    processes = family(left_behind.home)
    assert len(processes) == 3
    shutil.rmtree(left_behind.home.root)
    wait_until(lambda: all(gone(each) for each in processes))


def test_down_leaves_no_process_and_up_brings_the_functions_back(
    mortal: SupervisorClient, function: Make, wait_until: Wait
) -> None:
    client, home = mortal, mortal.home
    before = client.deploy("shop", "alpha", function(WHO))
    processes = family(home)
    assert len(processes) == 3
    assert client.down(timedelta(seconds=5)) == []
    wait_until(lambda: all(gone(each) for each in processes))
    assert not home.supervisor_file.exists()
    assert client.down(timedelta(seconds=5)) is None
    with pytest.raises(PlatformFailed, match="churnstream up"):
        client.state("shop", "alpha")
    assert [each["state"] for each in client.status()["functions"]] == ["stopped"]

    assert client.up()
    assert not client.up()
    wait_until(lambda: [each["state"] for each in client.status()["functions"]] == ["ready"])
    after = client.state("shop", "alpha")
    assert after["address"] == before["address"]
    assert ask(client, after).status_code == 200


def test_down_says_what_it_leaves_unread(mortal: SupervisorClient, function: Make, wait_until: Wait) -> None:
    name, client, home = "incoming-event-handler", mortal, mortal.home
    trigger = {"kind": "embedded-stream", "attributes": {"stream": "generated-stream"}}
    client.deploy("shop", name, function("def handler(c, e): return 503, 'later'", name=name, triggers={"in": trigger}))
    settings = read_settings({"CHURNSTREAM_HOME": str(home.root), "CHURNSTREAM_PROJECT": "shop"})
    generator = open_parts("event-generator", settings)
    generator.journal(3).write(Changes(appends=[("generated-stream", Record(b"{}"))] * 2), datetime.now(UTC))
    generator.close()
    wait_until(lambda: client.status()["functions"][0]["streams"][0]["lag"] == 2)
    assert client.down(timedelta(seconds=0.1)) == [
        f"{name} has not read all of generated-stream (records left: 2); they stay there"
    ]


def test_workers_die_with_their_supervisor_and_its_file_fools_nobody(
    mortal: SupervisorClient, function: Make, wait_until: Wait
) -> None:
    client, home = mortal, mortal.home
    client.deploy("shop", "alpha", function(WHO))
    processes = family(home)
    processes[0].kill()
    wait_until(lambda: all(gone(each) for each in processes))
    assert home.supervisor_file.exists()
    assert not client.running()
    assert client.up()
    wait_until(lambda: client.status()["functions"][0]["state"] == "ready")


def test_a_home_has_one_supervisor(platform: SupervisorClient) -> None:
    with pytest.raises(AlreadyRunning, match="churnstream status"):
        claim(platform.home)


def test_without_forking_functions_start_as_fresh_interpreters(home: Home, function: Make, wait_until: Wait) -> None:
    home.ensure()
    command = [sys.executable, "-m", "churnstream.local.supervisor", "--home", str(home.root), "--fresh", "--detach"]
    subprocess.run(command, check=True, timeout=60)
    client = SupervisorClient(home)
    state = client.deploy("shop", "alpha", function(WHO))
    assert ask(client, state).json()["pid"] == state["pid"]
    assert [each.cmdline()[2] for each in family(home)[1:]] == ["churnstream.local.worker"]
    os.kill(state["pid"], signal.SIGKILL)
    assert ask(client, state).json()["pid"] != state["pid"]


def test_connecting_does_nothing_where_a_cluster_is_named(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLRUN_DBPATH", "http://mlrun-api:8080")
    assert connect(home) is None
    assert not home.root.exists()

"""Real processes: a supervisor, its nursery and its workers."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from churnstream.errors import AlreadyRunning, PlatformFailed, UnknownFunction
from churnstream.journal import Changes
from churnstream.local import Home, SupervisorClient, connect, drain, replica
from churnstream.local.supervisor import claim
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.wiring import open_parts

Make = Callable[..., dict[str, Any]]
Wait = Callable[[Callable[[], Any]], Any]

WHO = """
import os
def handler(context, event):
    return {"pid": os.getpid(), "body": event.body, "environment": dict(os.environ)}
"""


def ask(client: SupervisorClient, state: dict[str, Any], path: str = "/", **given: Any) -> requests.Response:
    headers = {"Authorization": f"Bearer {client.home.token()}"}
    with requests.Session() as session:
        session.trust_env = False
        return session.post(f"http://{state['address']}{path}", headers=headers, timeout=30, **given)


def family(home: Home) -> list[psutil.Process]:
    """The supervisor of a home, its nursery and their workers."""
    supervisor = psutil.Process(json.loads(home.supervisor_file.read_text())["pid"])
    return [supervisor, *supervisor.children(recursive=True)]


def gone(process: psutil.Process) -> bool:
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_deployed_function_answers(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "alpha", function(WHO, env={"COLOUR": "green"}))
    assert (state["state"], state["message"]) == ("ready", "")
    answered = ask(platform, state, json={"n": 1}).json()
    assert answered["body"] == {"n": 1}
    assert answered["pid"] == state["pid"]
    told = answered["environment"]
    assert (told["COLOUR"], told["CHURNSTREAM_PROJECT"], told["CHURNSTREAM_FUNCTION"]) == ("green", "shop", "alpha")
    assert told["CHURNSTREAM_HOME"] == str(platform.home.root)


def test_the_kernels_own_settings_do_not_leak_into_functions(home: Home, function: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_CASE", "the notebook's")
    client = SupervisorClient(home)
    answered = ask(client, client.deploy("shop", "alpha", function(WHO)))
    assert "CHURNSTREAM_CASE" not in answered.json()["environment"]


def test_deploying_again_replaces_the_function_at_the_same_address(platform: SupervisorClient, function: Make) -> None:
    first = platform.deploy("shop", "again", function("def handler(c, e): return 'old'", name="again"))
    began = time.perf_counter()
    second = platform.deploy("shop", "again", function("def handler(c, e): return 'new'", name="again"))
    print(f"a deploy took {time.perf_counter() - began:.2f} s")  # noqa: T201 - a figure to look at, not a promise
    assert second["address"] == first["address"]
    assert ask(platform, second).text == "new"
    assert not psutil.pid_exists(first["pid"])


def test_a_killed_function_comes_back_at_its_address_and_no_client_is_refused(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "mortal", function(WHO, name="mortal"))
    os.kill(state["pid"], signal.SIGKILL)
    answered = ask(platform, state)
    assert answered.json()["pid"] != state["pid"]
    now = platform.state("shop", "mortal")
    assert (now["state"], now["restarts"]) == ("ready", 1)


def test_a_wrong_token_opens_neither_the_function_nor_the_supervisor(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "alpha", function(WHO))
    control = json.loads(platform.home.supervisor_file.read_text())["port"]
    for address in (state["address"], f"127.0.0.1:{control}"):
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            answered = requests.get(f"http://{address}/status", headers=headers, timeout=30)
            assert answered.status_code == 401


def test_a_function_that_does_not_start_says_why(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "stillborn", function("def init_context(c): return 1 / 0", name="stillborn"))
    assert state["state"] == "error"
    assert "handler" in state["message"]
    state = platform.deploy(
        "shop", "stillborn", function("def init_context(c):\n    1 / 0\ndef handler(c, e): pass", name="stillborn")
    )
    assert (state["state"], state["restarts"]) == ("error", 0)
    assert "ZeroDivisionError" in state["message"]
    assert "line 2, in init_context" in state["message"]
    with pytest.raises(requests.ConnectionError):
        ask(platform, state)
    fixed = platform.deploy("shop", "stillborn", function(WHO, name="stillborn"))
    assert (fixed["state"], fixed["address"]) == ("ready", state["address"])


def test_a_trigger_that_only_a_cluster_serves_is_an_error_at_the_deployment(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "odd", function(WHO, name="odd", triggers={"q": {"kind": "rabbit-mq"}}))
    assert state["state"] == "error"
    assert "rabbit-mq" in state["message"]


def test_a_function_that_keeps_crashing_is_given_up_and_says_why(
    platform: SupervisorClient, function: Make, wait_until: Wait
) -> None:
    code = """
import asyncio, os
def init_context(context):
    asyncio.get_running_loop().call_later(0.05, os._exit, 3)
def handler(context, event): pass
"""
    platform.deploy("shop", "crashing", function(code, name="crashing"))
    wait_until(lambda: platform.state("shop", "crashing")["state"] == "error")
    state = platform.state("shop", "crashing")
    assert state["restarts"] == replica.CRASHES - 1
    assert "exit code 3" in state["message"]


def test_a_deleted_function_is_gone(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "shortlived", function(WHO, name="shortlived"))
    platform.delete("shop", "shortlived")
    assert not psutil.pid_exists(state["pid"])
    with pytest.raises(UnknownFunction, match="shortlived"):
        platform.state("shop", "shortlived")
    with pytest.raises(UnknownFunction):
        platform.delete("shop", "shortlived")


def test_what_a_function_says_is_in_its_log(platform: SupervisorClient, function: Make, wait_until: Wait) -> None:
    code = "def handler(context, event):\n    context.logger.info_with('heard', n=event.body['n'])\n    raise ValueError('odd')"
    state = platform.deploy("shop", "talking", function(code, name="talking"))
    assert ask(platform, state, json={"n": 42}).status_code == 500
    text, offset = platform.logs("shop", "talking")
    assert b"info heard n=42" in text
    assert b"Traceback" in text
    assert platform.logs("shop", "talking", offset) == (b"", offset)


def test_draining_returns_where_the_function_stands(platform: SupervisorClient, function: Make) -> None:
    trigger = {"kind": "embedded-stream", "attributes": {"stream": "generated-stream"}}
    name = "incoming-event-handler"
    platform.deploy("shop", name, function("def handler(c, e): pass", name=name, triggers={"in": trigger}))
    assert drain(platform.home, name, timedelta(seconds=20))["positions"] == {"generated-stream": [0] * 8}
    streams = next(each["streams"] for each in platform.status()["functions"] if each["name"] == name)
    assert [(each["stream"], each["position"], each["end"], each["lag"]) for each in streams] == [("generated-stream", 0, 0, 0)]


def test_a_lost_nursery_is_replaced_and_costs_no_function(home: Home, function: Make) -> None:
    client = SupervisorClient(home)
    before = client.deploy("shop", "alpha", function(WHO))
    nursery = next(each for each in family(home) if "churnstream.local.nursery" in each.cmdline())
    assert nursery.num_threads() == 1, "it forks, which is safe with one thread only"
    nursery.kill()
    after = client.deploy("shop", "beta", function(WHO, name="beta"))
    assert after["state"] == "ready"
    assert ask(client, before).json()["pid"] == before["pid"]


def test_functions_outlive_whoever_deployed_them(home: Home, function: Make) -> None:
    code = f"""
import json, sys
from pathlib import Path
from churnstream.local import Home, SupervisorClient
client = SupervisorClient(Home(Path({str(home.root)!r})))
client.deploy("shop", "alpha", json.load(sys.stdin))
"""
    subprocess.run([sys.executable, "-c", code], input=json.dumps(function(WHO)), text=True, check=True, timeout=60)
    client = SupervisorClient(home)
    assert ask(client, client.state("shop", "alpha")).status_code == 200


def test_down_leaves_no_process_and_up_brings_the_functions_back(home: Home, function: Make, wait_until: Wait) -> None:
    client = SupervisorClient(home)
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


def test_down_says_what_it_leaves_unread(home: Home, function: Make, wait_until: Wait) -> None:
    name, client = "incoming-event-handler", SupervisorClient(home)
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


def test_workers_die_with_their_supervisor_and_its_file_fools_nobody(home: Home, function: Make, wait_until: Wait) -> None:
    client = SupervisorClient(home)
    client.deploy("shop", "alpha", function(WHO))
    processes = family(home)
    processes[0].kill()
    wait_until(lambda: all(gone(each) for each in processes))
    assert home.supervisor_file.exists()
    assert not client.running()
    assert client.up()
    wait_until(lambda: client.status()["functions"][0]["state"] == "ready")


def test_a_deleted_home_leaves_no_process(home: Home, function: Make, wait_until: Wait) -> None:
    SupervisorClient(home).deploy("shop", "alpha", function(WHO))
    processes = family(home)
    shutil.rmtree(home.root)
    wait_until(lambda: all(gone(each) for each in processes))


def test_a_home_has_one_supervisor(platform: SupervisorClient) -> None:
    with pytest.raises(AlreadyRunning, match="churnstream status"):
        claim(platform.home)


def test_two_homes_do_not_disturb_each_other(home: Home, platform: SupervisorClient, function: Make) -> None:
    other = SupervisorClient(home)
    mine = platform.deploy("shop", "twin", function("def handler(c, e): return 'first'", name="twin"))
    theirs = other.deploy("shop", "twin", function("def handler(c, e): return 'second'", name="twin"))
    assert (ask(platform, mine).text, ask(other, theirs).text) == ("first", "second")
    assert ask(platform, theirs).status_code == 401
    other.down(timedelta(0))
    assert ask(platform, mine).text == "first"


def test_a_worker_can_be_run_by_hand(home: Home, function: Make, wait_until: Wait) -> None:
    client = SupervisorClient(home)
    client.deploy("shop", "alpha", function(WHO))
    client.down(timedelta(0))
    command = [sys.executable, "-m", "churnstream.local.worker", str(home.spec("shop", "alpha")), "--home", str(home.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        line = worker.stderr.readline()
        try:
            assert ask(client, {"address": line.split()[-1]}).json()["pid"] == worker.pid
        finally:
            worker.terminate()
        worker.stderr.read()
        assert worker.wait(timeout=30) == 0


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


def test_a_notebook_deploys_and_invokes_with_mlruns_own_calls(home: Home, tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text("class Twice:\n    def do(self, event): return {'n': event['n'] * 2}\n")
    (tmp_path / "wrong.py").write_text("def init_context(c): raise ValueError('no')\ndef handler(c, e): pass\n")
    notebook = f"""
from pathlib import Path
from churnstream.local import connect
connect(Path({str(home.root)!r}))
import mlrun
project = mlrun.get_or_create_project("shop", context=".")
for engine in ("async", "sync"):
    doubling = project.set_function("graph.py", name=engine, kind="serving", image="mlrun/mlrun")
    doubling.set_topology("flow", engine=engine).to(class_name="Twice", name="twice").respond()
    doubling.deploy()
    assert doubling.invoke("/", body={{"n": 21}}) == {{"n": 42}}
    assert doubling.invoke("/-/drain", method="POST")["drained"]
    assert doubling.invoke("/", body={{"n": 4}}) == {{"n": 8}}
wrong = project.set_function("wrong.py", name="wrong", kind="nuclio", image="mlrun/mlrun", handler="handler")
try:
    wrong.deploy()
except mlrun.runtimes.RunError as cause:
    assert "ValueError: no" in str(cause)
else:
    raise AssertionError("a function that does not start was deployed")
"""
    command = [sys.executable, "-W", "ignore:Pydantic V1 style", "-c", notebook]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")

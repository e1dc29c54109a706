"""Real processes: functions on a platform that runs, from their deployment to their end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from churnstream.errors import UnknownFunction
from churnstream.local import SupervisorClient, drain, replica
from tests.local.asking import WHO, ask

Make = Callable[..., dict[str, Any]]
Wait = Callable[[Callable[[], Any]], Any]


def test_a_deployed_function_answers(platform: SupervisorClient, function: Make) -> None:
    state = platform.deploy("shop", "alpha", function(WHO, env={"COLOUR": "green"}))
    assert (state["state"], state["message"]) == ("ready", "")
    answered = ask(platform, state, json={"n": 1}).json()
    assert answered["body"] == {"n": 1}
    assert answered["pid"] == state["pid"]
    told = answered["environment"]
    assert (told["COLOUR"], told["CHURNSTREAM_PROJECT"], told["CHURNSTREAM_FUNCTION"]) == ("green", "shop", "alpha")
    assert told["CHURNSTREAM_HOME"] == str(platform.home.root)


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


def test_a_lost_nursery_is_replaced_and_costs_no_function(platform: SupervisorClient, function: Make) -> None:
    before = platform.deploy("shop", "alpha", function(WHO))
    nurseries = psutil.Process(platform.status()["pid"]).children()
    nursery = next(each for each in nurseries if "churnstream.local.nursery" in each.cmdline())
    assert nursery.num_threads() == 1, "it forks, which is safe with one thread only"
    nursery.kill()
    after = platform.deploy("shop", "beta", function(WHO, name="beta"))
    assert after["state"] == "ready"
    assert ask(platform, before).json()["pid"] == before["pid"]


def test_a_worker_can_be_run_by_hand(platform: SupervisorClient, function: Make, tmp_path: Path) -> None:
    platform.deploy("shop", "by-hand", function(WHO, name="by-hand"))
    specification = shutil.copy(platform.home.spec("shop", "by-hand"), tmp_path)
    platform.delete("shop", "by-hand")
    command = [sys.executable, "-m", "churnstream.local.worker", str(specification), "--home", str(platform.home.root)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        line = worker.stderr.readline()
        try:
            assert ask(platform, {"address": line.split()[-1]}).json()["pid"] == worker.pid
        finally:
            worker.terminate()
        worker.stderr.read()
        assert worker.wait(timeout=30) == 0


def test_a_notebook_deploys_and_invokes_with_mlruns_own_calls(platform: SupervisorClient, tmp_path: Path) -> None:
    (tmp_path / "graph.py").write_text("class Twice:\n    def do(self, event): return {'n': event['n'] * 2}\n")
    (tmp_path / "wrong.py").write_text("def init_context(c): raise ValueError('no')\ndef handler(c, e): pass\n")
    notebook = f"""
from pathlib import Path
from churnstream.local import connect
connect(Path({str(platform.home.root)!r}))
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

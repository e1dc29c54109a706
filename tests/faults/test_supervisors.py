"""One home has one supervisor, however many are started; and what it forks workers from is replaced when it is lost early."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from churnstream.local import SupervisorClient
from tests.deployable import deployable
from tests.waiting import platform, wait_until

MANY = 4
ECHO = "def handler(context, event):\n    return 'here'\n"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[SupervisorClient]:
    with platform(tmp_path / "home", up=False) as made:
        yield made


def test_of_many_supervisors_started_at_once_one_serves_and_the_others_say_so(client: SupervisorClient) -> None:
    client.home.ensure()
    command = [sys.executable, "-m", "churnstream.local.supervisor", "--home", str(client.home.root), "--detach"]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(MANY)]
    told = [each.communicate(timeout=60)[1] for each in started]
    codes = [each.returncode for each in started]
    assert sorted(codes) == [0] + [1] * (MANY - 1)
    for code, said in zip(codes, told, strict=True):
        if code:
            assert said.strip() == f"a supervisor serves {client.home.root} already; `churnstream status` shows it"
    assert not client.up(), "the one that serves answers, and no other is started"
    assert client.status()["functions"] == []


def test_a_nursery_that_is_killed_before_it_is_ready_is_replaced(client: SupervisorClient) -> None:
    client.up()

    def nursery() -> int | None:
        found = psutil.Process(client.status()["pid"]).children()
        return next((each.pid for each in found if "churnstream.local.nursery" in each.cmdline()), None)

    os.kill(wait_until(nursery), signal.SIGKILL)
    assert client.deploy("shop", "one", deployable(ECHO, "one"))["state"] == "ready", (
        "whoever has to wait for it is served all the same"
    )
    second = client.deploy("shop", "two", deployable(ECHO, "two"))
    assert second["state"] == "ready"
    assert "churnstream.local.nursery" in psutil.Process(second["pid"]).parent().cmdline()

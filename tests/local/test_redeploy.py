"""A function is deployed again under load: clients wait, and none of them is let down."""

import http.client
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from churnstream.local import SupervisorClient
from tests.waiting import platform, wait_until

PROJECT, NAME = "again", "alpha"
CODE = """
import asyncio

def handler(context, event):
    return "{number}"

async def later(context, event):
    await asyncio.sleep(0.005)
    return "{number}"
"""


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SupervisorClient]:
    with platform(tmp_path_factory.mktemp("again") / ".churnstream") as client:
        yield client


@dataclass
class Load:
    """A client's answers, without repetitions, and what was wrong."""

    count: int = 0
    answers: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def ask(self, address: str, token: str, stop: threading.Event, keeps: bool) -> None:
        """Ask until it is time to stop, on one connection as long as it lasts, or on one for each request."""
        asking = http.client.HTTPConnection(address, timeout=30)
        while not stop.is_set():
            try:
                asking.request("POST", "/", b"x", {"Authorization": f"Bearer {token}"})
                told = asking.getresponse()
                answer = told.read().decode()
            except (OSError, http.client.HTTPException) as cause:
                self.wrong.append(f"{type(cause).__name__}: {cause}")
                break
            if told.status != 200:
                self.wrong.append(f"{told.status} {answer}")
            if self.answers[-1:] != [answer]:
                self.answers.append(answer)
            self.count += 1
            if not keeps:
                asking.close()
        asking.close()


@pytest.mark.parametrize("name", ["handler", "later"])
def test_who_asks_while_a_function_is_replaced_is_answered(
    client: SupervisorClient, function: Callable[..., dict[str, Any]], name: str, tmp_path: Path
) -> None:
    def deploy(number: int) -> dict[str, Any]:
        deployed = function(CODE.format(number=number), name=NAME, triggers={"http": {"kind": "http", "maxWorkers": 2}})
        deployed["spec"]["function_handler"] = f"alpha:{name}"
        return client.deploy(PROJECT, NAME, deployed)

    address = deploy(0)["address"]
    stop = threading.Event()
    seen = [Load() for _ in range(6)]
    clients = [
        threading.Thread(target=each.ask, args=(address, client.home.token(), stop, place % 2 == 0), daemon=True)
        for place, each in enumerate(seen)
    ]
    for each in clients:
        each.start()
    try:
        for number in range(1, 5):
            before = [each.count for each in seen]
            wait_until(
                lambda before=before: all(each.wrong or each.count > past for each, past in zip(seen, before, strict=True))
            )
            assert deploy(number)["address"] == address
        wait_until(lambda: all(each.wrong or each.answers[-1] == "4" for each in seen))
    finally:
        stop.set()
        for each in clients:
            each.join(60)
    assert [each.wrong for each in seen] == [[]] * len(seen)
    for each in seen:
        assert each.answers == sorted(each.answers)

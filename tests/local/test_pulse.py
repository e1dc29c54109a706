"""Signs of life, without processes."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from churnstream.local import pulse

PATIENCE_S = 0.05


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The supervisor's end and the worker's."""
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not holds():
            await asyncio.sleep(0.001)


def test_silence_is_told_once_and_so_is_its_end(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    told: list[str] = []

    async def live() -> None:
        listening = asyncio.create_task(
            pulse.listen(ours, PATIENCE_S, lambda: told.append("silent"), lambda: told.append("heard"))
        )
        await until(lambda: told == ["silent"])
        later = asyncio.get_running_loop().time() + 3 * PATIENCE_S
        await until(lambda: asyncio.get_running_loop().time() > later)
        theirs.send(b".")
        await until(lambda: told == ["silent", "heard"])
        await until(lambda: told == ["silent", "heard", "silent"])
        theirs.close()
        async with asyncio.timeout(10):
            await listening

    asyncio.run(live())
    assert told == ["silent", "heard", "silent"], "an end is no silence"


def test_a_listener_that_slept_itself_blames_nobody(ends: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = ends
    told: list[str] = []

    async def live() -> None:
        listening = asyncio.create_task(
            pulse.listen(ours, PATIENCE_S, lambda: told.append("silent"), lambda: told.append("heard"))
        )
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        theirs.send(b".")
        asleep = loop.time() + 2 * PATIENCE_S
        while loop.time() < asleep:
            pass
        theirs.close()
        async with asyncio.timeout(10):
            await listening

    asyncio.run(live())
    assert told == []


def test_a_worker_shows_life_while_its_loop_is_busy(
    ends: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = ends
    monkeypatch.setattr(pulse, "PULSE_S", 0.005)
    ours.settimeout(10)
    pulse.beat(theirs)
    assert [ours.recv(1) for _ in range(3)] == [b"."] * 3, "this thread did nothing else meanwhile"

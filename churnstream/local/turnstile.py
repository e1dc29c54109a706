"""Lets calls through, and can be closed while a function flushes what it holds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turnstile:
    """Counts who is inside; while it is closed nobody enters, and the closer is alone."""

    def __init__(self) -> None:
        self._inside = 0
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._closing = asyncio.Lock()
        self._passing = _Passing(self)

    def passing(self) -> "_Passing":
        """``async with turnstile.passing():`` enters, waiting while it is closed, and leaves."""
        return self._passing

    def slip_in(self) -> bool:
        """Enter if it is open at this moment; whoever has entered leaves."""
        if self._open.is_set():
            self._inside += 1
            self._empty.clear()
            return True
        return False

    async def enter(self) -> None:
        """Enter, waiting while it is closed; whoever has entered leaves."""
        while not self.slip_in():
            await self._open.wait()

    def leave(self) -> None:
        """Leave."""
        self._inside -= 1
        if not self._inside:
            self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncIterator[None]:
        """Close it and wait until those inside have left; it opens again afterwards."""
        async with self._closing:
            self._open.clear()
            try:
                await self._empty.wait()
                yield
            finally:
                self._open.set()


class _Passing:
    """Holds nothing, so that one does for every call: a generator for each would cost more than the calls it lets through."""

    def __init__(self, turnstile: Turnstile):
        self._turnstile = turnstile

    async def __aenter__(self) -> None:
        await self._turnstile.enter()

    async def __aexit__(self, *failure: object) -> None:
        self._turnstile.leave()

"""The line between the supervisor and a worker: JSON lines both ways.

When it breaks, the other side is gone.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

LONGEST_LINE = 4 * 1024 * 1024  # bytes; a traceback may be long


class Channel:
    """One end of the line."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, end: socket.socket) -> "Channel":
        """Speak over a connected socket, which belongs to the channel from now on."""
        return cls(*await asyncio.open_unix_connection(sock=end, limit=LONGEST_LINE))

    async def say(self, **message: Any) -> None:
        """Send one message; nobody listening is no error, since the listening side notices by itself."""
        try:
            self._writer.write(json.dumps(message, default=str).encode() + b"\n")
            await self._writer.drain()
        except ConnectionError:
            return

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        """What the other side says, until it is gone."""
        while True:
            try:
                line = await self._reader.readline()
            except ConnectionError:
                return
            if not line:
                return
            yield json.loads(line)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()

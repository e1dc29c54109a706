"""The HTTP server of a worker and of the supervisor, on a socket that is already listening."""

import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn

from churnstream.local.connection import LEAVING, Connection

KEEP_ALIVE_S = 75
LAST_REQUESTS_S = 5  # for requests at work when the server stops
BACKLOG = 1024


class Server(uvicorn.Server):
    """Serves an ASGI application until ``should_exit`` is set; leaves signals to those who have more to stop."""

    def __init__(self, application: Any):
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        super().__init__(
            uvicorn.Config(
                application,
                interface="asgi3",
                http=Connection,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=KEEP_ALIVE_S,
                timeout_graceful_shutdown=LAST_REQUESTS_S,
            )
        )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no new connection, answer what was asked, and hang up."""
        setattr(self.server_state, LEAVING, True)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Captures none."""
        yield

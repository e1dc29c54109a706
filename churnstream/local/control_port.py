"""Where the supervisor listens: on a port that is free, or on the one that whoever started it has named."""

import socket
from collections.abc import Mapping

from churnstream.errors import InvalidSetting, PlatformFailed

VARIABLE = "CHURNSTREAM_PORT"
MOST = 65_535


def listen(environment: Mapping[str, str]) -> socket.socket:
    """A listening socket on 127.0.0.1, on the port in CHURNSTREAM_PORT; unset, empty or 0, on one that is free.

    Raises InvalidSetting for what is no port, and PlatformFailed for one that is taken.
    """
    given = environment.get(VARIABLE) or "0"
    if not (given.isascii() and given.isdigit() and int(given) <= MOST):
        raise InvalidSetting(f"{VARIABLE} is {given!r}; a port lies between 1 and {MOST}, and 0 stands for any that is free")
    try:
        return socket.create_server(("127.0.0.1", int(given)))
    except OSError as cause:
        raise PlatformFailed(
            f"nothing can listen on 127.0.0.1:{given} ({cause.strerror}); name another port in {VARIABLE}, or none"
        ) from cause

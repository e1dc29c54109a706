"""What the drivers say to a function over HTTP, and what they hear."""

import contextlib
import http.client
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field

ANSWER_S = 30.0


@dataclass(frozen=True, slots=True)
class Request:
    """One call of a function."""

    path: str = "/"
    body: bytes = b""
    method: str = "POST"
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer; the names of its headers are in small letters."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str]


class Connection:
    """Asks one server again and again over one connection; every thread gets its own."""

    def __init__(self, address: str, headers: Mapping[str, str] | None = None):
        self._address, self._headers = address, dict(headers or {})
        self._open: dict[threading.Thread, http.client.HTTPConnection] = {}

    def ask(self, request: Request) -> Reply:
        """Raises OSError and HTTPException when nobody answers."""
        me = threading.current_thread()
        if me not in self._open:
            self._open[me] = http.client.HTTPConnection(self._address, timeout=ANSWER_S)
        connection = self._open[me]
        try:
            connection.putrequest(request.method, request.path, skip_accept_encoding=True)
            for name, value in {**self._headers, **request.headers, "Content-Length": str(len(request.body))}.items():
                connection.putheader(name, value)
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.endheaders(
                    request.body
                )  # a server that refuses the body may hang up; its answer is there nevertheless
            answer = connection.getresponse()
            headers = {name.lower(): value.encode("latin-1").decode() for name, value in answer.getheaders()}
            return Reply(answer.status, answer.read(), headers.get("content-type", ""), headers)
        except BaseException:
            self._open.pop(me).close()
            raise

    def close(self) -> None:
        """Hang up, whoever has asked."""
        while self._open:
            self._open.popitem()[1].close()

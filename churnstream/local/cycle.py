"""One request and its answer: uvicorn's, but an answer that is whole goes out in one piece."""

from collections.abc import Sequence
from typing import Any

from uvicorn.protocols.http.httptools_impl import HEADER_RE, HEADER_VALUE_RE, STATUS_LINE, RequestResponseCycle

WITHOUT_BODY = (204, 304)
UVICORNS = (b"transfer-encoding", b"connection")  # headers of which it makes more than text


class Cycle(RequestResponseCycle):
    """Keeps an answer's head until its body is there, and sends both at once when nothing about them is unusual.

    It takes over a cycle that uvicorn has just made, by becoming its class.
    """

    _head: Any = None

    async def send(self, message: Any) -> None:
        """Takes an ASGI message; raises RuntimeError for one that is out of turn, or a header that cannot be."""
        if self._head is None:
            if not self.response_started and message["type"] == "http.response.start":
                self._head = message
                self.response_started = True  # an application that fails now is cut off, not answered twice
            else:
                await super().send(message)
            return
        head, self._head = self._head, None
        if not self._sent_at_once(head, message):
            self.response_started = False
            await super().send(head)
            await super().send(message)

    def _sent_at_once(self, head: Any, message: Any) -> bool:
        status, body = head["status"], message.get("body", b"")
        if (
            message.get("more_body")
            or self.disconnected
            or self.flow.write_paused
            or status in WITHOUT_BODY
            or self.scope["method"] == "HEAD"
        ):
            return False
        told = in_one_piece(status, self.default_headers, head["headers"], body, self.keep_alive)
        if told is None:
            return False
        self.transport.write(told)
        self.waiting_for_100_continue = False
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
        return True


Headers = Sequence[tuple[bytes, bytes]]


def in_one_piece(status: int, always: Headers, given: Headers, body: bytes, keep_alive: bool) -> bytes | None:
    """An answer with a body as HTTP writes it; ``always`` are the server's own headers. None where uvicorn has to look at it."""
    pieces = [STATUS_LINE[status]]
    for name, value in always:
        pieces += (name, b": ", value, b"\r\n")
    for name, value in given:
        if name in UVICORNS or HEADER_RE.search(name) or HEADER_VALUE_RE.search(value):
            return None
        if name != b"content-length":
            pieces += (name, b": ", value, b"\r\n")
    if not keep_alive:
        pieces.append(b"connection: close\r\n")
    pieces += (b"content-length: %d\r\n\r\n" % len(body), body)
    return b"".join(pieces)

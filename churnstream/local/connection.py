"""One client's connection: uvicorn's, with an end to the patience for a request's head, and to its size."""

from asyncio import TimerHandle
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churnstream.local.cycle import Cycle
from churnstream.local.limits import HEAD_BYTES, HEAD_COUNT, HEAD_S

ANSWER = "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{sentence}"
TOO_SLOW = "408 Request Timeout", f"The request's headers did not arrive within {HEAD_S:g} s."
TOO_LARGE = (
    "431 Request Header Fields Too Large",
    f"A request may have {HEAD_COUNT} headers and, with its address, {HEAD_BYTES} bytes of them; this one has more.",
)
LAST_LOOK_S = 0.05
WHOLE = "churnstream.whole"  # in a request's scope from when all of its body is there: nobody needs to wait for it


class Connection(HttpToolsProtocol):
    """Refuses with 408 a head that comes too slowly, and with 431 one that is too large, and hangs up."""

    _patience: TimerHandle | None = None
    _reading_head = True
    _head = 0  # bytes of it that came so far
    _begun = False  # some of it came, and not yet all
    _refused = False

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._be_patient()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a head, a body, or several of both."""
        if self._refused:
            return
        if self._reading_head:
            self._head += len(data)
        super().data_received(data)
        if self._reading_head and self._head > HEAD_BYTES:
            self._refuse(*TOO_LARGE)
        elif self._begun and not self._refused:
            self._be_patient()  # only now: most heads come in one piece, and clocks cost

    def on_message_begin(self) -> None:
        """A request's first byte."""
        self._reading_head = self._begun = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there; the body may follow."""
        self._reading_head = self._begun = False
        self._stop_waiting()
        headers: list[tuple[bytes, bytes]] = self.headers
        size = len(self.url) + sum(len(key) + len(value) for key, value in headers)
        if len(self.headers) > HEAD_COUNT or size > HEAD_BYTES:
            self._refuse(*TOO_LARGE)
        elif not self._refused:
            super().on_headers_complete()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.__class__ = Cycle
        super()._start_asgi_task(cycle, app)

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is there; another request may follow."""
        if not self._refused:
            super().on_message_complete()
            scope: Any = self.cycle.scope
            scope[WHOLE] = True
            self._reading_head, self._head = True, 0

    def _be_patient(self) -> None:
        if self._patience is None:
            self._patience = self.loop.call_later(HEAD_S, self._look_once_more)

    def _look_once_more(self) -> None:
        """Where a handler kept this loop busy, what has come was not read yet: clocks come before sockets."""
        self._patience = self.loop.call_later(LAST_LOOK_S, self._give_up)

    def _give_up(self) -> None:
        self._patience = None
        if self._reading_head:
            self._refuse(*TOO_SLOW)

    def _stop_waiting(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _refuse(self, status: str, sentence: str) -> None:
        self._refused = True
        self._stop_waiting()
        if not self.transport.is_closing():
            self.transport.write(ANSWER.format(status=status, length=len(sentence), sentence=sentence).encode())
            self.transport.close()

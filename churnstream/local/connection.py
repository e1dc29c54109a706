"""One client's connection: uvicorn's, with an end to the patience for a request's head, and to its size."""

from asyncio import TimerHandle
from collections.abc import Callable
from functools import lru_cache
from math import inf
from typing import Any
from urllib.parse import unquote

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from churnstream.local.answers import Application, Receive, Send, header_lines, send_answer
from churnstream.local.contract import Answer
from churnstream.local.cycle import WITHOUT_BODY, Cycle, in_one_piece
from churnstream.local.limits import HEAD_BYTES, HEAD_COUNT, HEAD_S

ANSWER = "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{sentence}"
TOO_SLOW = "408 Request Timeout", f"The request's headers did not arrive within {HEAD_S:g} s."
TOO_LARGE = (
    "431 Request Header Fields Too Large",
    f"A request may have {HEAD_COUNT} headers and, with its address, {HEAD_BYTES} bytes of them; this one has more.",
)
LAST_LOOK_S = 0.05
LAST_CALL_S = 0.05  # for a request that was sent before its sender knew that the server stops
LEAVING = "leaving"  # of a server's state: it stops
AtOnce = Callable[[dict[str, Any], bytes], Answer | Application | None]
WHOLE = "churnstream.whole"  # in a request's scope from when all of its body is there: nobody needs to wait for it


class Connection(HttpToolsProtocol):
    """Refuses with 408 a head that comes too slowly, and with 431 one that is too large, and hangs up."""

    _patience: TimerHandle | None = None
    _reading_head = True
    _head = 0  # bytes of it that came so far
    _begun = False  # some of it came, and not yet all
    _refused = False  # nothing more is taken on this connection
    _kept: bytes | None = None  # the body so far of a request that may be answered at once
    _instead: Application | None = None  # what gives the next answer, where that is not the server's application
    _leaving = False  # the server stops
    _quiet_since = inf  # the last answer; inf while a request is at work

    def __init__(self, *arguments: Any, **named: Any):
        super().__init__(*arguments, **named)
        self._at_once: AtOnce | None = getattr(self.app, "at_once", None)

    def connection_made(self, transport: Any) -> None:
        """A client is there."""
        super().connection_made(transport)
        self._be_patient()
        if getattr(self.server_state, LEAVING, False):
            self.shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._stop_waiting()
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a head, a body, or several of both."""
        if self._refused:
            return
        if self._reading_head:
            self._head += len(data)
        super().data_received(data)
        if self._kept is not None:  # the rest of it is still on its way
            self._take_the_usual_way()
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
        if len(self.headers) > HEAD_COUNT or (self._head > HEAD_BYTES and self._size_of_head() > HEAD_BYTES):
            self._refuse(*TOO_LARGE)
        elif not self._refused:
            if self._at_once is not None and self._is_plain():
                self._kept = b""
            else:
                super().on_headers_complete()

    def _size_of_head(self) -> int:
        headers: list[tuple[bytes, bytes]] = self.headers
        return len(self.url) + sum(len(key) + len(value) for key, value in headers)

    def _is_plain(self) -> bool:
        """Whether a request can be answered at once: nothing unusual is asked for, and no other is at work on this connection."""
        parser: Any = self.parser
        return (
            self._rests()
            and not (self.expect_100_continue or self.flow.write_paused or parser.should_upgrade())
            and parser.get_method() != b"HEAD"
            and parser.get_http_version() == "1.1"
        )

    def _take_the_usual_way(self) -> None:
        body, self._kept = self._kept, None
        if not self.transport.is_closing():
            super().on_headers_complete()
            if body:
                super().on_body(body)

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        cycle.__class__ = Cycle
        cycle.keep_alive = cycle.keep_alive and not self._leaving
        instead, self._instead = self._instead, None
        super()._start_asgi_task(cycle, instead or app)  # type: ignore[arg-type]  # the same, in more words

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        if self._kept is not None:
            self._kept = self._kept + body if self._kept else body
        elif not self._refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The body is there; another request may follow."""
        if self._refused:
            return
        self._reading_head, self._head = True, 0
        if self._kept is not None:
            answered = self._ask_at_once(self._kept)
            if type(answered) is Answer and self._written(answered):
                self._kept = None
                return
            self._instead = told_by(answered) if isinstance(answered, Answer) else answered
            self._take_the_usual_way()
        super().on_message_complete()
        scope: Any = self.cycle.scope
        scope[WHOLE] = True

    def _ask_at_once(self, body: bytes) -> Answer | Application | None:
        scope: Any = self.scope
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["path"], scope["query_string"] = target(self.url)
        return self._at_once and self._at_once(scope, body)

    def _written(self, answered: Answer) -> bool:
        """Whether an answer went out: nothing about it is unusual."""
        if answered.rest is not None or answered.status in WITHOUT_BODY:
            return False
        lines = header_lines(answered.content_type, answered.headers)
        keeps = not self._leaving and self.parser.should_keep_alive()
        told = in_one_piece(answered.status, self.server_state.default_headers, lines, answered.body, keeps)
        if told is None:
            return False
        self.transport.write(told)
        self.server_state.total_requests += 1
        if not keeps:
            self._refused = True  # what follows is nobody's request any more, and nobody would hear its answer
            self.transport.close()
        self._quiet_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)
        return True

    def on_response_complete(self) -> None:
        """The answer went out; the next request that waits here is at work, or the connection rests."""
        timer, self.timeout_keep_alive_task = self.timeout_keep_alive_task, None
        if timer is not None:
            timer.cancel()
        super().on_response_complete()
        self._quiet_since = self.loop.time()

    def _unset_keepalive_if_required(self) -> None:
        self._quiet_since = inf  # the clock goes on: a new one for every request would cost more

    def timeout_keep_alive_handler(self) -> None:
        """The connection may have rested for long enough."""
        left = self._quiet_since + self.timeout_keep_alive - self.loop.time() if self._rests() else inf
        if left > 0:
            again = min(left, self.timeout_keep_alive)
            self.timeout_keep_alive_task = self.loop.call_later(again, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """The server stops: whoever is answered from now on is told to come again by another connection.

        A request that is on its way at this moment is still answered: others may already listen in this server's place.
        """
        self._leaving = True
        if self._rests():
            self.loop.call_later(LAST_CALL_S, self._hang_up)
        else:
            self.cycle.keep_alive = False

    def _rests(self) -> bool:
        return self.cycle is None or bool(self.cycle.response_complete)

    def _hang_up(self) -> None:
        if self._rests() and not self._begun and not self.transport.is_closing():
            self.transport.close()

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


@lru_cache(maxsize=1024)
def target(url: bytes) -> tuple[str, bytes]:
    """A request's path, as text, and its query; raises what makes uvicorn answer with 400."""
    parsed = httptools.parse_url(url)
    path = parsed.path.decode("ascii")
    return unquote(path) if "%" in path else path, parsed.query or b""


def told_by(answered: Answer) -> Application:
    """An application that gives this answer."""

    async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await send_answer(send, answered)

    return application

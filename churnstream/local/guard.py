"""Who may enter: every door of a home asks for a token, and a token opens the doors of its scope."""

import base64
import binascii
import hmac
import time
from collections.abc import Callable, Iterable

from churnstream.errors import InvalidSetting
from churnstream.local.answers import Send, answer
from churnstream.local.home import Home
from churnstream.local.scopes import OPENS, SCOPES, Scope, opens

RawHeaders = Iterable[tuple[bytes, bytes]]

LOOK_S = 1.0  # for so long a token that was replaced still opens
UNAUTHORISED = "This door needs a token of the home: 'Authorization: Bearer <token>'; `churnstream token` prints it."


class Guard:
    """Compares a request's token with those of ``home``, in a time that does not tell how much of it was right, or which it was.

    A token that is made or replaced while the guard stands there counts as soon as it is shown.
    """

    def __init__(self, home: Home, clock: Callable[[], float] = time.monotonic):
        self._home, self._clock = home, clock
        self._files = {scope: home.token_of(scope) for scope in SCOPES}
        self._seen: dict[Scope, int] = {}
        self._tokens: dict[Scope, bytes] = {}
        self._read()

    def scope_of(self, headers: RawHeaders) -> Scope | None:
        """What the token opens: ``Bearer <token>``, or Basic with the token as password, whatever the login. None: nothing."""
        given = _given(headers)
        if given is None:
            return None
        if self._clock() - self._looked > LOOK_S:
            self._read()
        held = self._held_by(given)
        if held is None:  # it may have been made since
            self._read()
            held = self._held_by(given)
        return held

    def _held_by(self, given: bytes) -> Scope | None:
        held: Scope | None = None
        for scope, token in self._tokens.items():  # all of them, always
            if hmac.compare_digest(given, token):
                held = scope
        return held

    def _read(self) -> None:
        self._looked = self._clock()
        for scope, path in self._files.items():
            try:
                changed = path.stat().st_mtime_ns
                if self._seen.get(scope) != changed:
                    self._tokens[scope] = self._home.token(scope).encode()
                    self._seen[scope] = changed
            except (OSError, InvalidSetting):
                self._tokens.pop(scope, None)
                self._seen.pop(scope, None)
        self._tokens = {scope: token for scope, token in self._tokens.items() if token}  # an empty file opens nothing


async def turned_away(guard: Guard, asked: Scope, headers: RawHeaders, send: Send) -> int:
    """0 when the request may go on; otherwise it is answered: 401 without a token of the home, 403 with one of another scope."""
    held = guard.scope_of(headers)
    if held is None:
        return await answer(send, 401, UNAUTHORISED.encode(), headers={"www-authenticate": 'Bearer realm="churnstream"'})
    if not opens(held, asked):
        return await answer(send, 403, wrong_scope(held, asked).encode())
    return 0


def wrong_scope(held: Scope, asked: Scope) -> str:
    """What the holder of the wrong token is told."""
    command = "churnstream token" if asked == "operate" else f"churnstream token --scope {asked}"
    return f"This token is for {held} and opens {OPENS[held]}; this door asks for {asked}: `{command}` prints that one."


def _given(headers: RawHeaders) -> bytes | None:
    for name, value in headers:
        if name == b"authorization":
            scheme, _, given = value.strip().partition(b" ")
            if scheme.lower() == b"bearer":
                return given.strip()
            if scheme.lower() == b"basic":
                return _password(given.strip())
    return None


def _password(credentials: bytes) -> bytes | None:
    try:
        return base64.b64decode(credentials, validate=True).partition(b":")[2]
    except binascii.Error:
        return None

"""Every route of every server, as the code lists them: nobody comes in without a token, and none with one of another scope."""

import asyncio
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest

from churnstream import topology
from churnstream.local import Home
from churnstream.local.control import Control
from churnstream.local.guard import LOOK_S, Guard
from churnstream.local.routes import METHODS, OPEN
from churnstream.local.scopes import SCOPES, Scope, scope_of
from tests.security.doors import ask, furnished, gateway

Route = tuple[Any, str, str, Scope | None]  # an application, a method, a path, and the scope that it asks for


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return furnished(Home(tmp_path / "home"))


class Nobody:
    """A supervisor that must never be reached: whatever it is asked raises."""


async def routes(home: Home) -> list[Route]:
    """Those of the door of every function that stays, of a function that nobody knows, and of the control."""
    found: list[Route] = []
    names = [each.name for each in topology.FUNCTIONS if each.kind != "job"]
    for name in [*names, "somebodys-own"]:
        door = gateway(home, scope_of(name))
        for path, methods in METHODS.items():
            found += [(door, method, path, None if path in OPEN else "operate") for method in methods]
        found += [(door, method, path, scope_of(name)) for method in ("GET", "POST") for path in ("/", "/v2/models/churn/infer")]
    control = Control(Nobody(), Guard(home), asyncio.Event())  # type: ignore[arg-type]
    for route in control.routes:
        path = route.path.format(project="shop", name="alpha")
        found += [(control.application, method, path, None if path in OPEN else "operate") for method in route.methods or ()]
    return found


async def statuses(home: Home, token: str | None, asking: Iterator[Scope | None] | tuple[Scope | None, ...]) -> dict[str, int]:
    chosen = [each for each in await routes(home) if each[3] in tuple(asking)]
    return {
        f"{method} {path} {asked} {id(door)}": (await ask(door, method, path, token))[0] for door, method, path, asked in chosen
    }


def test_the_functions_ask_for_the_scope_of_their_kind() -> None:
    assert {each.name: each.scope for each in topology.FUNCTIONS if each.http} == {
        "incoming-event-handler": "ingest",
        "serving": "infer",
    }
    assert {each.scope for each in topology.FUNCTIONS if not each.http} == {"operate"}
    assert scope_of("somebodys-own") == "operate"
    assert set(get_args(Scope)) == set(SCOPES)


@pytest.mark.parametrize("token", [None, "wrong", ""])
def test_every_route_but_health_answers_401_without_a_token(home: Home, token: str | None) -> None:
    found = asyncio.run(statuses(home, token, SCOPES))
    assert len(found) > 50
    assert set(found.values()) == {401}
    assert set(asyncio.run(statuses(home, token, (None,))).values()) == {200}


@pytest.mark.parametrize("held", ["ingest", "infer"])
def test_every_route_answers_403_to_a_token_of_another_scope(home: Home, held: Scope) -> None:
    found = asyncio.run(statuses(home, home.token(held), tuple(each for each in SCOPES if each != held)))
    assert len(found) > 30
    assert set(found.values()) == {403}
    assert set(asyncio.run(statuses(home, home.token(held), (held,))).values()) == {200}


def test_a_path_that_looks_like_a_public_one_is_not_public(home: Home) -> None:
    door = gateway(home)
    for path in ("/-/live/", "/-/live/x", "//-/live", "/-/LIVE", "/-/ready?x", "/-/../-/live", "/-/live\x00"):
        assert asyncio.run(ask(door, "GET", path))[0] == 401, path


def test_a_home_of_an_older_version_keeps_its_token_and_gets_the_others_when_they_are_asked_for(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("x" * 43 + "\n")
    home = Home(tmp_path)
    home.ensure()
    assert home.token() == "x" * 43
    door = gateway(home)
    assert asyncio.run(ask(door, "POST", "/", home.token()))[0] == 200
    made = home.issue("ingest")
    assert asyncio.run(ask(door, "POST", "/", made))[0] == 200, "a door that stood before sees it"
    assert stat.S_IMODE(home.token_of("ingest").stat().st_mode) == 0o600
    assert home.issue("ingest") == made


@pytest.mark.parametrize("scope", SCOPES)
def test_a_replaced_token_opens_nothing_within_a_second(home: Home, scope: Scope) -> None:
    door = gateway(home, "operate" if scope == "operate" else scope)
    old = home.token(scope)
    new = home.issue(scope, rotate=True)
    assert new != old
    assert asyncio.run(ask(door, "POST", "/", new))[0] == 200
    assert asyncio.run(ask(door, "POST", "/", old))[0] == 401
    assert home.token() in home.netrc_file.read_text()


def test_a_token_that_was_right_a_moment_ago_is_looked_at_again(home: Home) -> None:
    now = time.monotonic()
    guard = Guard(home, clock=lambda: now)
    old = home.token("ingest")
    headers = [(b"authorization", f"Bearer {old}".encode())]
    assert guard.scope_of(headers) == "ingest"
    home.issue("ingest", rotate=True)
    assert guard.scope_of(headers) == "ingest"
    now += LOOK_S + 0.1
    assert guard.scope_of(headers) is None


def test_every_token_is_compared_whichever_is_right(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def note(given: bytes, token: bytes) -> bool:
        compared.append(token)
        return given == token

    guard = Guard(home)
    monkeypatch.setattr("churnstream.local.guard.hmac.compare_digest", note)
    for scope in SCOPES:
        compared.clear()
        assert guard.scope_of([(b"authorization", f"Bearer {home.token(scope)}".encode())]) == scope
        assert sorted(compared) == sorted(home.token(each).encode() for each in SCOPES)


def test_an_empty_token_file_opens_nothing(home: Home) -> None:
    home.token_of("operate").write_text("")
    for given in ("", " "):
        assert asyncio.run(ask(gateway(home), "POST", "/", given))[0] == 401

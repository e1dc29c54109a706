"""Logs tell what happened and where, and never what a customer sent or which token came with it."""

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from churnstream.journal import Changes
from churnstream.local import Home, SupervisorClient
from churnstream.local.logs import JsonFormatter, LineFormatter, stand_at
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.topology import GENERATED
from churnstream.wiring import open_parts

SECRET = "Rumpelstilzchen"
ROOT = Path(__file__).parents[2]


def record(message: str = "it %s", error: BaseException | None = None, **given: Any) -> logging.LogRecord:
    told = (type(error), error, error.__traceback__) if error else None
    made = logging.LogRecord("function", logging.WARNING, __file__, 1, message, ("works",), told)
    made.created = datetime(2026, 1, 31, 12, tzinfo=UTC).timestamp()
    if given:
        setattr(made, "with", given)
    return made


def caught() -> BaseException:
    try:
        raise ValueError("two\nlines")
    except ValueError as cause:
        return cause


def test_a_line_of_json_is_one_object_with_everything_in_it() -> None:
    lines: list[str] = []

    async def work() -> None:
        stand_at("generated-stream", 3, 17)
        lines.append(JsonFormatter("alpha", 1).format(record(error=caught(), colour="green")))

    asyncio.run(work())
    assert "\n" not in lines[0]
    told = json.loads(lines[0])
    assert told.pop("traceback").endswith("ValueError: two\nlines")
    assert told == {
        "time": "2026-01-31T12:00:00.000Z",
        "level": "warning",
        "function": "alpha",
        "worker": 1,
        "stream": "generated-stream",
        "shard": 3,
        "offset": 17,
        "logger": "function",
        "message": "it works",
        "with": {"colour": "green"},
    }


def test_a_task_says_where_it_stands_and_others_do_not() -> None:
    async def one(shard: int | None) -> dict[str, Any]:
        if shard is not None:
            stand_at("s", shard, 0)
        await asyncio.sleep(0)
        return json.loads(JsonFormatter().format(record()))

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*(asyncio.create_task(one(each)) for each in (1, 2, None)))

    assert [each.get("shard") for each in asyncio.run(all_of_them())] == [1, 2, None]


def test_text_stays_as_it_was_and_names_the_worker_where_there_are_several() -> None:
    assert LineFormatter().format(record()) == "2026-01-31T12:00:00.000Z warning it works"
    assert LineFormatter(2).format(record(n=1)) == "2026-01-31T12:00:00.000Z warning [worker 2] it works n=1"


@pytest.fixture
def platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SupervisorClient]:
    """One that logs JSON."""
    monkeypatch.setenv("CHURNSTREAM_LOG_FORMAT", "json")
    client = SupervisorClient(Home(tmp_path / "home"))
    client.up()
    yield client
    client.down(timedelta(0))


@pytest.mark.slow
def test_neither_payloads_nor_tokens_are_ever_logged(
    platform: SupervisorClient, function: Callable[..., Any], wait_until: Callable[..., Any]
) -> None:
    name, home = "incoming-event-handler", platform.home
    code = (ROOT / "functions" / "incoming_event_handler.py").read_text()
    trigger = {"kind": "embedded-stream", "attributes": {"stream": GENERATED}}
    made = function(code, name=name, triggers={"in": trigger}, env={"MLRUN_LOG_LEVEL": "DEBUG"})
    state = platform.deploy("shop", name, made)
    assert (state["state"], state["message"]) == ("ready", "")
    url, tokens = f"http://{state['address']}", [home.token(), home.issue("infer"), home.issue("ingest")]
    good = {"user_id": SECRET, "event_type": "new_bet", "event_time": "2026-01-03T12:00:00Z", "bet_amount": 2.5}
    bodies = [
        json.dumps(good),
        json.dumps(good | {"event_time": SECRET}),
        json.dumps(good | {"bet_amount": SECRET}),
        f'{{"user_id": "{SECRET}"',
        "[" * 5_000 + SECRET,
        f"\xff{SECRET}".encode("latin-1"),
    ]
    for body in bodies:
        for kind in ("application/json", "text/plain"):
            for token in (*tokens, SECRET):
                headers = {"Authorization": f"Bearer {token}", "Content-Type": kind, "X-Secret": SECRET}
                answered = requests.post(f"{url}/{SECRET}?q={SECRET}", body, headers=headers, timeout=30)
                assert answered.status_code in (202, 400, 401, 403)
    requests.post(f"{url}/-/drain?deadline={SECRET}", headers={"Authorization": f"Bearer {tokens[0]}"}, timeout=30)
    source = open_parts("event-generator", read_settings({"CHURNSTREAM_HOME": str(home.root), "CHURNSTREAM_PROJECT": "shop"}))
    for body in bodies:
        raw = body if isinstance(body, bytes) else body.encode()
        source.journal(0).write(Changes(appends=[(GENERATED, Record(raw, 1))]), datetime.now(UTC))
    source.close()
    platform.drain(name, timedelta(seconds=60), "shop")
    crashing = function("def handler(c, e):\n    c.logger.info('asked')\n    raise KeyError(len(e.body))", name="crashing")
    state = platform.deploy("shop", "crashing", crashing)
    headers = {"Authorization": f"Bearer {tokens[0]}"}
    assert requests.post(f"http://{state['address']}", SECRET, headers=headers, timeout=30).status_code == 500
    platform.down(timedelta(seconds=10))
    logs = {path: path.read_text() for path in [*home.root.rglob("*.log"), *home.root.rglob("*.log.1")]}
    assert len(logs) == 3
    for path, text in logs.items():
        for secret in (SECRET, *tokens):
            assert secret not in text, path
        for line in text.splitlines():
            told = json.loads(line)
            assert {"time", "level", "message"} <= set(told), line
    crashed = next(text for path, text in logs.items() if path.stem == "crashing")
    assert any("KeyError" in json.loads(line).get("traceback", "") for line in crashed.splitlines())

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from churnstream.cli import app
from churnstream.local import SupervisorClient


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    def invoke(home: Path, *words: str) -> Any:
        monkeypatch.setenv("CHURNSTREAM_HOME", str(home))
        return CliRunner().invoke(app, list(words))

    return invoke


def test_where_nothing_runs_the_commands_say_so(run: Callable[..., Any], tmp_path: Path) -> None:
    assert "churnstream up" in run(tmp_path, "status").output
    assert "Nothing runs here" in run(tmp_path, "down").output
    assert json.loads(run(tmp_path, "status", "--json").output) == {"running": False, "home": str(tmp_path), "functions": []}


def test_an_unknown_function_is_a_sentence_and_no_traceback(run: Callable[..., Any], tmp_path: Path) -> None:
    for command in ("logs", "drain"):
        done = run(tmp_path, command, "nobody")
        assert done.exit_code == 1
        assert "no function 'nobody'" in done.output


def test_token_prints_the_homes_token(run: Callable[..., Any], tmp_path: Path) -> None:
    printed = run(tmp_path / "home", "token").output
    assert printed.strip() == (tmp_path / "home" / "token").read_text()


def test_a_token_of_a_scope_is_made_once_and_replaced_on_demand(run: Callable[..., Any], tmp_path: Path) -> None:
    home = tmp_path / "home"
    operate, ingest, infer = (run(home, "token", "--scope", scope).output.strip() for scope in ("operate", "ingest", "infer"))
    assert len({operate, ingest, infer}) == 3
    assert operate == run(home, "token").output.strip()
    assert ingest == run(home, "token", "--scope", "ingest").output.strip()
    replaced = run(home, "token", "--scope", "ingest", "--rotate").output.strip()
    assert replaced not in (operate, ingest, infer)
    assert replaced == (home / "token-ingest").read_text()
    assert (home / "token-infer").stat().st_mode & 0o777 == 0o600
    assert run(home, "token", "--scope", "everything").exit_code == 2


def test_status_tells_all_of_an_error_and_the_head_of_what_passed(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = "alpha ended 6 times within 60 s; lastly: alpha did not start\nTraceback: [red]\nOSError: no shop"
    function = {"project": "shop", "name": "alpha", "state": "error", "message": message, "streams": []}
    told = {"running": True, "functions": [function]}
    monkeypatch.setattr(SupervisorClient, "status", lambda client: told)
    shown = run(tmp_path, "status").output
    assert all(line in shown for line in message.splitlines())
    function["state"] = "ready"
    shown = run(tmp_path, "status").output
    assert "6 times" in shown
    assert "OSError" not in shown


@pytest.mark.parametrize("lines", ["text", "json"])
def test_the_log_of_one_worker_is_its_lines_and_their_tracebacks(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str
) -> None:
    at = "2026-01-31T12:00:00.000Z"
    text = f"{at} info zero\n{at} error [worker 1] one\nTraceback\n  of one\n{at} info [worker 12] twelve\n{at} info again zero\n"
    if lines == "json":
        said = ((0, "zero"), (1, "one"), (12, "twelve"), (0, "again zero"))
        text = "".join(json.dumps({"time": at, "worker": number, "message": what}) + "\n" for number, what in said)
    monkeypatch.setattr(SupervisorClient, "find", lambda *_: {"project": "shop"})
    monkeypatch.setattr(SupervisorClient, "logs", lambda *_: (text.encode(), 0))
    assert run(tmp_path, "logs", "alpha").output == text
    first, second = (run(tmp_path, "logs", "alpha", "--worker", str(number)).output for number in (0, 1))
    assert ("again zero" in first, "one" in first, "twelve" in first) == (True, False, False)
    assert ("one" in second, "zero" in second, "twelve" in second) == (True, False, False)
    assert lines == "json" or "  of one" in second


def test_status_logs_and_drain_reach_a_deployed_function(
    run: Callable[..., Any], platform: SupervisorClient, function: Callable[..., dict[str, Any]]
) -> None:
    name, home = "incoming-event-handler", platform.home.root
    trigger = {"kind": "embedded-stream", "attributes": {"stream": "generated-stream"}}
    platform.deploy("shop", name, function("def handler(c, e): pass", name=name, triggers={"in": trigger}))
    table = run(home, "status").output
    assert all(word in table for word in (name, "shop", "ready", "127.0.0.1:", "generated-stream"))
    assert f"{name} is ready" in run(home, "logs", name).output
    assert "has read everything" in run(home, "drain", name, "--deadline", "20").output
    assert "Running already" in run(home, "up").output

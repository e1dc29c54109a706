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

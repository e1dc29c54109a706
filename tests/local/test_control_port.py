"""The supervisor's own port: any that is free, or the same one every time, for who scrapes it."""

import json
import socket
from datetime import timedelta
from pathlib import Path

import pytest
import requests

from churnstream.errors import InvalidSetting, PlatformFailed
from churnstream.local import Home, SupervisorClient
from churnstream.local.control_port import MOST, VARIABLE, listen
from churnstream.local.routes import METRICS


@pytest.fixture
def port() -> int:
    """One that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.mark.parametrize("environment", [{}, {VARIABLE: ""}, {VARIABLE: "0"}])
def test_without_a_number_any_port_will_do(environment: dict[str, str]) -> None:
    with listen(environment) as one, listen(environment) as other:
        assert {one.getsockname()[0], other.getsockname()[0]} == {"127.0.0.1"}
        assert one.getsockname()[1] != other.getsockname()[1]


@pytest.mark.parametrize("given", ["http", "-1", "80.5", str(MOST + 1), "٨٠"])
def test_what_is_no_port_is_a_sentence(given: str) -> None:
    with pytest.raises(InvalidSetting, match=f"{VARIABLE} is '{given}'; a port lies between 1 and 65535"):
        listen({VARIABLE: given})


def test_prometheus_finds_the_platform_where_it_was_before_and_needs_the_token(
    home: Home, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(port))
    client = SupervisorClient(home)
    for _ in range(2):
        client.up()
        assert json.loads(home.supervisor_file.read_text())["port"] == port
        page = f"http://127.0.0.1:{port}/-/metrics"
        assert requests.get(page, timeout=30).status_code == 401
        scraped = requests.get(page, headers={"Authorization": f"Bearer {home.token()}"}, timeout=30)
        assert scraped.status_code == 200
        client.down(timedelta(0))


def test_the_page_on_prometheus_names_what_there_is(root: Path, home: Home) -> None:
    page = (root / "docs" / "prometheus.md").read_text()
    home.ensure()
    home.token()
    for word in (VARIABLE, METRICS, home.supervisor_file.name, f".churnstream/{home.token_file.name}"):
        assert word in page
    assert home.token_file.read_text().strip() == home.token(), "Prometheus reads all of the file"


def test_a_port_that_is_taken_is_a_sentence_and_nothing_runs(home: Home, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, str(port))
    client = SupervisorClient(home)
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(PlatformFailed, match=f"did not start: nothing can listen on .*:{port}"),
    ):
        client.up()
    assert not client.running()
    client.up()
    assert client.running()

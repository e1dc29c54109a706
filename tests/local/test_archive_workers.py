"""Two workers of stream-to-parquet, one of which was thought dead: every row is in exactly one file."""

import os
import signal
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from churnstream.codecs import ARROW, EventDecoder, encode_batch, encode_json
from churnstream.journal import Changes
from churnstream.local import SupervisorClient
from churnstream.records import Record
from churnstream.settings import read_settings
from churnstream.topology import INCOMING, SHARDS
from churnstream.usecases import load
from churnstream.wiring import open_parts

NAME, PROJECT = "stream-to-parquet", "archived"
AS_IT_IS_WITH_NOTES = """
from pathlib import Path
_handler = handler
async def handler(context, event):
    answer = await _handler(context, event)
    Path(f"took-{event.shard_id}-{event.offset}").touch()
    return answer
"""


@pytest.mark.parametrize("others_have_flushed", [True, False])
def test_what_a_stopped_worker_had_waiting_is_in_one_file_only(
    platform: SupervisorClient,
    function: Callable[..., dict[str, Any]],
    wait_until: Callable[[Callable[[], Any]], Any],
    root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    others_have_flushed: bool,
) -> None:
    project = f"{PROJECT}-{others_have_flushed}".lower()
    monkeypatch.chdir(tmp_path)
    settings = read_settings({"CHURNSTREAM_HOME": str(platform.home.root), "CHURNSTREAM_PROJECT": project})
    source = open_parts("incoming-event-handler", settings)
    event = {"user_id": "ann", "event_type": "new_bet", "event_time": "2026-01-03T12:00:00Z", "bet_amount": 1}
    batch = encode_batch(EventDecoder(load("first_day")).decode(encode_json([event])).batch)
    written = 0

    def write(records: int) -> None:
        nonlocal written
        appends = [(INCOMING, Record(batch, headers={"content-type": ARROW}))] * records
        for shard in range(SHARDS):
            source.journal(shard).write(Changes(appends=appends), datetime.now(UTC))
        written += records

    def workers() -> list[dict[str, Any]]:
        return platform.state(project, NAME)["workers"]

    trigger = {
        "kind": "embedded-stream",
        "explicitAckMode": "explicitOnly",
        "attributes": {"stream": INCOMING, "sessionTimeout": "1s"},
    }
    code = (root / "functions" / "stream_to_parquet.py").read_text() + AS_IT_IS_WITH_NOTES
    body = function(code, name=NAME, triggers={"in": trigger}, env={"CHURNSTREAM_FLUSH_SECONDS": "4"})
    body["spec"]["min_replicas"] = 2
    assert platform.deploy(project, NAME, body)["state"] == "ready"
    write(2)
    wait_until(lambda: len(list(tmp_path.glob("took-*"))) == 2 * SHARDS)
    stopped = workers()[0]["pid"]
    os.kill(stopped, signal.SIGSTOP)
    try:
        wait_until(lambda: workers()[1]["shards"] == list(range(SHARDS)))
        write(1)
        if others_have_flushed:
            platform.drain(NAME, timedelta(seconds=30), project)
        wait_until(lambda: len(list(tmp_path.glob("took-*-2"))) == SHARDS)
    finally:
        os.kill(stopped, signal.SIGCONT)
    wait_until(lambda: [len(each["shards"]) for each in workers()] == [4, 4])
    write(1)
    platform.drain(NAME, timedelta(seconds=30), project)
    table = ds.dataset(settings.archive, format="parquet").to_table(columns=["origin_offset"])
    assert Counter(table.column("origin_offset").to_pylist()) == dict.fromkeys(range(written), SHARDS)
    platform.delete(project, NAME)

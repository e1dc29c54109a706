"""A folder that cannot be written: whoever asks is told, and nothing is lost when it can be written again."""

import json
import os
import subprocess
import sys
from typing import Any

from churnstream.topology import INCOMING
from tests.faults.conftest import Folder
from tests.functions.river import River, assert_conserved

DOOR = "incoming-event-handler"


def body(number: int) -> bytes:
    told: dict[str, Any] = {"user_id": "ann", "event_type": "new_bet", "event_time": f"2026-01-03T12:00:{number:02d}Z"}
    return json.dumps(told | {"bet_amount": float(number)}).encode()


def test_the_door_refuses_with_503_until_its_folder_can_be_written_again(folder: Folder) -> None:
    river = River(folder.path / "home", "first_day")
    with river.door(DOOR) as door:
        assert door.post(body(0)).status_code == 202
    folder.lock()
    with river.door(DOOR) as door:
        refused = door.post(body(1))
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "5")
        assert "send this again" in json.loads(refused.body)["error"]
        assert [row["bet_amount"] for row in river.rows(INCOMING)] == [0.0], "what is there can be read all the same"
        folder.unlock()
        answers = (door.post(body(1)).status_code for _ in range(3))  # as a client does who is told to come again
        assert 202 in answers
    assert [row["bet_amount"] for row in river.rows(INCOMING)] == [0.0, 1.0]
    assert_conserved(river, DOOR)


def test_a_home_that_cannot_be_made_is_a_sentence_and_exit_code_1(folder: Folder) -> None:
    folder.lock()
    environment = os.environ | {"CHURNSTREAM_HOME": str(folder.path / "home")}
    command = [sys.executable, "-c", "from churnstream.cli import app; app()", "up"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert str(folder.path / "home") in done.stderr
    assert "cannot be written" in done.stderr

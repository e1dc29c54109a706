"""Failpoints end a process where they say, once for each time that one is armed, and cost nothing where nobody asked for them."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from churnstream import failpoints
from churnstream.errors import InvalidSetting

REACHING = """
import sys
from churnstream.failpoints import reach
for name in sys.argv[1:]:
    print(name, flush=True)
    reach(name)
print("the end")
"""


def run(names: list[str], **environment: object) -> tuple[int, list[str]]:
    """What a process that reaches ``names`` one after another ends with, and which it came to."""
    told = os.environ | {name: str(given) for name, given in environment.items()}
    done = subprocess.run([sys.executable, "-c", REACHING, *names], env=told, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_a_process_ends_at_the_failpoint_that_is_armed_and_leaves_a_mark(tmp_path: Path) -> None:
    names = ["journal.before-write", "journal.before-commit", "journal.after-commit"]
    failpoints.arm(tmp_path, "journal.before-commit")
    assert run(names, CHURNSTREAM_FAILPOINTS=tmp_path) == (-signal.SIGKILL, names[:2])
    assert [(hit.name, hit.function) for hit in failpoints.hits(tmp_path)] == [("journal.before-commit", "")]


def test_what_is_armed_once_is_hit_once(tmp_path: Path) -> None:
    failpoints.arm(tmp_path, "journal.before-write")
    assert run(["journal.before-write"], CHURNSTREAM_FAILPOINTS=tmp_path)[0] == -signal.SIGKILL
    assert run(["journal.before-write"], CHURNSTREAM_FAILPOINTS=tmp_path)[0] == 0
    assert len(failpoints.hits(tmp_path)) == 1
    assert not failpoints.disarm(tmp_path, "journal.before-write")


def test_a_failpoint_that_waits_for_one_function_leaves_others_alone(tmp_path: Path) -> None:
    told = {"CHURNSTREAM_FAILPOINTS": tmp_path}
    failpoints.arm(tmp_path, "journal.before-write", "serving")
    assert run(["journal.before-write"], **told)[0] == 0
    assert run(["journal.before-write"], **told, CHURNSTREAM_FUNCTION="enrich-stream")[0] == 0
    assert run(["journal.before-write"], **told, CHURNSTREAM_FUNCTION="serving")[0] == -signal.SIGKILL
    assert [hit.function for hit in failpoints.hits(tmp_path)] == ["serving"]


def test_nothing_ends_when_the_setting_is_absent_or_the_failpoint_disarmed(tmp_path: Path) -> None:
    failpoints.arm(tmp_path, "archive.before-rename")
    assert run(["archive.before-rename"])[0] == 0
    assert failpoints.disarm(tmp_path, "archive.before-rename")
    assert run(["archive.before-rename"], CHURNSTREAM_FAILPOINTS=tmp_path)[0] == 0
    assert failpoints.hits(tmp_path) == []


def test_a_failpoint_that_is_not_there_cannot_be_armed(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="there is no failpoint"):
        failpoints.arm(tmp_path, "journal.somewhere")


def test_the_names_are_those_of_the_places_in_the_code(root: Path) -> None:
    code = [path.read_text() for path in (root / "churnstream").rglob("*.py") if path.name != "failpoints.py"]
    reached = {name for text in code for name in re.findall(r'\breach\("([^"]+)"\)', text)}
    assert reached == set(failpoints.NAMES)

"""A writer that is killed at any instant leaves whole units only."""

import signal
import subprocess
import sys

import pytest

from churnstream.records import shard_of
from churnstream.settings import Settings
from churnstream.topology import GENERATED, INCOMING, SHARDS
from churnstream.wiring import open_journal, open_parts, open_stream

WRITER = """
import sys
from pathlib import Path
from churnstream.records import Record
from churnstream.settings import Settings
from churnstream.wiring import open_parts
settings = Settings("churnstream", "first_day", sys.argv[1], sys.argv[1], Path("unused"))
parts = open_parts("incoming-event-handler", settings)
offset = parts.journal(3).position("generated-stream", 3)
while True:
    with parts.begin_at("generated-stream", 3, offset) as unit:
        unit.append("incoming-events-stream", Record(b"%d " % offset * 2_000, rows=3))
        unit.append("incoming-events-stream", Record(b"%d" % offset, rows=2))
        unit.put("identities", str(offset), b"%d" % offset, sys.argv[2])
        unit.count("applied", 5)
    print(offset, flush=True)
    offset += 1
"""
FUNCTION = "incoming-event-handler"
OWNER = next(key for key in (f"u{number}" for number in range(1_000)) if shard_of(key, SHARDS) == 3)


def write_and_kill(settings: Settings, units: int) -> int:
    """Let a writer acknowledge ``units`` more, kill it, and return the last offset that it had acknowledged."""
    command = [sys.executable, "-c", WRITER, settings.streams, OWNER]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline() for _ in range(units)]
        writer.send_signal(signal.SIGKILL)
        told += writer.stdout.readlines()
        assert writer.wait(timeout=30) == -signal.SIGKILL
    return int(told[-1])


@pytest.mark.parametrize("units", [1, 40])
def test_both_sides_count_the_same_after_a_kill(settings: Settings, units: int) -> None:
    for _ in range(2):  # the second writer goes on where the first was stopped
        acknowledged = write_and_kill(settings, units)
        journal = open_journal(FUNCTION, 3, settings)
        applied = journal.position(GENERATED, 3)
        # What was acknowledged is there; of the unit that was on its way, all or nothing.
        assert applied in (acknowledged + 1, acknowledged + 2)
        assert journal.accounts() == {(GENERATED, "applied"): 5 * applied}
        assert sorted(int(key) for key, _ in journal.items("identities")) == list(range(applied))
        journal.close()
        reader = open_stream(INCOMING, settings)
        assert (reader.end(3), reader.rows(3)) == (2 * applied, 5 * applied)
        told = [each.payload.split()[0] for each in reader.read(3, 0, max_records=10**6, max_bytes=10**9)]
        reader.close()
        assert told == [b"%d" % (place // 2) for place in range(2 * applied)]


def test_a_restarted_writer_recognises_every_unit_that_it_had_acknowledged(settings: Settings) -> None:
    acknowledged = write_and_kill(settings, 5)
    parts = open_parts(FUNCTION, settings)
    assert all(parts.begin_at(GENERATED, 3, offset).replayed for offset in range(acknowledged + 1))
    parts.close()

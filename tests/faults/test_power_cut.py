"""A power cut may leave any beginning of what was being written: a journal opens with its last complete commit, and goes on."""

import random
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest

from churnstream.journal import Changes, Journal
from churnstream.records import Record

NOW = datetime(2026, 1, 3, tzinfo=UTC)
COMMITS, CUTS = 25, 60
STREAM, SOURCE = "incoming-events-stream", "generated-stream"


def commit(journal: Journal, number: int) -> None:
    """The effects of record ``number`` of the source: a record behind, a row, a position and a count."""
    changes = Changes(
        appends=[(STREAM, Record(b"%d " % number * 700, rows=2))],
        puts={"identities": {str(number): b"%d" % number}},
        positions={(SOURCE, 0): number + 1},
    )
    changes.count(SOURCE, "applied", 2)
    journal.write(changes, NOW)


def assert_holds(journal: Journal, commits: int) -> None:
    """So many whole commits and nothing of another."""
    assert journal.position(SOURCE, 0) == commits
    assert (journal.end(STREAM), journal.rows(STREAM)) == (commits, 2 * commits)
    assert [each.payload.split()[0] for each in journal.read(STREAM, 0, 0, 10**6, 10**9)] == [b"%d" % n for n in range(commits)]
    assert sorted(int(key) for key, _ in journal.items("identities")) == list(range(commits))
    assert journal.accounts() == ({(SOURCE, "applied"): 2 * commits} if commits else {})


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, list[int]]:
    """A journal as it lies on the disk while its writer is at work, and how long its log was after each commit."""
    path = tmp_path / "at work" / "00.db"
    journal = Journal(path, writable=True)
    log = path.with_name("00.db-wal")
    lengths = [log.stat().st_size]
    for number in range(COMMITS):
        commit(journal, number)
        lengths.append(log.stat().st_size)
    left = tmp_path / "left"
    shutil.copytree(path.parent, left)
    journal.close()
    assert lengths == sorted(set(lengths)), "every commit made the log longer, or there is nothing to cut"
    return left / path.name, lengths


def cut(written: Path, folder: Path, length: int, tail: bytes = b"") -> Path:
    """The same journal, its log cut at ``length`` and followed by ``tail``; what is only in memory, its index, is gone."""
    folder.mkdir()
    shutil.copy(written, folder / written.name)
    log = written.with_name(f"{written.name}-wal").read_bytes()
    (folder / f"{written.name}-wal").write_bytes(log[:length] + tail)
    return folder / written.name


def test_a_journal_whose_log_was_cut_anywhere_opens_with_the_last_complete_commit(
    written: tuple[Path, list[int]], tmp_path: Path
) -> None:
    path, lengths = written
    rng = random.Random(5)
    places = [rng.randint(lengths[0], lengths[-1]) for _ in range(CUTS)]
    places += [length + more for length in rng.sample(lengths[1:], 5) for more in (-1, 0, 1)]
    for place, length in enumerate(places):
        whole = max(number for number, end in enumerate(lengths) if end <= length)
        journal = Journal(cut(path, tmp_path / f"cut {place}", length), writable=True)
        assert_holds(journal, whole)
        for number in range(whole, COMMITS):  # what was lost had not been acknowledged, and comes again
            commit(journal, number)
        assert_holds(journal, COMMITS)
        journal.close()


@pytest.mark.parametrize("tail", [bytes(40_000), random.Random(7).randbytes(40_000)], ids=["zeros", "noise"])
def test_what_a_disk_makes_of_the_end_of_a_log_is_never_served(
    written: tuple[Path, list[int]], tmp_path: Path, tail: bytes
) -> None:
    path, lengths = written
    journal = Journal(cut(path, tmp_path / "cut", lengths[10] + 100, tail))
    assert_holds(journal, 10)
    journal.close()

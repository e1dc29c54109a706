"""Who was sent away stays away, whoever asks, and in whatever order they come."""

from datetime import UTC, datetime, timedelta
from multiprocessing import get_context
from pathlib import Path

import pytest

from churnstream.errors import InvalidSetting, StorageFailed, UnknownModel
from churnstream.models.withdrawals import FOLDER, HISTORY_FILE, Deed, Withdrawal, Withdrawals

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
ONE, OTHER = "0123456789ab", "0123ffffffff"


def test_a_registry_that_nobody_made_yet_has_none(tmp_path: Path) -> None:
    assert Withdrawals(tmp_path / "nowhere").all() == {}
    assert Withdrawals(tmp_path / "nowhere").history() == []


def test_a_withdrawal_is_there_for_everybody_until_it_is_taken_back(tmp_path: Path) -> None:
    mine, theirs = Withdrawals(tmp_path / "registry"), Withdrawals(tmp_path / "registry")
    assert mine.withdraw(ONE, "canary", "it fails", AT)
    assert theirs.all() == {ONE: Withdrawal(ONE, "canary", "it fails", AT)}
    assert theirs.readmit(ONE, "it was the disk", AT + timedelta(hours=1)).reason == "it fails"
    assert mine.all() == {}
    assert mine.history() == [
        Deed(AT, "withdrawn", ONE, "canary", "it fails"),
        Deed(AT + timedelta(hours=1), "readmitted", ONE, "canary", "it was the disk"),
    ]


def test_the_first_reason_stays(tmp_path: Path) -> None:
    withdrawals = Withdrawals(tmp_path)
    assert withdrawals.withdraw(ONE, "canary", "it fails", AT)
    assert not withdrawals.withdraw(ONE, "variant", "it is slow", AT)
    assert withdrawals.all()[ONE].reason == "it fails"
    assert len(withdrawals.history()) == 1
    assert [path.name for path in (tmp_path / FOLDER).iterdir()] == [f"{ONE}.json"]  # and no draft is left


def test_of_several_processes_one_is_the_first_and_none_reads_half_a_file(tmp_path: Path) -> None:
    with get_context("spawn").Pool(4) as pool:
        firsts = pool.map(_withdraw, [(str(tmp_path), number) for number in range(40)])
    assert sum(firsts) == len(set(range(10)))
    assert len(Withdrawals(tmp_path).history()) == 10


def _withdraw(given: tuple[str, int]) -> bool:
    withdrawals = Withdrawals(Path(given[0]))
    first = withdrawals.withdraw(f"{given[1] % 10:012d}", "canary", f"reason {given[1]}", AT)
    assert all(each.reason.startswith("reason ") for each in withdrawals.all().values())
    return first


def test_what_cannot_be_read_counts_as_withdrawn(tmp_path: Path) -> None:
    withdrawals = Withdrawals(tmp_path)
    withdrawals.withdraw(ONE, "canary", "it fails", AT)
    (tmp_path / FOLDER / f"{ONE}.json").write_text("{")
    assert "cannot be read" in withdrawals.all()[ONE].reason
    withdrawals.readmit(ONE, "", AT)
    assert withdrawals.all() == {}


def test_a_torn_line_of_the_history_costs_that_line_alone(tmp_path: Path) -> None:
    withdrawals = Withdrawals(tmp_path)
    withdrawals.withdraw(ONE, "canary", "it fails", AT)
    whole = (tmp_path / HISTORY_FILE).read_bytes()
    (tmp_path / HISTORY_FILE).write_bytes(whole + whole[:40])
    withdrawals.withdraw(OTHER, "canary", "it fails too", AT)
    assert [each.version for each in withdrawals.history()] == [ONE, OTHER]


def test_who_is_meant_is_found_or_a_sentence(tmp_path: Path) -> None:
    withdrawals = Withdrawals(tmp_path)
    with pytest.raises(UnknownModel, match="no model that begins with '0' is withdrawn; withdrawn are: none"):
        withdrawals.resolve("0")
    withdrawals.withdraw(ONE, "", "by hand", AT)
    withdrawals.withdraw(OTHER, "", "by hand", AT)
    assert withdrawals.resolve("01234") == ONE
    with pytest.raises(UnknownModel, match=f"several models that begin with '0123' are withdrawn; withdrawn are: {ONE}, {OTHER}"):
        withdrawals.resolve("0123")
    with pytest.raises(UnknownModel, match="ffff is not withdrawn"):
        withdrawals.readmit("ffff", "", AT)
    for wrong in ("", "../champion", "a/b"):
        with pytest.raises(UnknownModel, match="is no version of a model"):
            withdrawals.withdraw(wrong, "", "by hand", AT)
    with pytest.raises(InvalidSetting, match="who is withdrawn is told why"):
        withdrawals.withdraw(ONE, "", " ", AT)


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    with pytest.raises(StorageFailed, match="that 0123456789ab is withdrawn cannot be written"):
        Withdrawals(tmp_path).withdraw(ONE, "", "by hand", AT)

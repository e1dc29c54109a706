"""A candidate that one worker rolls back is out in all of them, and stays out."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from churnstream.models.withdrawals import FOLDER, Withdrawals
from churnstream.serving.arms import CANARY, SHADOW, VARIANT, Arm
from churnstream.serving.rollout import Rollout
from churnstream.serving.withdrawing import Withdrawing
from tests.serving.small_models import scorer
from tests.serving.test_rollout import ROW, USERS, Odd, arm, broken
from tests.waiting import wait_until

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CANDIDATE = scorer(2).manifest.version


class Worker:
    """One process's candidates, and what follows the others."""

    def __init__(self, registry: Path, *candidates: Arm):
        self.rollout = Rollout(scorer(1), candidates, tell=lambda: self.following.wake())
        self.following = Withdrawing(lambda: self.rollout, Withdrawals(registry), lambda: AT, every_s=0.01)
        self.following.look()

    @property
    def canary(self) -> Arm:
        return self.rollout.candidates[0]

    def answers(self) -> set[str]:
        """Who answers some customers."""
        return {self.rollout.arm_of(user).role for user in USERS[:50]}

    def ask(self, requests: int) -> None:
        for user in USERS[:requests]:
            self.rollout.score(ROW, [user])


def test_what_one_worker_rolls_back_another_one_and_a_restarted_one_do_not_ask(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, arm(Odd(broken), share=0.5)), Worker(tmp_path, arm(scorer(2), share=0.5))
    assert first.answers() == second.answers() == {"champion", "canary"}
    first.ask(200)
    assert first.canary.stopped.startswith("it fails more often")
    assert first.following.look()
    assert second.following.look()
    restarted = Worker(tmp_path, arm(scorer(2), VARIANT, 0.5))  # in whatever role the same model comes
    for each in (second, restarted):
        assert each.answers() == {"champion"}
        assert each.rollout.alone
        assert each.canary.stopped == first.canary.stopped
    (told,) = Withdrawals(tmp_path).all().values()
    assert (told.version, told.role, told.reason, told.at) == (CANDIDATE, CANARY, first.canary.stopped, AT)
    assert Worker(tmp_path, arm(scorer(3), share=0.5)).answers() == {"champion", "canary"}  # another model is not meant


def test_a_readmitted_candidate_begins_anew(tmp_path: Path) -> None:
    bad = Worker(tmp_path, arm(Odd(broken), share=0.5))
    bad.ask(200)
    bad.following.look()
    Withdrawals(tmp_path).readmit(CANDIDATE, "it was the disk", AT)
    assert bad.following.look()
    assert bad.answers() == {"champion", "canary"}
    assert (bad.canary.stopped, bad.canary.watch.failing.seen) == ("", 0)
    bad.ask(200)
    assert bad.canary.stopped  # and is judged again
    bad.following.look()
    assert list(Withdrawals(tmp_path).all()) == [CANDIDATE]


def test_a_withdrawal_by_hand_is_followed_and_leaves_other_candidates_alone(tmp_path: Path) -> None:
    worker = Worker(tmp_path, arm(scorer(2), share=0.3), arm(scorer(3), VARIANT, 0.3))
    before = {user: worker.rollout.arm_of(user) for user in USERS}
    Withdrawals(tmp_path).withdraw(CANDIDATE, "", "the shop has closed", AT)
    assert worker.following.look()
    assert not worker.following.look()
    champion = worker.rollout.champion
    assert all(worker.rollout.arm_of(user) is (champion if each is worker.canary else each) for user, each in before.items())
    assert worker.canary.report()["rolled_back"] == "the shop has closed"


def test_a_shadow_of_a_withdrawn_model_listens_on(tmp_path: Path) -> None:
    worker = Worker(tmp_path, arm(scorer(2), SHADOW, 0.0))
    Withdrawals(tmp_path).withdraw(CANDIDATE, "", "by hand", AT)
    assert not worker.following.look()
    assert len(worker.rollout.score(ROW, ["ann"]).shadowed) == 1


def test_the_thread_writes_at_once_and_the_champion_may_change_meanwhile(tmp_path: Path) -> None:
    first, second = Worker(tmp_path, arm(Odd(broken), share=0.5)), Worker(tmp_path, arm(scorer(2), share=0.5))
    for each in (first, second):
        each.following.start()
    try:
        second.rollout = second.rollout.with_champion(scorer(3))
        first.ask(200)
        wait_until(lambda: second.answers() == {"champion"}, "the withdrawal", seconds=20)
        assert Withdrawals(tmp_path).all()
    finally:
        for each in (first, second):
            each.following.stop()


def test_what_was_found_out_last_is_written_when_the_worker_stops(tmp_path: Path) -> None:
    worker = Worker(tmp_path, arm(Odd(broken), share=0.5))
    worker.ask(200)
    worker.following.stop()
    assert list(Withdrawals(tmp_path).all()) == [CANDIDATE]


def test_where_nothing_can_be_written_the_rollback_holds_here_and_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    worker = Worker(tmp_path, arm(Odd(broken), share=0.5))
    (tmp_path / FOLDER).write_text("a file where the folder should be")
    worker.ask(200)
    for _ in range(3):
        assert not worker.following.look()
    assert worker.answers() == {"champion"}
    told = [each.message for each in caplog.records if each.levelname == "ERROR"]
    assert len(told) == 1
    assert told[0].startswith(f"rollbacks are known to this worker only: that {CANDIDATE} is withdrawn cannot be written")
    (tmp_path / FOLDER).unlink()
    assert worker.following.look()
    assert list(Withdrawals(tmp_path).all()) == [CANDIDATE]

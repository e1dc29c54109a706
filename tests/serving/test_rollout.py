"""Canaries, variants and shadows: who answers whom, and who is sent away."""

import random
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from churnstream.errors import InvalidSetting
from churnstream.records import shard_of
from churnstream.serving.arms import CANARY, SHADOW, VARIANT, Arm, Watch
from churnstream.serving.rollout import Rollout, candidates_of
from tests.serving.small_models import scorer, vectors

USERS = [f"customer {number}" for number in range(5_000)]
ROW = vectors(1).tolist()


class Clock:
    """Seconds that pass when somebody takes them."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Odd:
    """A model that does ``deed`` instead of, or beside, scoring."""

    def __init__(self, deed: Callable[[Sequence[Sequence[float]]], Sequence[float] | None], seed: int = 2):
        self._model, self._deed = scorer(seed), deed
        self.manifest = self._model.manifest

    def score(self, rows: Sequence[Sequence[float]]) -> Sequence[float]:
        told = self._deed(rows)
        return self._model.score(rows) if told is None else told


def broken(rows: Sequence[Sequence[float]]) -> Sequence[float]:
    raise RuntimeError("a planted fault")


def arm(model: object, role: str = CANARY, share: float = 0.1) -> Arm:
    return Arm(model, role, share)  # type: ignore[arg-type]


def place_of(user: str) -> float:
    """A customer's place between 0 and 1: Kafka's partition of a key among a million."""
    return shard_of(f"rollout {user}", 1_000_000) / 1_000_000


def test_a_customer_is_always_answered_by_the_same_arm_and_the_shares_are_kept() -> None:
    canary, variant = arm(scorer(2), CANARY, 0.1), arm(scorer(3), VARIANT, 0.3)
    rollout = Rollout(scorer(1), [canary, variant])
    found = [rollout.arm_of(user) for user in USERS]
    assert found == [canary if place < 0.1 else variant if place < 0.4 else rollout.champion for place in map(place_of, USERS)]
    for each, share in ((canary, 0.1), (variant, 0.3)):
        assert abs(sum(one is each for one in found) / len(USERS) - share) < 0.02
    shards = {shard_of(user, 8) for user, one in zip(USERS, found, strict=True) if one is canary}
    assert shards == set(range(8))  # of every shard some


def test_whoever_names_no_customer_is_answered_by_the_champion() -> None:
    rollout = Rollout(scorer(1), [arm(scorer(2), share=0.99)])
    assert rollout.score(ROW, [None]).probabilities == scorer(1).score(ROW)


def test_each_row_is_scored_by_the_arm_of_its_customer() -> None:
    canary = arm(scorer(2), share=0.4)
    rollout = Rollout(scorer(1), [canary])
    rows = vectors(300, seed=5).tolist()
    scored = rollout.score(rows, USERS[:300])
    for place, (row, user) in enumerate(zip(rows, USERS, strict=False)):
        model = scorer(2) if rollout.arm_of(user) is canary else scorer(1)
        assert scored.probabilities[place] == model.row(row)
        assert scored.arm(place).version == model.manifest.version


def test_a_shadow_is_heard_and_answers_nobody() -> None:
    shadow = arm(scorer(2), SHADOW, 0.0)
    rollout = Rollout(scorer(1), [shadow])
    rows = vectors(50, seed=6).tolist()
    scored = rollout.score(rows, USERS[:50])
    assert scored.probabilities == scorer(1).score(rows)
    assert [each.probability for each in scored.shadowed] == scorer(2).score(rows)
    low, high = shadow.difference.bounds
    assert low <= np.mean(np.array(scorer(2).score(rows)) - scored.probabilities) <= high
    threshold = rollout.champion.decides
    assert shadow.disagreements == sum(
        threshold(one) != threshold(other) for one, other in zip(scorer(2).score(rows), scored.probabilities, strict=True)
    )


def test_a_shadow_that_fails_harms_nobody() -> None:
    shadow = arm(Odd(broken), SHADOW, 0.0)
    rollout = Rollout(scorer(1), [shadow])
    assert rollout.score(ROW, ["ann"]).probabilities == scorer(1).score(ROW)
    assert shadow.failures == 1


WRONG_ANSWERS = {"raises": broken, "nan": lambda rows: [float("nan")] * len(rows), "above one": lambda rows: [1.5] * len(rows)}


@pytest.mark.parametrize("fault", WRONG_ANSWERS)
@pytest.mark.parametrize("seed", range(20))
def test_a_canary_that_fails_is_rolled_back_within_200_requests_and_no_client_sees_it(fault: str, seed: int) -> None:
    canary = arm(Odd(WRONG_ANSWERS[fault]), share=0.2)
    rollout = Rollout(scorer(1), [canary])
    users = random.Random(seed).sample(USERS, 200)
    expected = scorer(1).score(ROW)
    for user in users:
        assert rollout.score(ROW, [user]).probabilities == expected
    assert canary.stopped.startswith("it fails more often than the champion")
    assert rollout.alone


@pytest.mark.parametrize("seed", range(20))
def test_a_canary_that_is_slow_is_rolled_back_within_200_requests(seed: int) -> None:
    rng, clock = random.Random(seed), Clock()

    def takes(mean: float) -> Callable[[Sequence[Sequence[float]]], None]:
        def deed(rows: Sequence[Sequence[float]]) -> None:
            clock.now += mean * rng.lognormvariate(0, 0.3)

        return deed

    canary = arm(Odd(takes(30e-6)), share=0.2)
    rollout = Rollout(Odd(takes(8e-6), seed=1), [canary], clock)  # type: ignore[arg-type]
    for user in rng.sample(USERS, 200):
        rollout.score(ROW, [user])
    assert canary.stopped.startswith("it takes more than 1.5 times as long")


def test_a_canary_like_the_champion_is_sent_away_in_one_of_twenty_at_most() -> None:
    rng = np.random.default_rng(5)
    alarms = 0
    for _ in range(1_000):
        watch = Watch()
        failed, seconds = rng.random((400, 2)) < 0.1, rng.lognormal(-11, 0.5, (400, 2))
        for (ours, theirs), (mine, yours) in zip(failed.tolist(), seconds.tolist(), strict=True):
            watch.see(ours, mine, theirs, yours)
        alarms += bool(watch.alarm())
    assert alarms <= 50


def test_customers_of_an_arm_that_was_rolled_back_go_to_the_champion_and_nobody_elses_change_hands() -> None:
    first, second = arm(scorer(2), CANARY, 0.2), arm(scorer(3), VARIANT, 0.2)
    rollout = Rollout(scorer(1), [first, second])
    before = {user: rollout.arm_of(user) for user in USERS}
    rollout.withdraw(first, "by hand")
    after = {user: rollout.arm_of(user) for user in USERS}
    assert all(after[user] is (rollout.champion if each is first else each) for user, each in before.items())


def test_a_candidate_that_became_champion_is_a_candidate_no_longer() -> None:
    rollout = Rollout(scorer(1), [arm(scorer(2)), arm(scorer(3), SHADOW, 0.0)]).with_champion(scorer(2))
    assert [each.version for each in rollout.arms()] == [scorer(2).manifest.version, scorer(3).manifest.version]


@pytest.mark.parametrize("shares", [(0.5, 0.5), (1.0,), (-0.1,), (0.7, 0.4)])
def test_shares_that_leave_nobody_to_compare_with_are_refused(shares: tuple[float, ...]) -> None:
    with pytest.raises(InvalidSetting):
        Rollout(scorer(1), [arm(scorer(2), share=each) for each in shares])


@pytest.mark.parametrize("given", [["path"], [{"role": "canary"}], [{"model_path": "x", "shares": 1}]])
def test_a_candidate_that_is_written_wrongly_is_a_sentence(given: list[object]) -> None:
    with pytest.raises(InvalidSetting, match="it takes role"):
        candidates_of(given, lambda path: scorer(2))

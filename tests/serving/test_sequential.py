"""Always-valid tests: looked at after every observation, and wrong no more often than they say."""

import numpy as np
import pytest

from churnstream.serving.sequential import Bet, Difference, Interval

SIMULATIONS, LENGTH = 1_000, 250


def test_a_bet_by_hand() -> None:
    bet = Bet()
    bet.see(1.0)
    bet.see(-0.5)
    assert bet.wealth == pytest.approx(np.mean([(1 + stake) * (1 - 0.5 * stake) for stake in (0.1, 0.3, 0.6, 0.9)]))
    assert bet.best == pytest.approx(1 + np.mean((0.1, 0.3, 0.6, 0.9)))
    assert bet.p_value == pytest.approx(1 / bet.best)


def test_a_fair_game_rarely_makes_a_gambler_rich() -> None:
    rng = np.random.default_rng(1)
    rich = 0
    for _ in range(SIMULATIONS):
        bet = Bet()
        for difference in rng.choice([-1.0, 0.0, 1.0], LENGTH, p=[0.1, 0.8, 0.1]):
            bet.see(difference)
        rich += bet.p_value <= 0.05
    assert rich <= 0.05 * SIMULATIONS


def test_two_arms_alike_are_told_apart_in_one_of_twenty_at_most() -> None:
    rng = np.random.default_rng(2)
    settled = 0
    for _ in range(SIMULATIONS):
        difference = Difference()
        for ours, theirs in rng.beta(2, 5, (LENGTH, 2)):
            difference.see(ours, theirs)
        settled += difference.verdict() != 0
    assert settled <= 0.05 * SIMULATIONS


@pytest.mark.parametrize("sign", [1, -1])
def test_the_worse_of_two_arms_is_found(sign: int) -> None:
    rng = np.random.default_rng(3)
    difference = Difference()
    for ours, theirs in zip(rng.beta(4, 4, 500), rng.beta(2, 6, 500), strict=True):
        difference.see(*(ours, theirs)[::sign])
    assert difference.verdict() == sign


def test_an_interval_holds_the_mean_at_every_moment_and_narrows() -> None:
    rng = np.random.default_rng(4)
    missed = 0
    for _ in range(200):
        interval, outside = Interval(), False
        for value in rng.uniform(-0.5, 0.7, LENGTH):
            interval.see(value)
            low, high = interval.bounds
            outside |= not low <= 0.1 <= high
        missed += outside
        assert high - low < 0.7
    assert missed <= 0.05 * 200


@pytest.mark.parametrize("wrong", [1.1, -1.1, float("nan"), float("inf")])
def test_what_is_outside_the_bounds_is_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="is outside"):
        Bet().see(wrong)
    with pytest.raises(ValueError, match="is outside"):
        Interval().see(wrong)

"""Who was right: compared with scikit-learn's figures, with differences that are known, and with two arms that are alike."""

from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from churnstream.errors import NotEnoughData
from churnstream.serving.outcomes import Contrast, contrasts, judged, standings
from churnstream.serving.sequential import TwoArms

START = datetime(2026, 3, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
ROLES = {"one": "champion", "two": "variant", "ear": "shadow"}


class People:
    """``count`` customers, an hour apart, and models that see their true risk through more or less ``noise``."""

    def __init__(self, count: int, seed: int = 0):
        self.rng = np.random.default_rng(seed)
        self.count = count
        self.risk = self.rng.normal(0, 1.5, count)
        self.label = (self.rng.random(count) < 1 / (1 + np.exp(-self.risk))).astype(float)
        self.at = pd.Series(pd.date_range(START, periods=count, freq=HOUR, unit="us"))

    @property
    def known(self) -> pd.DataFrame:
        users = [f"u{place}" for place in range(self.count)]
        return pd.DataFrame({"user_id": users, "at": self.at, "label": self.label, "known": self.at + 48 * HOUR})

    def told(self, model: str, noise: float, chosen: Any = slice(None), before: timedelta = HOUR) -> pd.DataFrame:
        """What a model answered to those who were ``chosen``, so long before the decision."""
        place = np.arange(self.count)[chosen]
        probability = 1 / (1 + np.exp(-(self.risk[place] + self.rng.normal(0, noise, len(place)))))
        at = self.at.iloc[place].reset_index(drop=True) - before
        return pd.DataFrame(
            {
                "user_id": [f"u{each}" for each in place],
                "event_time": at,
                "origin_offset": place,
                "origin_row": int(before / HOUR),
                "probability": probability,
                "churns": probability >= 0.5,
                "model": model,
                "role": ROLES[model],
                "appended_at": at,
            }
        )

    def halves(self, share: float = 0.5) -> tuple[Any, Any]:
        """Whom the champion answers, and whom the variant does."""
        variant = self.rng.random(self.count) < share
        return ~variant, variant


def experiment(count: int, noise: float, seed: int = 0, share: float = 0.5, champion: float = 0.5) -> Contrast:
    people = People(count, seed)
    theirs, mine = people.halves(share)
    told = pd.concat([people.told("one", champion, theirs), people.told("two", noise, mine)], ignore_index=True)
    (found,) = contrasts(judged(told, people.known))
    return found


def test_figures_are_those_of_scikit_learn() -> None:
    people = People(400)
    told = people.told("one", 0.5)
    (found,) = standings(judged(told, people.known))
    assert (found.version, found.role, found.customers) == ("one", "champion", 400)
    assert found.auc == pytest.approx(roc_auc_score(people.label, told["probability"]))
    assert found.brier == pytest.approx(brier_score_loss(people.label, told["probability"]))
    assert found.log_loss == pytest.approx(log_loss(people.label, told["probability"]))
    assert (found.left, found.flagged) == (people.label.mean(), told["churns"].mean())


@pytest.mark.parametrize(("noise", "verdict"), [(4.0, -1), (0.5, 0)])
@pytest.mark.parametrize("share", [0.5, 0.2])
def test_a_variant_that_is_worse_is_found_and_one_that_is_alike_is_not(noise: float, verdict: int, share: float) -> None:
    found = experiment(4_000, noise, share=share)
    assert found.verdict == verdict
    low, high = found.brier_bounds
    assert low < found.brier < high
    people = People(200_000, seed=1)
    mine, theirs = (
        ((people.told(model, each)["probability"] - people.label) ** 2).mean() for model, each in (("two", noise), ("one", 0.5))
    )
    assert low < mine - theirs < high
    assert found.customers / (found.customers + found.theirs) == pytest.approx(share, abs=0.02)
    assert found.customers + found.theirs == pytest.approx(4_000, abs=30)  # less those before and after both were there
    assert ("it is worse" in found.sentence()) == (verdict < 0)
    assert (found.auc_bounds[1] < 0) == (verdict < 0)


def test_a_variant_that_is_better_is_found() -> None:
    assert experiment(4_000, 0.5, champion=4.0).verdict == 1


def test_two_arms_alike_are_told_apart_in_one_of_twenty_at_most_however_often_one_looks() -> None:
    alarms = 0
    for number in range(1_000):
        people = People(500, seed=number)
        _, ours = people.halves((0.5, 0.1)[number % 2])
        losses = (1 / (1 + np.exp(-people.risk)) - people.label) ** 2
        sequence, alarm = TwoArms(), False
        for loss, is_ours in zip(losses.tolist(), ours.tolist(), strict=True):
            sequence.see(loss, is_ours)
            low, high = sequence.bounds
            alarm = alarm or low > 0 or high < 0
        alarms += alarm
    assert alarms <= 50


def test_a_block_is_the_mean_of_each_side_by_hand() -> None:
    sequence, pairs = TwoArms(), TwoArms()
    for loss, ours in ((0.2, False), (0.6, False), (0.9, True), (0.5, True), (0.1, False)):
        sequence.see(loss, ours)
    for mine, theirs in ((0.9, 0.4), (0.5, 0.1)):
        pairs.see(theirs, False)
        pairs.see(mine, True)
    assert sequence.bounds == pytest.approx(pairs.bounds)
    with pytest.raises(ValueError, match="outside"):
        sequence.see(1.1, True)


def test_a_shadow_is_compared_customer_by_customer_which_tells_more() -> None:
    people = People(1_500)
    told = pd.concat([people.told("one", 0.5), people.told("ear", 1.5)], ignore_index=True)
    (found,) = contrasts(judged(told, people.known))
    assert (found.role, found.customers, found.theirs, found.verdict) == ("shadow", 1_500, 1_500, -1)
    assert [each.role for each in standings(judged(told, people.known))] == ["champion", "shadow"]
    apart = experiment(1_500, 1.5)
    assert np.diff(found.brier_bounds) < np.diff(apart.brier_bounds)


def test_a_customer_counts_once_with_the_newest_answer_before_the_decision() -> None:
    people = People(200)
    older, newest = people.told("one", 5.0, before=3 * HOUR), people.told("one", 0.1)
    after = people.told("one", 9.0, before=-HOUR)
    at_it = people.told("one", 9.0, before=timedelta(0))
    asked = people.told("one", 9.0, before=HOUR / 2).assign(origin_offset=-1)  # over HTTP
    (found,) = standings(judged(pd.concat([newest, older, after, at_it, asked], ignore_index=True), people.known))
    assert found.customers == 200
    assert found.brier == pytest.approx(brier_score_loss(people.label, newest["probability"]))


def test_a_candidate_is_compared_with_who_was_answered_while_it_worked() -> None:
    people = People(3_000)
    theirs, mine = people.halves()
    late = np.arange(people.count) >= 1_500
    before, during = people.told("one", 9.0, ~late), people.told("one", 0.5, theirs & late)
    told = pd.concat([before, during, people.told("two", 0.5, mine & late)], ignore_index=True)
    (found,) = contrasts(judged(told, people.known))
    assert found.customers + found.theirs == pytest.approx(1_500, abs=20)
    assert found.verdict == 0  # though the champion was bad before


def test_where_nobody_is_judged_yet_it_says_so() -> None:
    people = People(10)
    for told, known in ((pd.DataFrame(), people.known), (people.told("one", 1.0), people.known.head(0))):
        with pytest.raises(NotEnoughData, match="none was scored before the decision"):
            judged(told, known)
    (found,) = standings(judged(people.told("one", 1.0, people.label == 1), people.known))
    assert np.isnan(found.auc)
    assert contrasts(judged(people.told("two", 1.0), people.known)) == []


def test_sides_of_one_kind_have_no_auc_and_say_so() -> None:
    people = People(100)
    theirs, mine = people.label == 1, people.label == 0
    (found,) = contrasts(judged(pd.concat([people.told("one", 1.0, theirs), people.told("two", 1.0, mine)]), people.known))
    assert np.isnan(found.auc)
    assert "AUCs is unknown" in found.sentence()

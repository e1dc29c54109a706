"""Several models at once in one process: who answers whom, who only listens, and when a newcomer is sent away.

A *canary* and a *variant* (of an A/B test) answer a share of the customers, always the same ones; a *shadow* scores everyone and
answers nobody. What a candidate does is compared with the champion request by request; one that fails more often, or takes
longer, is rolled back at once, and whoever it failed is answered by the champion.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from churnstream.errors import InvalidSetting
from churnstream.records import shard_of
from churnstream.serving.scoring import Scorer
from churnstream.serving.sequential import Bet, Interval

CHAMPION, CANARY, VARIANT, SHADOW = "champion", "canary", "variant", "shadow"
ROLES = (CANARY, VARIANT, SHADOW)
ALPHA = 0.05
SLOWER = 1.5  # times the champion's time, in more than half of the pairs
FINE = 1_000_000
Rows = Sequence[Sequence[float]]
log = logging.getLogger("rollout")


class Watch:
    """Compares a candidate with the champion, pair by pair; ``alarm()`` is a sentence once it is worse, with two tests that
    together are wrong with a probability of ``alpha`` at most, however often one asks."""

    def __init__(self, alpha: float = ALPHA):
        self._limit = 2 / alpha
        self.failing, self.slow = Bet(), Bet()

    def see(self, failed: bool, seconds: float, champion_failed: bool, champion_seconds: float) -> None:
        """A request of the candidate's beside one of the champion's; ``seconds`` are those of a row."""
        self.failing.see(float(failed) - float(champion_failed))
        if not failed:
            self.slow.see(1.0 if seconds > SLOWER * champion_seconds else -1.0)

    def alarm(self) -> str:
        """Why the candidate has to go; nothing while there is no reason."""
        if self.failing.best >= self._limit:
            return f"it fails more often than the champion (p = {self.failing.p_value:.1g} after {self.failing.seen} requests)"
        if self.slow.best >= self._limit:
            told = f"p = {self.slow.p_value:.1g} after {self.slow.seen} requests"
            return f"it takes more than {SLOWER} times as long as the champion, more often than not ({told})"
        return ""


class Arm:
    """One model at work in a ``role``, answering ``share`` of the customers. ``stopped`` says why it no longer does."""

    def __init__(self, scorer: Scorer, role: str = CHAMPION, share: float = 0.0):
        self.scorer, self.role, self.share = scorer, role, share
        self.rows = self.failures = self.disagreements = 0
        self.stopped = ""
        self.watch, self.difference = Watch(), Interval()

    @property
    def version(self) -> str:
        """Its model's."""
        return self.scorer.manifest.version

    def decides(self, probability: float) -> bool:
        """Whether so probable means leaving."""
        return probability >= self.scorer.manifest.threshold

    def report(self) -> dict[str, Any]:
        """What it did so far."""
        told: dict[str, Any] = {"version": self.version, "role": self.role, "share": self.share, "rows": self.rows}
        told["failures"] = self.failures
        if self.role == SHADOW:
            told |= {"disagreements": self.disagreements, "mean_difference_between": list(self.difference.bounds)}
        elif self.role != CHAMPION:
            told |= {"p_fails_more": self.watch.failing.p_value, "p_slower": self.watch.slow.p_value}
        return told | ({"rolled_back": self.stopped} if self.stopped else {})


@dataclass(frozen=True, slots=True)
class Shadowed:
    """What a shadow said: of row ``place``, ``probability``."""

    place: int
    arm: Arm
    probability: float


@dataclass(slots=True)  # not frozen, which would cost every request a microsecond
class Scored:
    """(n,) ``probabilities``, and by whom; ``arms`` None: all by the champion."""

    probabilities: list[float]
    champion: Arm
    arms: Sequence[Arm] | None = None
    shadowed: Sequence[Shadowed] = ()

    def arm(self, place: int) -> Arm:
        """Who answered row ``place``."""
        return self.champion if self.arms is None else self.arms[place]


class Rollout:
    """A champion and its candidates. Raises InvalidSetting when the shares of those who answer leave nothing to the champion."""

    def __init__(self, champion: Scorer, candidates: Sequence[Arm] = (), clock: Callable[[], float] = time.perf_counter):
        self.champion, self.candidates, self._clock = Arm(champion), tuple(candidates), clock
        for each in candidates:
            if each.role not in ROLES or not 0 <= each.share < 1:
                raise InvalidSetting(f"a candidate is {each.role!r} with a share of {each.share}; roles are {', '.join(ROLES)}")
        given = sum(each.share for each in candidates if each.role != SHADOW)
        if given >= 1:
            raise InvalidSetting(f"the candidates answer {given:.0%} of the customers, and nobody is left to compare them with")
        self._seen: tuple[bool, float] | None = None  # the champion's last request that stands in no pair yet
        self._arm_of = lru_cache(maxsize=65_536)(self._find_arm)
        self._choose()

    def with_champion(self, champion: Scorer) -> "Rollout":
        """The same candidates, as they stand, beside another champion; a candidate that became champion is one no longer."""
        others = [each for each in self.candidates if each.version != champion.manifest.version]
        return Rollout(champion, others, self._clock)

    def arms(self) -> tuple[Arm, ...]:
        """The champion, and the others."""
        return (self.champion, *self.candidates)

    def arm_of(self, user: str | None) -> Arm:
        """Who answers a customer; who is not named is answered by the champion."""
        return self.champion if user is None else self._arm_of(user)

    def by_champion(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n, features) -> (n,) probabilities, all of them the champion's."""
        self.champion.rows += len(matrix)
        return self.champion.scorer.predict(matrix)

    def score(self, rows: Rows, users: Sequence[str | None]) -> Scored:
        """Probabilities for ``rows``, each by the model that answers its customer."""
        if not self.alone:
            return self._score_apart(rows, users)
        champion = self.champion
        champion.rows += len(rows)
        return Scored(champion.scorer.score(rows), champion)

    def _score_apart(self, rows: Rows, users: Sequence[str | None]) -> Scored:
        arms = [self.arm_of(each) for each in users]
        probabilities = [0.0] * len(rows)
        for arm in dict.fromkeys(arms):
            places = [place for place, each in enumerate(arms) if each is arm]
            told = self._ask(arm, rows, places)
            if told is None:  # the champion answers instead
                told = self._ask(self.champion, rows, places)
                for place in places:
                    arms[place] = self.champion
            for place, probability in zip(places, told or (), strict=True):
                probabilities[place] = probability
        return Scored(probabilities, self.champion, arms, self._shadowed(rows, probabilities, arms))

    def _ask(self, arm: Arm, rows: Rows, places: Sequence[int]) -> list[float] | None:
        """What an arm says of these rows, None when it failed; the champion's failures are raised."""
        began = self._clock()
        chosen = [rows[place] for place in places]
        try:
            told = arm.scorer.score(chosen)
            failed = not all(0.0 <= each <= 1.0 for each in told)
        except Exception as cause:
            if arm is self.champion:
                raise
            log.debug("the %s %s failed", arm.role, arm.version, exc_info=cause)
            told, failed = [], True
        seconds = (self._clock() - began) / len(places)
        arm.rows += len(places)
        arm.failures += failed
        if arm is self.champion:
            self._seen = (failed, seconds)
            return told
        if failed:
            self._ask(self.champion, rows, places[:1])  # so that there is something to compare with
        self._compare(arm, failed, seconds)
        return None if failed else told

    def _compare(self, arm: Arm, failed: bool, seconds: float) -> None:
        if self._seen is None or arm.stopped:
            return
        arm.watch.see(failed, seconds, *self._seen)
        self._seen = None
        arm.stopped = arm.watch.alarm()
        if arm.stopped:
            log.warning("the %s %s is rolled back: %s", arm.role, arm.version, arm.stopped)
            self._choose()

    def _shadowed(self, rows: Rows, probabilities: Sequence[float], arms: Sequence[Arm]) -> list[Shadowed]:
        found = []
        for shadow in self._shadows:
            shadow.rows += len(rows)
            try:
                told = shadow.scorer.score(rows)
                failed = not all(map(isfinite, told))
            except Exception as cause:
                log.debug("the shadow %s failed", shadow.version, exc_info=cause)
                failed = True
            if failed:
                shadow.failures += 1
                continue
            for place, probability in enumerate(told):
                shadow.difference.see(probability - probabilities[place])
                shadow.disagreements += shadow.decides(probability) != arms[place].decides(probabilities[place])
                found.append(Shadowed(place, shadow, probability))
        return found

    def _choose(self) -> None:
        """Look again at who takes part."""
        live = [each for each in self.candidates if not each.stopped]
        self._shadows = [each for each in live if each.role == SHADOW]
        self._answering = [each for each in live if each.role != SHADOW and each.share]
        self.alone = not self._shadows and not self._answering  # the champion answers everyone, and nobody listens
        self._arm_of.cache_clear()

    def _find_arm(self, user: str) -> Arm:
        place = shard_of(f"rollout {user}", FINE) / FINE  # not the customers of some shards only
        start = 0.0
        for each in self.candidates:  # those rolled back keep their place, so that nobody else's customers change hands
            if each.role == SHADOW:
                continue
            if start <= place < start + each.share:
                return each if each in self._answering else self.champion
            start += each.share
        return self.champion


def candidates_of(given: Any, load: Callable[[str], Scorer]) -> list[Arm]:
    """Candidates as a deployment names them: ``[{"role": "canary", "model_path": …, "share": 0.1}]``; raises InvalidSetting."""
    found = []
    for each in given or ():
        unknown = set(each) - {"role", "model_path", "share"} if isinstance(each, Mapping) else {"this"}
        if unknown or "model_path" not in each:
            raise InvalidSetting(
                f"a candidate is {each!r}; it takes role ({', '.join(ROLES)}), model_path, and share, from 0 to 1"
            )
        found.append(Arm(load(each["model_path"]), each.get("role", CANARY), float(each.get("share", 0.0))))
    return found

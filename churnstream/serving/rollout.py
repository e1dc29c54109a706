"""Several models at once in one process: who answers whom, who only listens, and when a newcomer is sent away.

A *canary* and a *variant* (of an A/B test) answer a share of the customers, always the same ones; a *shadow* scores everyone and
answers nobody. What a candidate does is compared with the champion request by request; one that fails more often, or takes
longer, is rolled back at once, and whoever it failed is answered by the champion. ``withdrawn`` makes that hold everywhere.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import isfinite
from typing import Any

import numpy as np
from numpy.typing import NDArray

from churnstream.errors import InvalidSetting
from churnstream.records import shard_of
from churnstream.serving.arms import CANARY, ROLES, SHADOW, Arm, Scored, Shadowed
from churnstream.serving.scoring import Scorer

FINE = 1_000_000
Rows = Sequence[Sequence[float]]
log = logging.getLogger("rollout")


class Rollout:
    """A champion and its candidates; ``tell`` is called when one of them is rolled back.

    Rows are scored by one thread; another may withdraw and readmit candidates meanwhile. Raises InvalidSetting when the shares of
    those who answer leave nothing to the champion.
    """

    def __init__(
        self,
        champion: Scorer,
        candidates: Sequence[Arm] = (),
        clock: Callable[[], float] = time.perf_counter,
        tell: Callable[[], None] = lambda: None,
    ):
        self.champion, self.candidates, self._clock, self._tell = Arm(champion), tuple(candidates), clock, tell
        self._choosing = threading.Lock()
        for each in candidates:
            if each.role not in ROLES or not 0 <= each.share < 1:
                raise InvalidSetting(f"a candidate is {each.role!r} with a share of {each.share}; roles are {', '.join(ROLES)}")
        given = sum(each.share for each in candidates if each.role != SHADOW)
        if given >= 1:
            raise InvalidSetting(f"the candidates answer {given:.0%} of the customers, and nobody is left to compare them with")
        self._seen: tuple[bool, float] | None = None  # the champion's last request that stands in no pair yet
        self._arm_of = lru_cache(maxsize=65_536)(self._find_arm)
        self.review()

    def with_champion(self, champion: Scorer) -> "Rollout":
        """The same candidates, as they stand, beside another champion; a candidate that became champion is one no longer."""
        others = [each for each in self.candidates if each.version != champion.manifest.version]
        return Rollout(champion, others, self._clock, self._tell)

    def arms(self) -> tuple[Arm, ...]:
        """The champion, and the others."""
        return (self.champion, *self.candidates)

    def arm_of(self, user: str | None) -> Arm:
        """Who answers a customer; who is not named is answered by the champion."""
        if user is None:
            return self.champion
        arm = self._arm_of(user)
        return self.champion if arm.stopped else arm

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
        alarm = arm.watch.alarm()
        if alarm:
            log.warning("the %s %s is rolled back: %s", arm.role, arm.version, alarm)
            arm.rollbacks += 1
            arm.of_its_own = True
            self.withdraw(arm, alarm)
            self._tell()

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

    def withdraw(self, arm: Arm, reason: str) -> None:
        """Let a candidate answer nobody any more; the champion answers its customers."""
        arm.stopped = reason
        self.review()

    def readmit(self, arm: Arm) -> None:
        """Let a candidate answer its customers again."""
        arm.begin_anew()
        self.review()

    def review(self) -> None:
        """Look again at who takes part."""
        with self._choosing:  # whoever comes last has seen what everyone before has changed
            live = [each for each in self.candidates if not each.stopped]
            self._shadows = [each for each in live if each.role == SHADOW]
            answering = any(each.role != SHADOW and each.share for each in live)
            self.alone = not self._shadows and not answering  # the champion answers everyone, and nobody listens

    def _find_arm(self, user: str) -> Arm:
        place = shard_of(f"rollout {user}", FINE) / FINE  # not the customers of some shards only
        start = 0.0
        for each in self.candidates:  # those rolled back keep their place, so that nobody else's customers change hands
            if each.role == SHADOW:
                continue
            if start <= place < start + each.share:
                return each
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

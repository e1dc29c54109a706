"""Models at work beside one another: each an arm, and the watch that is kept on a candidate."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from churnstream.serving.scoring import Scorer
from churnstream.serving.sequential import Bet, Interval

CHAMPION, CANARY, VARIANT, SHADOW = "champion", "canary", "variant", "shadow"
ROLES = (CANARY, VARIANT, SHADOW)
ALPHA = 0.05
SLOWER = 1.5  # times the champion's time, in more than half of the pairs


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
    """One model at work in a ``role``, answering ``share`` of the customers. ``stopped`` says why it no longer does.

    ``of_its_own`` says that this process found that out, and was not told.
    """

    def __init__(self, scorer: Scorer, role: str = CHAMPION, share: float = 0.0):
        self.scorer, self.role, self.share = scorer, role, share
        self.rows = self.failures = self.disagreements = self.rollbacks = 0
        self.stopped, self.of_its_own = "", False
        self.watch, self.difference = Watch(), Interval()

    @property
    def version(self) -> str:
        """Its model's."""
        return self.scorer.manifest.version

    def decides(self, probability: float) -> bool:
        """Whether so probable means leaving."""
        return probability >= self.scorer.manifest.threshold

    def begin_anew(self) -> None:
        """Take part again; what was held against it is forgotten."""
        self.watch = Watch()
        self.stopped, self.of_its_own = "", False

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

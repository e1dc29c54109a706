"""Comparisons that may be looked at after every request, and stopped at any, without being wrong more often than they say.

A test that is looked at again and again while data come in is sooner or later wrong, unless it was made for that. These are: each
is a bet against the hypothesis, and a gambler who starts with 1 and may not run into debt multiplies it by 20, at any time, with
a probability of 1 in 20 at most when the hypothesis is true (Ville 1939: for a non-negative supermartingale M with M_0 = 1,
P(sup M_t >= 1/alpha) <= alpha). That holds for every number of observations; nothing about it is asymptotic.
"""

from math import exp, inf, log, log1p, sqrt

STAKES = (0.1, 0.3, 0.6, 0.9)


class Bet:
    """Evidence that differences in [-1, 1] are above 0 on average.

    Hypothesis: E[D_t | what was seen before] <= 0. The wealth is the mean over the stakes s of prod(1 + s D_t), a capital process
    of Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting" (JRSS B 86(1), 2024, arXiv:2010.09686),
    section 4, with fixed stakes mixed as in their section 4.3.
    """

    __slots__ = ("_logs", "best", "seen")

    def __init__(self) -> None:
        self._logs = [0.0] * len(STAKES)
        self.seen, self.best = 0, 1.0

    def see(self, difference: float) -> None:
        """One more difference; raises ValueError outside [-1, 1]."""
        if not -1.0 <= difference <= 1.0:
            raise ValueError(f"a difference of {difference} is outside [-1, 1]")
        self.seen += 1
        self._logs = [wealth + log1p(stake * difference) for wealth, stake in zip(self._logs, STAKES, strict=True)]
        self.best = max(self.best, self.wealth)

    @property
    def wealth(self) -> float:
        """What the gambler has now."""
        most = max(self._logs)
        return inf if most > 700 else exp(most) * sum(exp(each - most) for each in self._logs) / len(STAKES)

    @property
    def p_value(self) -> float:
        """An always-valid one: the hypothesis may be refused whenever it is at most alpha."""
        return min(1.0, 1.0 / self.best)


class Difference:
    """Which of two arms has the higher losses, from pairs of losses in [0, 1]; two bets, one each way."""

    __slots__ = ("_higher", "_lower")

    def __init__(self) -> None:
        self._higher, self._lower = Bet(), Bet()

    def see(self, ours: float, theirs: float) -> None:
        """One pair."""
        self._higher.see(ours - theirs)
        self._lower.see(theirs - ours)

    @property
    def p_value(self) -> float:
        """Of the hypothesis that both lose the same on average."""
        return min(1.0, 2 * min(self._higher.p_value, self._lower.p_value))

    def verdict(self, alpha: float = 0.05) -> int:
        """1: ours lose more; -1: theirs do; 0: that is not settled."""
        if self.p_value > alpha:
            return 0
        return 1 if self._higher.best > self._lower.best else -1


class Interval:
    """A confidence sequence for the mean of values in [low, high]: it holds at all times at once with probability 1 - alpha.

    The predictable plug-in empirical Bernstein sequence, theorem 2 of the same paper: for values x in [0, 1],
    ``(sum(l_i x_i) +- (log(2/alpha) + sum(v_i psi(l_i)))) / sum(l_i)`` with ``v_i = 4 (x_i - m_{i-1})^2``,
    ``psi(l) = (-log(1 - l) - l) / 4``, ``l_t = min(1/2, sqrt(2 log(2/alpha) / (s_{t-1}^2 t log(1 + t))))``, and running
    means m and variances s^2 that begin with one observation of 1/2 and 1/4.
    """

    __slots__ = ("_alpha", "_high", "_low", "_mean_sum", "_spread_sum", "_weighted", "_weights", "_width", "seen")

    def __init__(self, low: float = -1.0, high: float = 1.0, alpha: float = 0.05):
        self._low, self._high, self._alpha = low, high, alpha
        self._weights = self._weighted = self._width = 0.0
        self._mean_sum, self._spread_sum = 0.5, 0.25
        self.seen = 0

    def see(self, value: float) -> None:
        """One more value; raises ValueError outside the bounds."""
        if not self._low <= value <= self._high:
            raise ValueError(f"{value} is outside [{self._low}, {self._high}]")
        x = (value - self._low) / (self._high - self._low)
        before, spread = self._mean_sum / (self.seen + 1), self._spread_sum / (self.seen + 1)
        self.seen += 1
        weight = min(0.5, sqrt(2 * log(2 / self._alpha) / (spread * self.seen * log1p(self.seen))))
        self._weights += weight
        self._weighted += weight * x
        self._width += (x - before) ** 2 * (-log1p(-weight) - weight)
        self._mean_sum += x
        self._spread_sum += (x - self._mean_sum / (self.seen + 1)) ** 2

    @property
    def bounds(self) -> tuple[float, float]:
        """What the mean lies between."""
        if not self.seen:
            return self._low, self._high
        middle = self._weighted / self._weights
        half = (log(2 / self._alpha) + self._width) / self._weights
        scale = self._high - self._low
        return self._low + scale * max(0.0, middle - half), self._low + scale * min(1.0, middle + half)


class TwoArms:
    """A confidence sequence for the mean loss of our customers less that of theirs, for losses in [0, 1].

    Customers come one by one, each of one arm, chosen by chance. They are taken in blocks: a block is full as soon as it holds
    one of each arm, and its value is the mean loss of ours in it less the mean loss of theirs. Which block a customer is in hangs
    on arms alone and not on losses, so that given the past every block's value is the difference of the means on average, which
    is all that ``Interval`` asks for. Of two arms of unequal size the smaller one is compared with nearly all of the larger.
    """

    __slots__ = ("_counts", "_interval", "_sums")

    def __init__(self, alpha: float = 0.05):
        self._interval = Interval(alpha=alpha)
        self._sums, self._counts = [0.0, 0.0], [0, 0]

    def see(self, loss: float, ours: bool) -> None:
        """One more customer; raises ValueError for a loss outside [0, 1]."""
        if not 0.0 <= loss <= 1.0:
            raise ValueError(f"a loss of {loss} is outside [0, 1]")
        self._sums[ours] += loss
        self._counts[ours] += 1
        if all(self._counts):
            theirs, mine = (total / count for total, count in zip(self._sums, self._counts, strict=True))
            self._interval.see(min(1.0, max(-1.0, mine - theirs)))
            self._sums, self._counts = [0.0, 0.0], [0, 0]

    @property
    def bounds(self) -> tuple[float, float]:
        """What the difference lies between."""
        return self._interval.bounds

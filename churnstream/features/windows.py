"""The stretches of time over which a feature is measured; all in event time, UTC, whole microseconds.

``as_of`` is the instant at which the feature is read; events after it are not looked at.

========================= =================================================================================================
window                    holds the events at
========================= =================================================================================================
``First(S)``              ``anchor <= t < anchor + S``
``Sliding(S, P)``         the pane of ``as_of`` and the ``S/P - 1`` panes before it, where panes are ``[k*P, (k+1)*P)``
                          from 1970 on: it always reaches back more than ``S - P`` and at most ``S``
``Sliding(S)``            ``as_of - S < t <= as_of``, exactly; every event is kept for as long as it may count
``Tumbling(S)``           the pane ``[k*S, (k+1)*S)`` of ``as_of``
``Session(G)``            the newest run of events in which none is more than ``G`` after the one before; none of them once
                          ``as_of`` is more than ``G`` after the newest
``Lifetime()``            any time up to ``as_of``
========================= =================================================================================================

``Sliding(..., ago=A)`` is the same window read ``A`` earlier: the base of lags and trends.
"""

from dataclasses import dataclass
from datetime import timedelta

from churnstream.errors import InvalidDefinition

ZERO = timedelta(0)
MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class First:
    """The first ``span`` from the customer's anchor event."""

    span: timedelta

    def __post_init__(self) -> None:
        _positive(self.span, "a window from the anchor")


@dataclass(frozen=True, slots=True)
class Sliding:
    """The last ``span``; in steps of ``period``, or exact when that is None. ``ago`` reads it that much earlier."""

    span: timedelta
    period: timedelta | None = None
    ago: timedelta = ZERO

    def __post_init__(self) -> None:
        _positive(self.span, "a sliding window")
        if self.period is not None:
            _positive(self.period, "the period of a sliding window")
        if self.span % self.pane or self.ago % self.pane:
            raise InvalidDefinition(f"a window of {self.span}, {self.ago} ago, cannot be cut into whole periods of {self.period}")
        if self.ago < ZERO:
            raise InvalidDefinition(f"a window cannot be read {-self.ago} in the future")

    @property
    def pane(self) -> timedelta:
        """The step in which the window moves."""
        return self.period or MICROSECOND


@dataclass(frozen=True, slots=True)
class Tumbling:
    """The present one of the stretches of ``span`` into which all time is cut, from 1970 on."""

    span: timedelta

    def __post_init__(self) -> None:
        _positive(self.span, "a tumbling window")


@dataclass(frozen=True, slots=True)
class Session:
    """The present run of events, none more than ``gap`` after the one before."""

    gap: timedelta

    def __post_init__(self) -> None:
        _positive(self.gap, "the gap of a session")


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Everything that is known of the customer."""


Window = First | Sliding | Tumbling | Session | Lifetime


def _positive(span: timedelta, what: str) -> None:
    if span <= ZERO:
        raise InvalidDefinition(f"{what} has a length of {span}; it must be above 0")

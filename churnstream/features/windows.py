"""What a feature measures, in time: the windows, and the rules that both engines keep to.

Only event time counts, in whole microseconds, UTC. ``as_of`` is the instant at which a feature is read: events after it are not
looked at, and it may be any instant from the customer's newest event on, with or without an event of its own, so that silence
empties windows as it should. A vector that the stream emits is as of the newest event of its customer.

========================= =================================================================================================
window                    holds the events at
========================= =================================================================================================
``First(S)``              ``anchor <= t < anchor + S``; the event at the very end is outside
``Sliding(S, P)``         the pane of ``as_of`` and the ``S/P - 1`` panes before it, where panes are ``[k*P, (k+1)*P)``
                          from 1970 on: it always reaches back more than ``S - P`` and at most ``S``
``Sliding(S)``            ``as_of - S < t <= as_of``, exactly; every event is kept for as long as it may count
``Tumbling(S)``           the pane ``[k*S, (k+1)*S)`` of ``as_of``
``Session(G)``            the newest run of events in which none is more than ``G`` after the one before; none of them once
                          ``as_of`` is more than ``G`` after the newest
``Lifetime()``            any time up to ``as_of``
========================= =================================================================================================

``Sliding(..., ago=A)`` is the same window read ``A`` earlier: the base of lags and trends.

* The *anchor* of a customer is the earliest event of the type ``FeatureTable.anchor``; windows of the kind ``First`` need one.
* A customer has a vector from the instant something the table asks for is known: the anchor, where there is one, and the event
  ``FeatureTable.requires``, where there is one; else any event at all.
* *Out of order*, inside a batch and across batches: an event up to ``FeatureTable.lateness`` behind the newest event of the same
  customer is applied as if it had arrived in order, also when it moves the anchor back. Exactly that far behind is still in time.
* *Late*: an event further behind changes nothing and goes to the dead letters as late.
* *Duplicates*: a record that is delivered again is known by its place in its stream and changes nothing; two events that say the
  same are two events, unless the case names what makes them one (``UseCase.identity``).
* *Events at one instant* all count; the first of them is the one that came first, the last the one that came last.
* *Customers never touch*: one whose clock is wrong makes nobody else late, and nobody else's windows move.
* Amounts that are no numbers (NaN, infinities), negative zero, and numbers beyond a field's limits never get here: the door
  refuses them with a sentence (``codecs/``).
* Sums are of any number of cents rounded once, at the end; counts are exact; means, variances and what is made from them agree
  with the exact answer within 1e-9.
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

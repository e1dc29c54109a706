"""What a feature is a case of, in words: its window and its op."""

from churnstream.features.definitions import Attribute, Definition, Feature, Trend
from churnstream.features.windows import First, Session, Sliding, Tumbling, Window
from churnstream.usecases.case import spell


def window_name(window: Window) -> str:
    """A window in words.

    >>> from datetime import timedelta
    >>> window_name(Sliding(timedelta(hours=3), timedelta(minutes=10), timedelta(minutes=40)))
    'the last 3 hours in steps of 10 minutes, 40 minutes ago'
    """
    if isinstance(window, First):
        return f"the first {spell(window.span)} from the anchor"
    if isinstance(window, Tumbling):
        return f"tumbling, {spell(window.span)}"
    if isinstance(window, Session):
        return f"the session (gaps up to {spell(window.gap)})"
    if isinstance(window, Sliding):
        steps = f" in steps of {spell(window.period)}" if window.period else ", exactly"
        return f"the last {spell(window.span)}{steps}" + (f", {spell(window.ago)} ago" if window.ago else "")
    return "the lifetime"


def kind_of(each: Definition) -> tuple[str, str]:
    """(window, op) in words: what a feature is a case of."""
    if isinstance(each, Feature):
        return window_name(each.window), str(each.op)
    if isinstance(each, Trend):
        return window_name(each.of.window), f"trend of the {each.of.op}"
    return ("no window", "newest value") if isinstance(each, Attribute) else ("no window", "ratio")

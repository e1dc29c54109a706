"""Waiting for a function where there is no platform to ask."""

from datetime import timedelta

import pytest

from churnstream import settling
from churnstream.errors import NotDrained
from churnstream.operations.ledger import Line


def on_a_cluster(monkeypatch: pytest.MonkeyPatch, waiting: list[int]) -> None:
    """A cluster on which ``enrich-stream`` has so many rows waiting at each look, and another function always has some."""
    monkeypatch.setattr(settling, "cluster_address", lambda: "http://mlrun-api")
    monkeypatch.setattr(settling, "LOOK_S", 0.001)
    others = Line("serving", "serving-stream", None, waiting=5)
    looks = iter(waiting)
    monkeypatch.setattr(
        settling, "totals", lambda: [Line("enrich-stream", "incoming-events-stream", None, waiting=next(looks)), others]
    )


def test_a_cluster_is_watched_until_nothing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cluster(monkeypatch, [7, 3, 0])
    settling.settle("enrich-stream", timedelta(seconds=30))


def test_a_function_that_does_not_catch_up_is_named_with_what_it_left(monkeypatch: pytest.MonkeyPatch) -> None:
    on_a_cluster(monkeypatch, [7] * 10_000)
    with pytest.raises(NotDrained, match="enrich-stream still had 7 rows"):
        settling.settle("enrich-stream", timedelta(milliseconds=5))

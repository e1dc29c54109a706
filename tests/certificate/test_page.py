import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from typing import Any

import pytest

from churnstream.certificate.page import page

VOID = {"meta", "br"}
WORST = {"error": 3e-14, "feature": "bet_var", "customer": "s1-u1", "at": "2026-01-01T00:00:00+00:00"}
KIND = {"window": "the first 24 hours", "op": "var", "features": 3, "numbers": 600, "equal": 590, "filled": 500, "rounding": 1}
COMPARED = {
    "points": 100,
    "moments": {"at an event": 60, "in silence": 40},
    "without_a_vector": 5,
    "numbers": 800,
    "equal": 790,
    "filled": 700,
    "rounding": 1,
    "worst": WORST,
}
FOUND: dict[str, Any] = {
    "certificate": "The same numbers three ways",
    "holds": True,
    "differences": 0,
    "unaccounted": 0,
    "seed": 1,
    "command": "make certificate POINTS=100 SEED=1",
    "compared": COMPARED,
    "ways": {"batch": "slow", "stream": "fast", "serving": "read"},
    "rules": ["equal is <equal>"],
    "tables": [
        {
            "case": "first_day",
            "title": "A game's first day",
            "features": 13,
            "fingerprint": "0123",
            "compared": COMPARED,
            "kinds": [KIND | {"worst": WORST}, KIND | {"op": "sum", "numbers": 200, "worst": {"error": 0.0}}],
            "sent": {
                "customers": 5,
                "events": 100,
                "sent_twice": 5,
                "held_up": 5,
                "overtaken": 9,
                "furthest_places": 7,
                "digest": "ab",
            },
            "account": [
                {"function": "stream-to-features", "source": "enriched-events-stream", "in": 100, "applied": 97, "duplicate": 0}
                | {"late": 3, "invalid": 0, "erased": 0, "unaccounted": 0, "again": 5}
            ],
            "engine": {"units": 20, "restarts": 4, "before_durable": 2, "read_by_nobody": 3},
        }
    ],
    "listed": [],
    "digests": {"input": "feed" * 16, "definitions": "cafe" * 16},
    "made": {
        "at": "2026-01-02T03:04:05Z",
        "seconds": 12.3,
        "processes": 2,
        "machine": "Linux x86_64",
        "versions": {"churnstream": "0.1.0", "numpy": "2.0"},
    },
}
LISTED = {
    "case": "first_day",
    "customer": "<script>alert(1)</script>",
    "at": "2026-01-01T00:00:00+00:00",
    "feature": "bet_sum",
    "batch": 1.5,
    "stream": "unknown",
    "serving": "no vector",
}


class Nesting(HTMLParser):
    """Raises when a tag ends that is not the one that began last."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: set[str] = set()
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.add(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def read(found: Mapping[str, Any]) -> Nesting:
    nesting = Nesting()
    nesting.feed(page(found))
    nesting.close()
    assert nesting.open == []
    return nesting


def test_the_page_is_well_nested_and_says_what_was_compared() -> None:
    text = " ".join(" ".join(read(FOUND).text).split())
    for words in (
        "0 differences at 100 points",
        "98.75 %",
        "3e−14",
        "13 features",
        "make certificate POINTS=100 SEED=1",
        "numpy 2.0",
    ):
        assert words in text
    assert "feed" * 16 in text
    assert "2026-01-02 at 03:04:05 UTC" in text


def test_the_page_needs_nothing_beside_it() -> None:
    shown = page(FOUND)
    assert not re.search(r"(src|href)=|url\(|@import|https?://", shown)
    assert "prefers-color-scheme: dark" in shown
    assert 'name="viewport"' in shown


def test_differences_are_shown_and_cannot_run() -> None:
    found = FOUND | {"holds": False, "differences": 31, "listed": [LISTED]}
    shown, nesting = page(found), read(found)
    assert "script" not in nesting.seen
    assert "<script>alert(1)</script>" in nesting.text
    assert 'class="verdict broken"' in shown
    text = " ".join(nesting.text)
    assert "31 differences at 100 points" in text
    assert "The first 1 of 31." in text
    assert "bet_sum" in text


@pytest.mark.parametrize(
    ("error", "shown", "look"), [(0.0, "=", "same"), (3e-14, "3e−14", "near"), (2e-9, "2e−9", "off"), (None, "no number", "off")]
)
def test_an_error_looks_as_bad_as_it_is(error: float | None, shown: str, look: str) -> None:
    found = json.loads(json.dumps(FOUND))
    found["tables"][0]["kinds"][0]["worst"]["error"] = error
    assert f'<span class="{look}">{shown}</span>' in page(found)


def test_lost_events_are_said() -> None:
    assert "7 events are unaccounted for." in page(FOUND | {"holds": False, "unaccounted": 7})

"""The page about a run: one card a notebook, and the figures. It holds all that it needs but the executed notebooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from html import escape
from pathlib import Path

from churnstream.demo.style import STYLE
from churnstream.demo.summary import Summary
from churnstream.operations.ledger import OUTCOMES
from churnstream.pictures.pipeline import draw

DONE, FAILED, WAITING = "done", "failed", "not run"


@dataclass(frozen=True, slots=True)
class Card:
    """One notebook's part: ``status`` is DONE, FAILED or WAITING; ``page`` is its executed copy beside the index, None before."""

    name: str
    title: str
    status: str
    seconds: float = 0.0
    page: Path | None = None


def index(title: str, at: datetime, took: timedelta, cards: Sequence[Card], summary: Summary | None, failure: str = "") -> str:
    """The page's HTML. ``summary`` is None when the run did not come so far; ``failure`` is its sentence."""
    ran = f"Run on {at:%d %B %Y at %H:%M} UTC, in {took.total_seconds():.0f} seconds."
    body = [
        "<main>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{ran}</p>',
        *([f'<p class="stopped">{escape(failure)}</p>'] if failure else []),
        *(_counts(summary) if summary else []),
        "<h2>Notebooks</h2>",
        f'<div class="cards">{"".join(_card(each) for each in cards)}</div>',
        *(_ledger(summary) if summary else []),
        *(_model(summary) if summary else []),
        "<h2>The river</h2>",
        draw(),
        "</main>",
    ]
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        )
    )


def _counts(summary: Summary) -> list[str]:
    tiles = [f'<div class="count"><b>{number:,}</b><span>{escape(name)}</span></div>' for name, number in summary.counts.items()]
    return [f'<div class="counts">{"".join(tiles)}</div>']


def _card(card: Card) -> str:
    number, _, rest = card.name.partition("-")
    status = f'<span class="{card.status}">{card.status}</span>' if card.status != WAITING else WAITING
    took = f" in {card.seconds:.1f} s" if card.status != WAITING else ""
    inside = (
        f'<span class="number">{escape(number)}</span>'
        f"<div><b>{escape(card.title)}</b><small>{escape(rest)}<br>{status}{took}</small></div>"
    )
    if card.page is None:
        return f'<div class="card">{inside}</div>'
    return f'<a class="card" href="{escape(card.page.name)}">{inside}</a>'


def _ledger(summary: Summary) -> list[str]:
    names = ("function", "from", "in", *OUTCOMES, "unaccounted")
    rows = [
        _row([line.function, line.source], [line.given, *(getattr(line, name) for name in OUTCOMES), line.unaccounted])
        for line in summary.lines
    ]
    speeds = [
        _row([stage.function], [f"{stage.rows:,}", f"{stage.busy.total_seconds():.2f}", f"{stage.rows_per_s:,.0f}"])
        for stage in summary.stages
    ]
    verdict = "Nothing is missing." if summary.exact else "Something is missing: the last column says how many."
    return [
        "<h2>Nothing vanishes</h2>",
        f"<p>For each function, what came in is what was applied, and what was not and why. {verdict}</p>",
        f'<div class="scroll"><table>{_head(names, 2)}{"".join(rows)}</table></div>',
        "<h2>Speed</h2>",
        "<p>Seconds of work on this machine, with everything else running beside it.</p>",
        f'<div class="scroll"><table>{_head(("stage", "events", "seconds", "events/s"), 1)}{"".join(speeds)}</table></div>',
    ]


def _model(summary: Summary) -> list[str]:
    note = [f'<p class="mind">{escape(summary.note)}</p>'] if summary.note else []
    return ["<h2>The model</h2>", f"<p>AUC: {escape(summary.auc())}.</p>", *note]


def _head(names: Sequence[str], words: int) -> str:
    return "<tr>" + "".join(f"<th{_side(place >= words)}>{name}</th>" for place, name in enumerate(names)) + "</tr>"


def _row(words: Sequence[str], numbers: Sequence[int | str]) -> str:
    cells = [f"<td>{escape(each)}</td>" for each in words]
    cells += [f'<td class="right">{each if isinstance(each, str) else f"{each:,}"}</td>' for each in numbers]
    return f"<tr>{''.join(cells)}</tr>"


def _side(right: bool) -> str:
    return ' class="right"' if right else ""

"""The certificate as one page that needs nothing beside it: by day and by night, on a phone and on paper."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from churnstream.demo.style import STYLE
from churnstream.operations.ledger import OUTCOMES

Facts = Mapping[str, Any]
MOST_COLUMNS = 8
OWN_STYLE = """
.counts { grid-template-columns: repeat(auto-fit, minmax(200px, 1fr)); }
h3 { font-size: 15px; margin: 26px 0 8px; }
.verdict { display: flex; gap: 16px; align-items: center; margin: 22px 0 0; padding: 18px 20px; background: var(--card);
  border: 1px solid var(--line); border-left: 5px solid var(--good); border-radius: 10px; }
.verdict.broken { border-left-color: var(--bad); }
.verdict b { display: block; font-size: 22px; line-height: 1.25; color: var(--good); }
.verdict.broken b { color: var(--bad); }
.ways { display: grid; grid-template-columns: repeat(auto-fit, minmax(250px, 1fr)); gap: 12px; }
.way { background: var(--card); border: 1px solid var(--line); border-top: 3px solid var(--river); border-radius: 10px;
  padding: 12px 16px; }
.way b { display: block; }
.way span, li { color: var(--grey); }
li { margin: 3px 0; max-width: 90ch; }
ul { padding-left: 20px; margin: 12px 0 0; }
.matrix { font-size: 13px; }
.matrix td, .matrix th { padding: 7px 8px; text-align: center; }
.matrix td:first-child, .matrix th:first-child { text-align: left; position: sticky; left: 0; background: var(--card);
  white-space: normal; min-width: 132px; }
.matrix td:first-child { max-width: 210px; }
.matrix .same { color: var(--good); font-weight: 700; }
.matrix .off { color: var(--bad); font-weight: 700; }
.matrix .near { font-variant-numeric: tabular-nums; white-space: nowrap; }
.matrix .none { color: var(--line); }
code, .mono { font: 13px/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.mono { overflow-wrap: anywhere; white-space: normal; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 6px 18px; margin: 0; padding: 14px 16px;
  background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
dt { color: var(--grey); }
dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
@media (max-width: 560px) {
  main { padding: 24px 14px 48px; }
  .counts { grid-template-columns: 1fr 1fr; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: 8px; }
  .matrix td:first-child { max-width: 132px; }
}
@media print { .scroll { overflow: visible; } }
"""


def page(found: Facts) -> str:
    """The page's HTML; ``found`` is what certificate.json holds."""
    body = [
        "<main>",
        f"<h1>{escape(found['certificate'])}</h1>",
        f'<p class="quiet">{_made(found)}</p>',
        _verdict(found),
        _tiles(found),
        "<h2>What was laid side by side</h2>",
        f'<div class="ways">{"".join(_way(name, told) for name, told in found["ways"].items())}</div>',
        f"<ul>{''.join(f'<li>{escape(rule)}</li>' for rule in found['rules'])}</ul>",
        *_points(found["tables"]),
        *(_differences(found["listed"], found["differences"]) if found["listed"] else []),
        *(line for table in found["tables"] for line in _table(table)),
        "<h2>To repeat it</h2>",
        _origin(found),
        "</main>",
    ]
    return "\n".join(
        (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Churnstream: {escape(found['certificate'])}</title>\n<style>{STYLE}{OWN_STYLE}</style>\n</head>\n<body>",
            *body,
            "</body>\n</html>\n",
        )
    )


def _made(found: Facts) -> str:
    made = found["made"]
    at = escape(made["at"].replace("T", " at ").replace("Z", " UTC"))
    return (
        f"A certificate of Churnstream {escape(made['versions']['churnstream'])}, made on {at} in {made['seconds']:,.0f} seconds."
    )


def _verdict(found: Facts) -> str:
    points, differences, lost = found["compared"]["points"], found["differences"], found["unaccounted"]
    headline = f"{differences:,} difference{'s' * (differences != 1)} at {points:,} points"
    restored = any(table["engine"]["restarts"] for table in found["tables"])
    told = (
        "A point is one customer at one instant. At each, every feature was computed three ways, while events came twice, late"
        f" and out of order{', and the engine was dropped and restored' if restored else ''}."
    )
    told += " Every event is accounted for." if not lost else f" {lost:,} events are unaccounted for."
    return f'<div class="verdict{"" if found["holds"] else " broken"}"><div><b>{headline}</b>{told}</div></div>'


def _tiles(found: Facts) -> str:
    compared, tables = found["compared"], found["tables"]
    share = compared["equal"] / compared["numbers"] if compared["numbers"] else 1.0
    account = [each for table in tables for each in table["account"]]
    tiles = {
        "numbers compared": f"{compared['numbers']:,}",
        "equal to the last bit": f"{int(share * 10_000) / 100:.2f} %",
        "worst relative error": _error(compared["worst"]["error"]),
        "events": f"{sum(table['sent']['events'] for table in tables):,}",
        "sent or delivered twice": f"{_twice(tables):,}",
        "held up": f"{sum(table['sent']['held_up'] for table in tables):,}",
        "refused as late": f"{sum(each['late'] for each in account):,}",
        "restarts of the engine": f"{sum(table['engine']['restarts'] for table in tables):,}",
    }
    cells = "".join(f'<div class="count"><b>{value}</b><span>{name}</span></div>' for name, value in tiles.items())
    return f'<div class="counts">{cells}</div>'


def _twice(tables: Sequence[Facts]) -> int:
    """Events that clients sent again, and rows that any stage was given again."""
    return sum(table["sent"]["sent_twice"] + sum(each["again"] for each in table["account"]) for table in tables)


def _way(name: str, told: str) -> str:
    return f'<div class="way"><b>{escape(name)}</b><span>{escape(told)}</span></div>'


def _points(tables: Sequence[Facts]) -> list[str]:
    compared = [table["compared"] for table in tables]
    rows = [[moment, *(f"{each['moments'][moment]:,}" for each in compared)] for moment in compared[0]["moments"]]
    rows.append(["all", *(f"{each['points']:,}" for each in compared)])
    rows.append(["of them, before there is a vector", *(f"{each['without_a_vector']:,}" for each in compared)])
    return ["<h2>At which instants</h2>", _grid(("points", *(table["title"] for table in tables)), rows)]


def _table(table: Facts) -> list[str]:
    names = ("in", *OUTCOMES, "unaccounted", "again")
    account = [[each["function"], *(f"{each[name]:,}" for name in names)] for each in table["account"]]
    return [
        f"<h2>{escape(table['title'])}: {table['features']} features</h2>",
        f"<p>{_story(table)}</p>",
        "<h3>Worst error of each op in each window</h3>",
        '<p class="quiet">= every number is the same to the last bit; else the largest error beside the number’s size.</p>',
        _matrix(table["kinds"]),
        "<h3>What became of every row</h3>",
        '<p class="quiet">again: rows that were delivered once more, and recognised by their place in the stream.</p>',
        _grid(("function", *names), account),
    ]


def _story(table: Facts) -> str:
    sent, engine = table["sent"], table["engine"]
    held_up, overtaken = (_share(sent[name], sent["events"]) for name in ("held_up", "overtaken"))
    again = min((each["again"] / each["in"] for each in table["account"] if each["in"]), default=0.0)
    return (
        f"{sent['customers']:,} customers made {sent['events']:,} events."
        f" {held_up} were held up for long; {overtaken} arrived after a younger one of the same customer, and the one that was"
        f" moved the furthest came {sent['furthest_places']:,} places from its own. {_sent_twice(sent)}"
        f" The streams delivered {again:.1%} or more of what each function had read once again."
        f" In {engine['units']:,} units of work, the engine was dropped and restored from what was stored"
        f" {engine['restarts']:,}×; {engine['before_durable']:,}× before its work was durable, so that it was done again."
    )


def _sent_twice(sent: Facts) -> str:
    if not sent["sent_twice"]:
        return "Nothing in an event of this case tells it from another, so clients sent each once."
    return f"Clients sent {_share(sent['sent_twice'], sent['events'])} of them twice."


def _share(part: int, whole: int) -> str:
    return f"{part:,} ({part / whole:.1%})" if whole else "0"


def _matrix(kinds: Sequence[Facts]) -> str:
    windows, ops = (list(dict.fromkeys(each[name] for each in kinds)) for name in ("window", "op"))
    cells = {(each["window"], each["op"]): each for each in kinds}
    wanted = [op for op in ops if len(ops) <= MOST_COLUMNS or sum((window, op) in cells for window in windows) > 1]
    single = [op for op in ops if op not in wanted]
    head = "".join(f"<th>{escape(op)}</th>" for op in [*wanted, *(["other"] if single else []), "numbers"])
    rows = []
    for window in windows:
        row = [_cell(cells.get((window, op))) for op in wanted]
        if single:
            others = [f"{escape(op)} {_mark(cells[window, op])}" for op in single if (window, op) in cells]
            row.append(f"<td>{',<br>'.join(others)}</td>" if others else _cell(None))
        row.append(f'<td class="near">{sum(each["numbers"] for each in kinds if each["window"] == window):,}</td>')
        rows.append(f"<tr><td>{escape(window)}</td>{''.join(row)}</tr>")
    return f'<div class="scroll"><table class="matrix"><tr><th>window</th>{head}</tr>{"".join(rows)}</table></div>'


def _cell(kind: Facts | None) -> str:
    if kind is None:
        return '<td class="none">·</td>'
    worst = kind["worst"]
    where = f"{kind['numbers']:,} numbers"
    if "customer" in worst:
        where += f"; worst: {worst['feature']} of {worst['customer']} at {worst['at']}"
    return f'<td title="{escape(where)}">{_mark(kind)}</td>'


def _mark(kind: Facts) -> str:
    error = kind["worst"]["error"]
    if error == 0.0:
        return '<span class="same">=</span>'
    return f'<span class="{"off" if error is None or error > 1e-9 else "near"}">{_error(error)}</span>'


def _error(error: float | None) -> str:
    if error is None:
        return "no number"
    return f"{error:.0e}".replace("e-0", "e-").replace("-", "−") if error else "0"


def _differences(listed: Sequence[Facts], differences: int) -> list[str]:
    names = ("case", "customer", "at", "feature", "batch", "stream", "serving")
    rows = [[str(each[name]) for name in names] for each in listed]
    told = f"The first {len(listed):,} of {differences:,}." if differences > len(listed) else "All of them."
    return ["<h2>Differences</h2>", f"<p>{told}</p>", _grid(names, rows, right_from=len(names))]


def _origin(found: Facts) -> str:
    made = found["made"]
    versions = ", ".join(f"{name} {number}" for name, number in made["versions"].items())
    told = {
        "command": f"<code>{escape(found['command'])}</code>",
        "seed": f"{found['seed']}",
        "digest of what was sent": _mono(found["digests"]["input"]),
        "digest of the definitions": _mono(found["digests"]["definitions"]),
    }
    told |= {f"features of {table['case']}": _mono(table["fingerprint"]) for table in found["tables"]}
    told |= {"versions": escape(versions), "machine": f"{escape(made['machine'])}, {made['processes']} processes"}
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{value}</dd>' for name, value in told.items())}</dl>"


def _mono(text: str) -> str:
    return f'<span class="mono">{escape(text)}</span>'


def _grid(names: Sequence[str], rows: Iterable[Sequence[str]], right_from: int = 1) -> str:
    def side(place: int) -> str:
        return ' class="right"' if place >= right_from else ""

    head = "".join(f"<th{side(place)}>{escape(name)}</th>" for place, name in enumerate(names))
    body = ["".join(f"<td{side(place)}>{escape(value)}</td>" for place, value in enumerate(row)) for row in rows]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(f"<tr>{row}</tr>" for row in body)}</table></div>'

"""The pipeline: functions, streams and tables as the topology has them, one function lit if asked for.

What is joined comes from the topology; ``PLACES`` only says where each function stands.
"""

from xml.sax.saxutils import escape

from churnstream import topology
from churnstream.pictures.shapes import (
    BOX,
    BOX_EDGE,
    FONT,
    GREY,
    INK,
    LINE,
    PANEL,
    REFUSED,
    REFUSED_FILL,
    RIVER,
    TABLE,
    TABLE_FILL,
    Box,
    arrow,
    arrowhead,
    balanced,
    drum,
    group,
    pipe,
    rounded,
    text,
)
from churnstream.topology import DEAD_LETTERS, FUNCTIONS, Function

PLACES = {  # function -> (column, row); a row is one step down the river
    "event-generator": (1, 0),
    "incoming-event-handler": (1, 1),
    "stream-to-parquet": (0, 2),
    "enrich-stream": (1, 2),
    "enrichment-table": (3, 2),
    "stream-to-features": (1, 3),
    "training": (0, 4),
    "serving": (1, 4),
}
# What people exchange over HTTP: function -> (column, its words); what stands left of the function comes in.
HTTP = {"incoming-event-handler": (0, "your events"), "serving": (3, "who is about to leave?")}

# Left edge and width of each column: what leaves the river, the river itself, tables, what comes to it.
COLUMNS = ((26, 206), (272, 256), (574, 116), (730, 206))
RAIL_X, RAIL_WIDTH = 962, 30
ROW, PIPE, GAP, TOP = 60, 26, 19, 22
STEP = ROW + PIPE + 2 * GAP
ROWS = 1 + max(row for _, row in PLACES.values())
WIDTH, HEIGHT = 1018, TOP + ROWS * STEP + 2


def pictures() -> dict[str, str]:
    """File name -> SVG: ``pipeline.svg`` with nothing lit, and one picture for each function."""
    return {"pipeline.svg": draw()} | {f"pipeline-{each.name}.svg": draw(each.name) for each in FUNCTIONS}


def draw(lit: str | None = None) -> str:
    """The picture with the function ``lit`` shown bright and what it has nothing to do with faded; raises UnknownFunction."""
    chosen = None if lit is None else topology.function(lit)
    title = "The Churnstream pipeline" + (f", at {chosen.name}" if chosen else "")
    told = "; ".join(f"{each.name} {each.does}" for each in FUNCTIONS)
    panel = rounded(Box(0.5, 0.5, WIDTH - 1, HEIGHT - 1), 14, PANEL, "#d5dbe1")
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<desc>{escape(told)}.</desc>",
        f"<defs>{''.join(arrowhead(colour) for colour in (RIVER, TABLE, LINE, REFUSED))}</defs>",
        f'<g font-family="{FONT}">',
        panel,
        *_legend(),
        *_dead_letters(chosen),
        *(line for stream in topology.streams() if stream != DEAD_LETTERS for line in _stream(stream, chosen)),
        *(line for each in FUNCTIONS for table in each.keeps for line in _table(table, each, chosen)),
        *_model(chosen),
        *(line for each in FUNCTIONS if each.name in HTTP for line in _http(each, chosen)),
        *(line for each in FUNCTIONS for line in _function(each, chosen)),
        "</g>",
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


# -- where things are -----------------------------------------------------------------------------------------------------------


def _place(function: Function) -> Box:
    column, row = PLACES[function.name]
    x, width = COLUMNS[column]
    return Box(x, TOP + row * STEP, width, ROW)


def _pipe(stream: str) -> Box:
    writer = _place(topology.function(topology.writers(stream)[0]))
    ends = [writer, *(_place(each) for each in _readers(stream))]
    left, right = min(each.x for each in ends), max(each.right for each in ends)
    return Box(left, writer.bottom + GAP, right - left, PIPE)


def _readers(stream: str) -> list[Function]:
    return [each for each in FUNCTIONS if stream in each.reads]


def _lookers(table: str) -> list[Function]:
    """Who looks the table up while events flow; a job's look-up would cross the whole river and says little."""
    return [each for each in FUNCTIONS if table in each.looks_up and each.kind != "job"]


# -- what is drawn --------------------------------------------------------------------------------------------------------------


def _function(each: Function, lit: Function | None) -> list[str]:
    box, shines = _place(each), each is lit
    fill, edge, ink, quiet = (RIVER, RIVER, PANEL, "#e3f4f9") if shines else (BOX, BOX_EDGE, INK, GREY)
    badge, number = (PANEL, RIVER) if shines else (RIVER, PANEL)
    does = balanced(each.does, 26 if box.width < 240 else 32)
    top = box.middle + 4.5 - 7.5 * len(does)
    words = [text(box.x + 48, top + 1.5 + 14 * place, line, quiet, 11.5, anchor="start") for place, line in enumerate(does, 1)]
    drawn = [
        rounded(box, 10, fill, edge),
        f'<circle cx="{box.x + 24:g}" cy="{box.middle:g}" r="15" fill="{badge}"/>',
        text(box.x + 24, box.middle + 4.5, each.notebook.split("-", 1)[0], number, 13, bold=True),
        text(box.x + 48, top, each.name, ink, 13.5, bold=True, anchor="start"),
        *words,
    ]
    return group(drawn, lit is None or shines)


def _stream(stream: str, lit: Function | None) -> list[str]:
    box, writer, readers = _pipe(stream), topology.function(topology.writers(stream)[0]), _readers(stream)
    source = _place(writer)
    drawn = [*pipe(box), text(source.centre, box.middle + 4.5, stream, RIVER, 12.5, bold=True)]
    if not readers:
        drawn.append(text(box.right + 14, box.middle + 4.5, "predictions, while events still arrive", GREY, 11.5, anchor="start"))
    lines = group([arrow([(source.centre, source.bottom), (source.centre, box.y - 1)], RIVER)], lit in (None, writer))
    lines += group(drawn, lit is None or lit is writer or lit in readers)
    for each in readers:
        centre, top = _place(each).centre, _place(each).y
        lines += group([arrow([(centre, box.bottom), (centre, top - 1)], RIVER)], lit in (None, each))
    return lines


def _table(table: str, keeper: Function, lit: Function | None) -> list[str]:
    """A drum between its keeper and whoever looks it up: left of a keeper that stands right of the river, else right of it."""
    box, lookers = _place(keeper), _lookers(table)
    x, width = COLUMNS[2]
    here = Box(x, box.y + 4, width, ROW - 8)
    written = [(box.right, here.middle), (here.x - 1, here.middle)]
    if box.x > here.x:
        written = [(box.x, here.middle), (here.right + 1, here.middle)]
    lines = group(_drum(here, table, "looked up"), lit is None or lit is keeper or lit in lookers)
    lines += group([arrow(written, TABLE)], lit in (None, keeper))
    for each in lookers:
        there = _place(each)
        read = [(here.x, here.middle), (there.right + 1, here.middle)]
        if there.y != box.y:
            read = [(here.centre, here.bottom), (here.centre, there.y + 16), (there.right + 1, there.y + 16)]
        lines += group([arrow(read, TABLE)], lit in (None, each))
    return lines


def _model(lit: Function | None) -> list[str]:
    """What the topology leaves out, since no stream carries it: files of events, and the model trained on them."""
    keeper, trainer, server = (topology.function(name) for name in ("stream-to-parquet", "training", "serving"))
    above, below, beside = _place(keeper), _place(trainer), _place(server)
    files = Box(above.centre - 58, (above.bottom + below.y) / 2 - 26, 116, 52)
    lines = group(_drum(files, "Parquet", "files by day"), lit in (None, keeper, trainer))
    lines += group([arrow([(above.centre, above.bottom), (above.centre, files.y - 1)], TABLE)], lit in (None, keeper))
    lines += group([arrow([(below.centre, files.bottom), (below.centre, below.y - 1)], TABLE)], lit in (None, trainer))
    model = [
        arrow([(below.right, below.middle), (beside.x - 1, below.middle)], TABLE),
        text((below.right + beside.x) / 2 - 1, below.middle - 7, "model", TABLE, 11),
    ]
    return lines + group(model, lit in (None, trainer, server))


def _http(each: Function, lit: Function | None) -> list[str]:
    column, words = HTTP[each.name]
    box, (x, width) = _place(each), COLUMNS[column]
    comes_in = x < box.x
    pill = Box(x, box.middle - (18 if comes_in else 12), width, 36)
    ends = [(pill.right, pill.middle), (box.x - 1, pill.middle)]
    if not comes_in:
        ends = [(pill.x - 1, pill.middle), (box.right + 1, pill.middle)]
    said = (
        f'<text x="{pill.centre:g}" y="{pill.middle + 4:g}" text-anchor="middle" font-size="12" fill="{INK}">'
        f'<tspan font-weight="700">HTTP</tspan> {escape(words)}</text>'
    )
    return group([rounded(pill, 18, PANEL, LINE, dotted=True), said, arrow(ends, LINE, both=not comes_in)], lit in (None, each))


def _dead_letters(lit: Function | None) -> list[str]:
    refusing = [each for each in FUNCTIONS if DEAD_LETTERS in each.writes]
    boxes = [_place(each) for each in refusing]
    top, bottom = min(each.y for each in boxes), max(each.bottom for each in boxes) + GAP
    rail = Box(RAIL_X, top, RAIL_WIDTH, bottom - top)
    lines: list[str] = []
    for each, box in sorted(zip(refusing, boxes, strict=True), key=lambda pair: pair[0] is lit):  # what is lit lies on top
        x, y = box.right - 18, box.bottom + 8
        lines += group([arrow([(x, box.bottom), (x, y), (rail.x - 1, y)], REFUSED, dashed=True)], lit in (None, each))
    said = (
        f'<text transform="translate({rail.centre + 4.5:g} {rail.middle:g}) rotate(-90)" text-anchor="middle" font-size="12.5"'
        f' fill="{REFUSED}"><tspan font-weight="700">{DEAD_LETTERS}</tspan>: what was refused, and why</text>'
    )
    return lines + group([*drum(rail, REFUSED, REFUSED_FILL), said], lit is None or lit in refusing)


def _legend() -> list[str]:
    said = (
        "Events come in at the top, predictions come out at the bottom.",
        "A numbered box is a function; the notebook of that number deploys it.",
        f"A pipe is a stream of {topology.SHARDS} shards; a customer keeps to one of them.",
    )
    return [text(COLUMNS[2][0], TOP + 22 + 19 * place, words, GREY, 11.5, anchor="start") for place, words in enumerate(said)]


def _drum(box: Box, name: str, words: str) -> list[str]:
    label = text(box.centre, box.middle + 6, name, TABLE, 12.5, bold=True)
    return [*drum(box, TABLE, TABLE_FILL), label, text(box.centre, box.middle + 20, words, TABLE, 10.5)]

"""The shapes that a picture is made of, as lines of SVG. Lengths are in SVG user units."""

from collections.abc import Sequence
from dataclasses import dataclass
from textwrap import wrap
from xml.sax.saxutils import escape

INK, GREY, LINE, PANEL = "#1d2733", "#5b6875", "#77838f", "#ffffff"
RIVER, RIVER_FILL = "#0b6e8f", "#dcf1f7"
TABLE, TABLE_FILL = "#8a5a00", "#fdf1d8"
REFUSED, REFUSED_FILL = "#b3261e", "#fdeae8"
BOX, BOX_EDGE = "#f4f6f8", "#aab4be"
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'DejaVu Sans', sans-serif"
FADED = 0.36
CAP = 7  # half the depth at which the end of a pipe is seen


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        return self.x + self.width

    @property
    def bottom(self) -> float:
        return self.y + self.height

    @property
    def centre(self) -> float:
        return self.x + self.width / 2

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def group(lines: Sequence[str], bright: bool) -> list[str]:
    """``lines``, faded unless they are ``bright``."""
    return [*lines] if bright else [f'<g opacity="{FADED}">', *lines, "</g>"]


def text(x: float, y: float, words: str, colour: str, size: float, bold: bool = False, anchor: str = "middle") -> str:
    """One line of words on the baseline ``y``."""
    weight = ' font-weight="700"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" font-size="{size:g}"{weight} fill="{colour}">{escape(words)}</text>'


def balanced(words: str, width: int) -> list[str]:
    """As few lines of at most ``width`` letters as do, about equally long.

    >>> balanced("parses and validates each event once", 32)
    ['parses and validates', 'each event once']
    """
    lines = len(wrap(words, width))
    return next(found for each in range(len(words) // lines, width + 1) if len(found := wrap(words, each)) == lines)


def rounded(box: Box, radius: float, fill: str, edge: str, dotted: bool = False) -> str:
    """A rectangle with round corners."""
    dots = ' stroke-dasharray="2 3"' if dotted else ""
    return f'<rect {_at(box)} rx="{radius:g}" fill="{fill}" stroke="{edge}"{dots}/>'


def arrow(points: Sequence[tuple[float, float]], colour: str, dashed: bool = False, both: bool = False) -> str:
    """A line through ``points`` with a head at its end; at both ends when ``both``. Its head comes from ``arrowhead``."""
    path = "L".join(f"{x:g} {y:g}" for x, y in points)
    head = f"url(#head-{colour[1:]})"
    dashes = ' stroke-dasharray="4 3"' if dashed else ""
    start = f' marker-start="{head}"' if both else ""
    return f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"{dashes}{start} marker-end="{head}"/>'


def arrowhead(colour: str) -> str:
    """The head of all arrows of one colour; stands among the picture's definitions."""
    return (
        f'<marker id="head-{colour[1:]}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8"'
        f' markerUnits="userSpaceOnUse" orient="auto-start-reverse"><path d="M0 0.6L8 4L0 7.4z" fill="{colour}"/></marker>'
    )


def pipe(box: Box) -> list[str]:
    """A pipe that lies, open at its right end."""
    left, right, rise = box.x + CAP, box.right - CAP, f"{CAP} {box.height / 2:g} 0 0 1 0"
    body = f"M{left:g} {box.y:g}H{right:g}a{rise} {box.height:g}H{left:g}a{rise} -{box.height:g}z"
    mouth = f'cx="{right:g}" cy="{box.middle:g}" rx="{CAP}" ry="{box.height / 2:g}"'
    return [f'<path d="{body}" fill="{RIVER_FILL}" stroke="{RIVER}"/>', f'<ellipse {mouth} fill="{PANEL}" stroke="{RIVER}"/>']


def drum(box: Box, colour: str, fill: str) -> list[str]:
    """A pipe that stands, open at its upper end."""
    top, bottom, run = box.y + CAP, box.bottom - CAP, f"{box.width / 2:g} {CAP} 0 0 0"
    body = f"M{box.x:g} {top:g}V{bottom:g}a{run} {box.width:g} 0V{top:g}a{run} -{box.width:g} 0z"
    mouth = f'cx="{box.centre:g}" cy="{top:g}" rx="{box.width / 2:g}" ry="{CAP}"'
    return [f'<path d="{body}" fill="{fill}" stroke="{colour}"/>', f'<ellipse {mouth} fill="{PANEL}" stroke="{colour}"/>']


def _at(box: Box) -> str:
    return f'x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}"'

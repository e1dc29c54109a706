"""What an event costs, against customers and against windows: `python -m tests.bench.features_cost`, `make bench-windows-cost`.

Every point is the median of fresh runs on one core, from Arrow batches to rows, with rows compared as always. The points go to
build/bench/windows-cost.json, the picture to assets/images/windows-cost.svg; `--draw` draws the points that are there.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullLocator

from churnstream.pictures.shapes import BOX_EDGE, GREY, INK, LINE, PANEL, RIVER
from tests.bench.common import FOLDER, ROOT, Figures, fresh, machine, median, say, tell
from tests.bench.features_data import sliding_files

CUSTOMERS = (100, 1_000, 10_000, 100_000, 1_000_000)
WINDOWS = (1, 2, 4, 8, 16)
USUAL_CUSTOMERS, USUAL_WINDOWS = 2_000, 2
POINTS = FOLDER / "windows-cost.json"
PICTURE = ROOT / "assets" / "images" / "windows-cost.svg"
FEATURES_A_WINDOW = 12  # three amounts, four numbers each


def measure(events: int, runs: int) -> Figures:
    """Both sweeps: nanoseconds an event, events a second and peak memory of each point."""
    sizes = sorted({*CUSTOMERS, USUAL_CUSTOMERS})
    for customers in sizes:
        tell(f"the file of {customers:,} customers, unless it is there")
        sliding_files(events, customers, ndjson=False)
    across = [("arrow", customers, USUAL_WINDOWS) for customers in CUSTOMERS]
    across += [("windows", USUAL_CUSTOMERS, windows) for windows in WINDOWS]
    results: dict[tuple[str, int, int], list[Figures]] = {point: [] for point in across}
    for _ in range(runs):
        for what, customers, windows in across:
            tell(f"{customers:,} customers, {windows} windows")
            words = (what, events, customers, "--windows", windows)
            results[what, customers, windows].append(fresh("tests.bench.features_churnstream", *words))
    points = [_point(customers, windows, median(found)) for (_, customers, windows), found in results.items()]
    return {
        "machine": machine(),
        "customers": points[: len(CUSTOMERS)],
        "windows": points[len(CUSTOMERS) :],
    }


def _point(customers: int, windows: int, result: Figures) -> Figures:
    return {"customers": customers, "windows": windows, "ns_an_event": round(1e9 / result["events_per_s"], 1), **result}


def draw(points: Figures) -> Figure:
    """Two panels: nanoseconds an event against customers, with the memory of the process, and against windows."""
    figure = Figure(figsize=(9.4, 3.7), layout="constrained", facecolor=PANEL)
    left, right = figure.subplots(1, 2)
    _panel(left, points["customers"], "customers", lambda each: f"{each['peak_rss_mb']:,} MB")
    left.set_xlabel(f"customers, {USUAL_WINDOWS} windows an amount; the most memory of the process", color=GREY)
    left.set_ylabel("nanoseconds an event", color=INK)
    _panel(right, points["windows"], "windows", lambda each: f"{each['windows'] * FEATURES_A_WINDOW}")
    right.set_xlabel(f"windows an amount, {USUAL_CUSTOMERS:,} customers; features in a row", color=GREY)
    figure.suptitle("What an event costs on one core, from Arrow batches to feature rows", color=INK, fontsize=12, weight="bold")
    return figure


def _panel(axes: Axes, points: Sequence[Figures], across: str, beneath: Callable[[Figures], str]) -> None:
    """One line, a number at every point, and ``beneath`` under its tick."""
    x, y = [each[across] for each in points], [each["ns_an_event"] for each in points]
    axes.set_facecolor(PANEL)
    axes.set_xscale("log")
    axes.plot(x, y, color=RIVER, marker="o", linewidth=2)
    for place, value in zip(x, y, strict=True):
        axes.annotate(
            f"{value:,.0f}",
            (place, value),
            (0, 8),
            textcoords="offset points",
            ha="center",
            color=RIVER,
            fontsize=9,
            bbox={"facecolor": PANEL, "edgecolor": "none", "pad": 0.5},
        )
    axes.set_xticks(x, [f"{each[across]:,}\n{beneath(each)}" for each in points])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.set_ylim(0, 1.18 * max(y))
    axes.margins(x=0.08)
    axes.grid(axis="y", color=BOX_EDGE, alpha=0.35)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(LINE)
    axes.tick_params(colors=GREY, labelsize=9)


def save(figure: Figure, path: Path) -> None:
    """Write the picture: SVG that is the same for the same points, or any other format by the name's ending."""
    settings: dict[str, Any] = {"svg.hashsalt": "churnstream", "svg.fonttype": "none", "font.family": "sans-serif"}
    with matplotlib.rc_context(settings):
        figure.savefig(path, dpi=150, facecolor=PANEL, metadata={"Date": None} if path.suffix == ".svg" else None)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(description="Measure and draw what an event costs.")
    parser.add_argument("--events", type=int, default=2_000_000)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--points", type=Path, default=POINTS)
    parser.add_argument("--picture", type=Path, default=PICTURE)
    parser.add_argument("--draw", action="store_true", help="measure nothing; draw the points again")
    given = parser.parse_args(arguments)
    if not given.draw:
        given.points.parent.mkdir(parents=True, exist_ok=True)
        given.points.write_text(json.dumps(measure(given.events, given.runs), indent=1) + "\n")
    points = json.loads(given.points.read_text())
    for sweep in ("customers", "windows"):
        for each in points[sweep]:
            say(bench="windows-cost", against=sweep, **each)
    given.picture.parent.mkdir(parents=True, exist_ok=True)
    save(draw(points), given.picture)
    tell(f"drawn: {given.picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

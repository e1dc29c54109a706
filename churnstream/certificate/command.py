"""The command: `churnstream certificate`, and `python -m churnstream.certificate`."""

import os
import time
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from tqdm import tqdm

from churnstream.errors import ChurnstreamError


def certificate(
    points: Annotated[int, typer.Option(min=1, help="at how many (customer, instant) points to compare")] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="which replay; the same seed and points give the same one")] = 1,
    output: Annotated[Path, typer.Option(help="the folder that gets certificate.json and certificate.html")] = Path(
        "build/certificate"
    ),
    processes: Annotated[int | None, typer.Option(min=1, help="how many work at once; by default one a core")] = None,
) -> None:
    """Prove that features are the same in batch, in the stream and at serving. Exits with 1 when anything differs."""
    from churnstream.certificate.facts import sentences  # what follows takes a second to import, which --help should not
    from churnstream.certificate.issue import certify, write
    from churnstream.wiring import now

    console = Console(highlight=False, soft_wrap=True)
    hands = processes or os.cpu_count() or 1
    console.print(f"Comparing at {points:,} points with {hands} processes (seed {seed}).")
    began = time.perf_counter()
    try:
        with tqdm(total=points, unit=" points", unit_scale=True, disable=None) as bar:
            found = certify(points, seed, hands, bar.update)
        took = timedelta(seconds=time.perf_counter() - began)
        written = write(output, found, now(), took, hands)
    except ChurnstreamError as cause:
        Console(stderr=True, soft_wrap=True).print(str(cause), style="red", markup=False, highlight=False)
        raise typer.Exit(1) from cause
    for line in sentences(found):
        console.print(line, style="" if found["holds"] else "red", markup=False)
    console.print(f"It took {took.total_seconds():.0f} s; see {' and '.join(map(str, written))}.")
    if not found["holds"]:
        raise typer.Exit(1)

"""Commands that show the product: the demo, and the pictures of the pipeline."""

from pathlib import Path
from typing import Annotated

import typer

from churnstream.cli.common import console, sentences
from churnstream.local import Home
from churnstream.settings import DEFAULT_CASE


def demo(
    case: Annotated[str, typer.Option(help="the use case")] = DEFAULT_CASE,
    data: Annotated[Path | None, typer.Option(help="a file of recorded events; simulated ones without it")] = None,
    users: Annotated[int | None, typer.Option(min=1, help="how many customers to simulate")] = None,
    events: Annotated[int | None, typer.Option(min=1, help="how many events in all")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="go on with the functions and data that are there")] = False,
    notebooks: Annotated[Path | None, typer.Option(hidden=True)] = None,
    output: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the numbered notebooks in order, and show what came of it."""
    with sentences():
        from churnstream.demo.show import plan, show

        if not show(plan(case, data, users, events, keep, notebooks, output), Home.find(), console):
            raise typer.Exit(1)


def pictures(folder: Annotated[Path, typer.Argument(help="where they go")] = Path("assets/images")) -> None:
    """Draw the pictures of the pipeline anew, after the topology has changed."""
    from churnstream.pictures.pipeline import pictures as drawn

    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn().items():
        (folder / name).write_text(svg)
        console.print(str(folder / name), soft_wrap=True)

"""`churnstream deadletters`: what was refused, and why."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from churnstream.cli.common import Case, Json, case_settings, console, sentences, wide
from churnstream.local import Home

Refuser = Annotated[str | None, typer.Option("--stream-function", help="only what this function refused")]
Limit = Annotated[int, typer.Option(min=1, help="how many, the newest first")]

letters = typer.Typer(help="Look at what was refused, and why.", no_args_is_help=True)


@letters.command("list")
def list_letters(function: Refuser = None, case: Case = None, limit: Limit = 20, as_json: Json = False) -> None:
    """List the newest dead letters: when, why, and where the event stood."""
    with sentences():
        from churnstream.reading import dead_letters

        found = dead_letters(function, limit, case_settings(Home.find(), case))
        if as_json:
            typer.echo(json.dumps([asdict(each) for each in found], indent=2, default=str))
            return
        if not found:
            console.print("There are no dead letters.")
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("letter", "when", "source", "shard", "offset", "row"):
            table.add_column(name, no_wrap=True, justify="right" if name in ("shard", "offset", "row") else "left")
        table.add_column("why", overflow="fold")
        for each in found:
            place = ("" if value is None else str(value) for value in (each.shard, each.offset, each.row))
            table.add_row(each.name, f"{each.refused_at:%Y-%m-%d %H:%M:%S}", each.source, *place, Text(each.reason))
        wide.print(table)


@letters.command("show")
def show_letter(
    letter: Annotated[str, typer.Argument(help="its name, as `churnstream deadletters list` shows it")],
    case: Case = None,
    as_json: Json = False,
) -> None:
    """Print one dead letter with what was sent."""
    with sentences():
        from churnstream.reading import dead_letter

        found = dead_letter(letter, case_settings(Home.find(), case))
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=2, default=str))
            return
        typer.echo(found.sentence())
        typer.echo(found.payload)

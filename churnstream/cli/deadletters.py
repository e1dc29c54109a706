"""`churnstream deadletters`: what was refused, and why; and handing it back."""

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from churnstream.cli.common import Case, Json, case_settings, console, sentences, wide
from churnstream.errors import BadRequest
from churnstream.local import Home

Refuser = Annotated[str | None, typer.Option("--stream-function", help="only what this function refused")]
EVERY = 10**9
Limit = Annotated[int, typer.Option(min=1, help="how many, the newest first")]

letters = typer.Typer(help="Look at what was refused, and why, and hand it back.", no_args_is_help=True)


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
            why = f"{each.reason} (handed back)" if each.redriven_at else each.reason
            table.add_row(each.name, f"{each.refused_at:%Y-%m-%d %H:%M:%S}", each.source, *place, Text(why))
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


@letters.command("redrive")
def redrive_letters(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[LETTER]...", help="as `churnstream deadletters list` shows")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="every letter that was not handed back yet")] = False,
    function: Refuser = None,
    reason: Annotated[str | None, typer.Option(help="only those whose reason holds this text")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be handed back, and hand nothing back")] = False,
    case: Case = None,
) -> None:
    """Hand what was refused back to the function that refused it, as it was sent, each letter once.

    What is refused again gets a letter of its own, which names the old one. Exits with 1 when one could not be handed back.
    """
    with sentences():
        from churnstream.reading import dead_letter, dead_letters
        from churnstream.redriving import redrive, to_record

        if bool(names) == (everything or function is not None or reason is not None):
            raise BadRequest("name the letters to hand back, or choose them by --all, --stream-function or --reason")
        settings = case_settings(Home.find(), case)
        if names:
            chosen = [dead_letter(name, settings) for name in dict.fromkeys(names)]
        else:
            every = reversed(dead_letters(function, EVERY, settings))
            chosen = [each for each in every if each.redriven_at is None and (reason or "") in each.reason]
        handed: dict[str, int] = {}
        failed = False
        for each in chosen:
            try:
                to_record(each, settings) if dry_run else redrive(each, settings)
                handed[each.function] = handed.get(each.function, 0) + 1
            except BadRequest as cause:
                failed = True
                console.print(str(cause), style="yellow", markup=False, soft_wrap=True)
        for name, count in handed.items():
            what = "1 letter" if count == 1 else f"{count:,} letters"
            console.print(f"{what} would be handed back to {name}." if dry_run else f"{what} handed back to {name}.")
        if not handed and not failed:
            console.print("There are no dead letters to hand back.")
        if failed:
            raise typer.Exit(1)

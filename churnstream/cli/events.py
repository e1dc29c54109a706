"""Commands about a case's events: what became of them, and removing them."""

import json
from typing import Annotated

import typer
from rich.table import Table

from churnstream.cli.common import Case, Json, case_settings, console, sentences, wide
from churnstream.local import Home


def account(
    case: Case = None,
    shards: Annotated[bool, typer.Option("--shards", help="a line for each shard")] = False,
    as_json: Json = False,
) -> None:
    """Show what became of every event: in = applied + duplicate + late + invalid + erased. Exits with 1 when one is missing."""
    with sentences():
        from churnstream.operations.ledger import OUTCOMES
        from churnstream.reading import ledger, totals

        settings = case_settings(Home.find(), case)
        lines = ledger(settings) if shards else totals(settings)
        names = ("given", *OUTCOMES, "unaccounted", "waiting")
        rows = [
            {"function": each.function, "source": each.source, **({"shard": each.shard} if shards else {})}
            | {name: getattr(each, name) for name in names}
            for each in lines
        ]
        if as_json:
            typer.echo(json.dumps(rows, indent=2))
        else:
            table = Table(box=None, header_style="bold", pad_edge=False)
            for name in rows[0]:
                table.add_column("in" if name == "given" else name, justify="left" if name in ("function", "source") else "right")
            for row in rows:
                cells = (f"{value:,}" if isinstance(value, int) else value for value in row.values())
                table.add_row(*cells, style="red" if row["unaccounted"] else None)
            wide.print(table)
        if any(row["unaccounted"] for row in rows):
            raise typer.Exit(1)


def check(case: Case = None, as_json: Json = False) -> None:
    """Read every journal of a case, and name each place where it is not as it was written. Exits with 1 when there is one.

    Functions may go on meanwhile.
    """
    with sentences():
        from churnstream.wiring import check_journals

        files, found = 0, []
        for _, damages in check_journals(case_settings(Home.find(), case)):
            files += 1
            found += damages
            if not as_json:
                for sentence in damages:
                    console.print(sentence, style="red", markup=False, highlight=False, soft_wrap=True)
        if as_json:
            typer.echo(json.dumps({"journals": files, "damages": found}, indent=2))
        else:
            journals = "1 journal" if files == 1 else f"{files} journals"
            console.print(f"{journals} read; {len(found)} damaged places." if found else f"{journals} read; nothing is damaged.")
        if found:
            raise typer.Exit(1)


def reset(case: Case = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False) -> None:
    """Remove the deployed functions and a case's streams, tables and archive.

    Models stay, and what MLRun keeps of their training: neither names a customer.
    """
    with sentences():
        from churnstream.local.reset import look
        from churnstream.local.reset import reset as remove

        home = Home.find()
        settings = case_settings(home, case)
        found = look(home, settings)
        if not found.functions and found.folder is None:
            console.print(f"There is nothing to remove: {found.sentence()}.")
        elif yes or typer.confirm(f"Remove {found.sentence()}?"):
            console.print(f"Removed {remove(home, settings).sentence()}.", soft_wrap=True)
        else:
            raise typer.Exit(1)

"""The command line: the local platform of the project around the working directory, and what flows on it."""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from churnstream.certificate.command import certificate
from churnstream.errors import ChurnstreamError, UnknownFunction
from churnstream.local import Home, SupervisorClient
from churnstream.settings import DEFAULT_CASE, DEFAULT_PROJECT, Settings

FOLLOW_S = 0.2
STYLES = {"ready": "green", "error": "red", "building": "yellow"}

app = typer.Typer(help="Scores every customer's risk of leaving while their events still arrive.", no_args_is_help=True)
letters = typer.Typer(help="Look at what was refused, and why.", no_args_is_help=True)
app.add_typer(letters, name="deadletters")
console = Console()
wide = Console(width=max(console.width, 140))  # a table that wraps can be read, one that is cut cannot

Name = Annotated[str, typer.Argument(help="the function's name, as `churnstream status` shows it")]
Project = Annotated[str | None, typer.Option(help="the function's project, where several have one of this name")]
Case = Annotated[str | None, typer.Option(help="the use case; by default the one that is deployed")]
Json = Annotated[bool, typer.Option("--json", help="for programs")]
Refuser = Annotated[str | None, typer.Option("--stream-function", help="only what this function refused")]
Limit = Annotated[int, typer.Option(min=1, help="how many, the newest first")]


@app.command()
def up() -> None:
    """Start the local platform, and the functions that were deployed before."""
    with sentences():
        home = Home.find()
        started = SupervisorClient(home).up()
        console.print(f"{'Started' if started else 'Running already'}: {home.root}", soft_wrap=True)


@app.command()
def down(
    deadline: Annotated[float, typer.Option(help="seconds that functions have to read what is there")] = 10.0,
) -> None:
    """Stop the local platform; what functions have not read stays in the streams."""
    with sentences():
        unfinished = SupervisorClient(Home.find()).down(timedelta(seconds=deadline))
        if unfinished is None:
            console.print("Nothing runs here.")
            return
        for sentence in unfinished:
            console.print(sentence, style="yellow")
        console.print("Stopped.")


@app.command()
def status(as_json: Json = False) -> None:
    """Show the deployed functions, and how far each has read its streams."""
    with sentences():
        found = SupervisorClient(Home.find()).status()
        if as_json:
            typer.echo(json.dumps(found, indent=2))
            return
        wide.print(_table(found["functions"]) if found["functions"] else "No function is deployed.")
        for each in found["functions"]:
            if each.get("message"):
                console.print(each["message"].splitlines()[0], style="yellow", markup=False)
        if not found["running"]:
            console.print("Nothing runs here; `churnstream up` starts it.")


@app.command()
def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on until interrupted")] = False,
    project: Project = None,
) -> None:
    """Print a function's log."""
    with sentences():
        client = SupervisorClient(Home.find())
        project = client.find(name, project)["project"]
        text, offset = client.logs(project, name)
        _write(text)
        while follow:
            time.sleep(FOLLOW_S)
            text, offset = client.logs(project, name, offset)
            _write(text)


@app.command()
def drain(
    name: Name,
    deadline: Annotated[float, typer.Option(help="seconds to wait at most")] = 60.0,
    project: Project = None,
) -> None:
    """Wait until a function has read all that is there, and has written what it held back."""
    with sentences():
        SupervisorClient(Home.find()).drain(name, timedelta(seconds=deadline), project)
        console.print(f"{name} has read everything.")


@app.command()
def scale(
    name: Name,
    workers: Annotated[int, typer.Argument(min=1, help="how many processes are to share its shards and requests")],
    project: Project = None,
) -> None:
    """Serve a function with more or fewer workers while it runs, until it is deployed again."""
    with sentences():
        state = SupervisorClient(Home.find()).scale(name, workers, project)
        for each in state["workers"]:
            console.print(f"worker {each['number']} is {each['state']} and holds {_shards(each['shards'])}.", soft_wrap=True)


@app.command()
def address(name: Name, project: Project = None) -> None:
    """Print where a deployed function answers over HTTP."""
    with sentences():
        found = SupervisorClient(Home.find()).find(name, project)
        if not found.get("address"):
            raise UnknownFunction(f"{name} is {found['state']} and answers nowhere; `churnstream up` starts what was deployed")
        typer.echo(f"http://{found['address']}")


@app.command()
def token() -> None:
    """Print the secret that every request to the platform carries."""
    with sentences():
        home = Home.find()
        home.ensure()
        typer.echo(home.token())


@app.command()
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


app.command()(certificate)


@app.command()
def reset(case: Case = None, yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False) -> None:
    """Remove the deployed functions and a case's streams, tables and archive."""
    with sentences():
        from churnstream.local.reset import look
        from churnstream.local.reset import reset as remove

        home = Home.find()
        settings = _settings(home, case)
        found = look(home, settings)
        if not found.functions and found.folder is None:
            console.print(f"There is nothing to remove: {found.sentence()}.")
        elif yes or typer.confirm(f"Remove {found.sentence()}?"):
            console.print(f"Removed {remove(home, settings).sentence()}.", soft_wrap=True)
        else:
            raise typer.Exit(1)


@app.command()
def account(
    case: Case = None,
    shards: Annotated[bool, typer.Option("--shards", help="a line for each shard")] = False,
    as_json: Json = False,
) -> None:
    """Show what became of every event: in = applied + duplicate + late + invalid. Exits with 1 when one is unaccounted for."""
    with sentences():
        from churnstream.reading import ledger, totals

        settings = _settings(Home.find(), case)
        lines = ledger(settings) if shards else totals(settings)
        names = ("given", "applied", "duplicate", "late", "invalid", "unaccounted", "waiting")
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


@letters.command("list")
def list_letters(function: Refuser = None, case: Case = None, limit: Limit = 20, as_json: Json = False) -> None:
    """List the newest dead letters: when, why, and where the event stood."""
    with sentences():
        from churnstream.reading import dead_letters

        found = dead_letters(function, limit, _settings(Home.find(), case))
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

        found = dead_letter(letter, _settings(Home.find(), case))
        if as_json:
            typer.echo(json.dumps(asdict(found), indent=2, default=str))
            return
        typer.echo(found.sentence())
        typer.echo(found.payload)


@app.command(hidden=True)
def pictures(folder: Annotated[Path, typer.Argument(help="where they go")] = Path("assets/images")) -> None:
    """Draw the pictures of the pipeline anew, after the topology has changed."""
    from churnstream.pictures.pipeline import pictures as drawn

    folder.mkdir(parents=True, exist_ok=True)
    for name, svg in drawn().items():
        (folder / name).write_text(svg)
        console.print(str(folder / name), soft_wrap=True)


@contextmanager
def sentences() -> Iterator[None]:
    """End the command with an error's sentence instead of its traceback."""
    try:
        yield
    except ChurnstreamError as cause:
        Console(stderr=True).print(str(cause), style="red", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(1) from cause
    except KeyboardInterrupt:
        raise typer.Exit(130) from None


def _settings(home: Home, case: str | None) -> Settings:
    from churnstream.local.reset import deployed_case
    from churnstream.usecases import load
    from churnstream.wiring import settings_from_env

    os.environ.setdefault("CHURNSTREAM_HOME", str(home.root))
    chosen = case or os.environ.get("CHURNSTREAM_CASE") or deployed_case(home, DEFAULT_PROJECT) or DEFAULT_CASE
    load(chosen)  # raises for a name that is none
    return settings_from_env(DEFAULT_PROJECT, chosen)


def _spans(held: list[int]) -> str:
    """
    >>> _spans([0, 1, 2, 5])
    '0-2 5'
    """
    spans: list[list[int]] = []
    for shard in held:
        if spans and spans[-1][-1] == shard - 1:
            spans[-1][1:] = [shard]
        else:
            spans.append([shard])
    return " ".join("-".join(map(str, span)) for span in spans)


def _shards(held: list[int]) -> str:
    return f"shards {', '.join(map(str, held))}" if held else "no shards"


def _table(functions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in (
        "function",
        "project",
        "state",
        "address",
        "pid",
        "shards",
        "restarts",
        "reads",
        "position",
        "end",
        "lag",
    ):
        number = title in {"pid", "restarts", "position", "end", "lag"}
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for each in functions:
        state = f"[{STYLES.get(each['state'], 'dim')}]{each['state']}[/]"
        known = [each["name"], each["project"], state, each.get("address", "")]
        workers = [(worker["pid"] or worker["state"], _spans(worker["shards"])) for worker in each.get("workers", ())]
        restarts = str(each.get("restarts", ""))
        streams = [[f[name] for name in ("stream", "position", "end", "lag")] for f in each["streams"]]
        for row in range(max(1, len(workers), len(streams))):
            pid, shards = workers[row] if row < len(workers) else ("", "")
            reads = streams[row] if row < len(streams) else [""] * 4
            told = [*(known if row == 0 else [""] * 4), pid, shards, restarts if row == 0 else "", *reads]
            table.add_row(*(str(value) for value in told))
    return table


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()

"""The command line: the local platform of the project around the working directory."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from churnstream.errors import ChurnstreamError
from churnstream.local import Home, SupervisorClient

FOLLOW_S = 0.2
STYLES = {"ready": "green", "error": "red", "building": "yellow"}

app = typer.Typer(help="Scores every customer's risk of leaving while their events still arrive.", no_args_is_help=True)
console = Console()
wide = Console(width=max(console.width, 140))  # a table that wraps can be read, one that is cut cannot

Name = Annotated[str, typer.Argument(help="the function's name, as `churnstream status` shows it")]
Project = Annotated[str | None, typer.Option(help="the function's project, where several have one of this name")]


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
def status(as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False) -> None:
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
def token() -> None:
    """Print the secret that every request to the platform carries."""
    with sentences():
        home = Home.find()
        home.ensure()
        typer.echo(home.token())


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


def _table(functions: list[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in (
        "function",
        "project",
        "state",
        "address",
        "pid",
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
        known += [str(each.get(name) if each.get(name) is not None else "") for name in ("pid", "restarts")]
        streams = [[f[name] for name in ("stream", "position", "end", "lag")] for f in each["streams"]]
        for row, reads in enumerate(streams or [[""] * 4]):
            table.add_row(*(known if row == 0 else [""] * 6), *(str(value) for value in reads))
    return table


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()

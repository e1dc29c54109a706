"""Commands about the local platform and the functions on it."""

import json
import sys
import time
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from churnstream.cli.common import Json, Name, Project, console, sentences, wide
from churnstream.errors import UnknownFunction
from churnstream.local import Home, SupervisorClient

FOLLOW_S = 0.2
STYLES = {"ready": "green", "error": "red", "building": "yellow"}


def up() -> None:
    """Start the local platform, and the functions that were deployed before."""
    with sentences():
        home = Home.find()
        started = SupervisorClient(home).up()
        console.print(f"{'Started' if started else 'Running already'}: {home.root}", soft_wrap=True)


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


def drain(
    name: Name,
    deadline: Annotated[float, typer.Option(help="seconds to wait at most")] = 60.0,
    project: Project = None,
) -> None:
    """Wait until a function has read all that is there, and has written what it held back."""
    with sentences():
        SupervisorClient(Home.find()).drain(name, timedelta(seconds=deadline), project)
        console.print(f"{name} has read everything.")


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


def address(name: Name, project: Project = None) -> None:
    """Print where a deployed function answers over HTTP."""
    with sentences():
        found = SupervisorClient(Home.find()).find(name, project)
        if not found.get("address"):
            raise UnknownFunction(f"{name} is {found['state']} and answers nowhere; `churnstream up` starts what was deployed")
        typer.echo(f"http://{found['address']}")


def token() -> None:
    """Print the secret that every request to the platform carries."""
    with sentences():
        home = Home.find()
        home.ensure()
        typer.echo(home.token())


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

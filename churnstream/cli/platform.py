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
from churnstream.local.logs import OnlyWorker
from churnstream.local.scopes import Scope

FOLLOW_S = 0.2
WATCH_S = 2.0
STYLES = {"ready": "green", "error": "red", "building": "yellow"}


def up() -> None:
    """Start the local platform, and the functions that were deployed before; CHURNSTREAM_PORT names its own port."""
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


def status(
    as_json: Json = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="show it anew every two seconds, until interrupted")] = False,
) -> None:
    """Show the deployed functions, how far each has read its streams, and what keeps it from going on.

    `lag` is in records, `waiting` in rows, `for` how long the oldest of them waits; `rows/s` were read since the last look.
    """
    with sentences():
        client = SupervisorClient(Home.find())
        _show(client.status(), as_json)
        while watch:
            time.sleep(WATCH_S)
            found = client.status()
            console.clear()
            _show(found, as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(found, indent=2))
    else:
        wide.print(_table(found["functions"]) if found["functions"] else "No function is deployed.")
        for each in found["functions"]:
            if each.get("message"):
                told = each["message"] if each["state"] == "error" else each["message"].splitlines()[0]
                console.print(told, style="yellow", markup=False, highlight=False, soft_wrap=True)
            for trouble in (sentence for stream in each["streams"] for sentence in stream.get("trouble", ())):
                console.print(f"{each['name']} waits at {trouble}", style="yellow", markup=False)
        if not found["running"]:
            console.print("Nothing runs here; `churnstream up` starts it.")


def logs(
    name: Name,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="go on until interrupted")] = False,
    worker: Annotated[int | None, typer.Option(min=0, help="only what this one of its workers said")] = None,
    project: Project = None,
) -> None:
    """Print a function's log."""
    with sentences():
        client = SupervisorClient(Home.find())
        project = client.find(name, project)["project"]
        chosen = (lambda text: text) if worker is None else OnlyWorker(worker).of
        text, offset = client.logs(project, name)
        _write(chosen(text))
        while follow:
            time.sleep(FOLLOW_S)
            text, offset = client.logs(project, name, offset)
            _write(chosen(text))


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


def token(
    scope: Annotated[
        Scope, typer.Option(help="what it opens: `ingest` takes events, `infer` asks for predictions, `operate` everything")
    ] = "operate",
    rotate: Annotated[bool, typer.Option("--rotate", help="replace it; the old one opens nothing from then on")] = False,
) -> None:
    """Print the secret that a request to the platform carries: the operator's, which opens every door, or one of a scope."""
    with sentences():
        typer.echo(Home.find().issue(scope, rotate))


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
        "waiting",
        "for",
        "rows/s",
    ):
        number = title in {"pid", "restarts", "position", "end", "lag", "waiting", "for", "rows/s"}
        table.add_column(title, justify="right" if number else "left", no_wrap=True)
    for each in functions:
        state = f"[{STYLES.get(each['state'], 'dim')}]{each['state']}[/]"
        known = [each["name"], each["project"], state, each.get("address", "")]
        workers = [(worker["pid"] or worker["state"], _spans(worker["shards"])) for worker in each.get("workers", ())]
        restarts = str(each.get("restarts", ""))
        streams = [_stream(told) for told in each["streams"]]
        for row in range(max(1, len(workers), len(streams))):
            pid, shards = workers[row] if row < len(workers) else ("", "")
            reads = streams[row] if row < len(streams) else [""] * 7
            told = [*(known if row == 0 else [""] * 4), pid, shards, restarts if row == 0 else "", *reads]
            table.add_row(*(str(value) for value in told))
    return table


def _stream(told: dict[str, Any]) -> list[str]:
    """
    >>> _stream({"stream": "s", "position": 1, "end": 3, "lag": 2, "lag_rows": 2000, "lag_s": 12.34, "rows_per_s": 1234.5})
    ['s', '1', '3', '2', '2,000', '12.3 s', '1,234']
    """
    rate = told.get("rows_per_s")
    waits = f"{told.get('lag_s', 0):,.1f} s" if told["lag"] else ""
    numbers = (str(told[name]) for name in ("stream", "position", "end", "lag"))
    return [*numbers, f"{told.get('lag_rows', 0):,}", waits, "" if rate is None else f"{rate:,.0f}"]


def _write(text: bytes) -> None:
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()

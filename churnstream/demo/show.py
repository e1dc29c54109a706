"""Runs the notebooks, says how it goes, and ends with figures and a request that works as printed."""

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from churnstream.demo.notebooks import Notebook, near, numbered, run, to_html
from churnstream.demo.page import DONE, FAILED, WAITING, Card, index
from churnstream.demo.summary import Summary, infer_command, settle, summarise
from churnstream.errors import ChurnstreamError, InvalidSetting, NotebookFailed, UnknownFunction
from churnstream.local import Home, SupervisorClient
from churnstream.local.reset import look, reset
from churnstream.settings import DEFAULT_PROJECT, Settings
from churnstream.usecases import load
from churnstream.usecases.case import UseCase
from churnstream.wiring import now, settings_from_env

CUSTOMERS, EVENTS = 1_000, 200_000
OUTPUT = Path("build") / "notebooks"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run: ``folder`` holds the notebooks, ``output`` gets their copies; ``given`` are values for their parameters."""

    case: UseCase
    folder: Path
    output: Path
    given: Mapping[str, Any]
    keep: bool

    @property
    def pictures(self) -> Path:
        return self.folder.parent / "assets" / "images"


def plan(
    case: str,
    data: Path | None = None,
    users: int | None = None,
    events: int | None = None,
    keep: bool = False,
    folder: Path | None = None,
    output: Path | None = None,
) -> Plan:
    """Check what was asked for; raises UnknownCase, or InvalidSetting with what to ask for instead."""
    chosen = load(case)
    if data is not None and not data.is_file():
        raise InvalidSetting(f"there is no file {data}; name a Parquet or CSV file of the events of {case}")
    if data is None and chosen.simulate is None:
        raise InvalidSetting(
            f"{case} simulates no events: name a file of recorded ones, as in `make demo CASE={case} DATA=events.parquet`"
        )
    given: dict[str, Any] = {"case": case}
    if data is not None:
        given |= {"data": str(data.resolve())} | ({"events": events} if events else {})
    else:
        given |= {"customers": users or CUSTOMERS, "events": events or EVENTS}
    folder = (folder or project_root() / "notebooks").resolve()
    return Plan(chosen, folder, (output or folder.parent / OUTPUT).resolve(), given, keep)


def project_root() -> Path:
    """The nearest folder, going up, that holds the project; raises InvalidSetting."""
    for each in (Path.cwd(), *Path.cwd().parents):
        if (each / "project.yaml").is_file() and (each / "notebooks").is_dir():
            return each
    raise InvalidSetting("there is no project here or above: run this where project.yaml and notebooks/ are")


def show(plan: Plan, home: Home, console: Console) -> bool:
    """Run it all; True when every notebook passed and every event is accounted for.

    Raises NotebookFailed at the first notebook that stops, and whatever keeps the platform from starting. What ran stays up.
    """
    began, at = time.perf_counter(), now()
    books = numbered(plan.folder)
    settings = _prepare(plan, home, console)
    client = SupervisorClient(home)
    cards = {book.name: Card(book.name, book.title, WAITING) for book in books}
    summary, failure = None, ""
    try:
        _run_all(plan, books, cards, console)
        settle(client, settings.project)
        summary = _summary(plan, home, settings)
    except ChurnstreamError as cause:
        failure = str(cause)
        raise
    except KeyboardInterrupt:
        failure = "The run was interrupted."
        console.print(
            f"Interrupted; what was deployed still runs. `{_command()} down` stops it.", highlight=False, soft_wrap=True
        )
        raise
    finally:
        took = timedelta(seconds=time.perf_counter() - began)
        _write_index(plan, at, took, list(cards.values()), summary, failure)
    _tell(plan, client, settings, summary, took, console)
    return summary.exact


def _prepare(plan: Plan, home: Home, console: Console) -> Settings:
    os.environ["CHURNSTREAM_HOME"] = str(home.root)  # the notebooks' kernels work on this home, whatever folder they run in
    settings = settings_from_env(DEFAULT_PROJECT, plan.given["case"])
    found = look(home, settings)
    flows = " ".join(f"{name}={value}" for name, value in plan.given.items() if name != "case")
    console.print(f"[bold]{plan.case.title}[/] ({plan.case.name}) {flows}", highlight=False, soft_wrap=True)
    if plan.keep:
        console.print("Keeping what is there.")
    elif found.functions or found.folder:
        reset(home, settings)
        console.print(f"Starting afresh: removed {found.sentence()}. --keep would keep it.", highlight=False, soft_wrap=True)
    SupervisorClient(home).up()
    shutil.rmtree(plan.output, ignore_errors=True)
    plan.output.mkdir(parents=True)
    if plan.pictures.is_dir():  # the copies look for them beside their own folder, as the notebooks do
        target = plan.output.parent / "assets" / "images"
        shutil.copytree(plan.pictures, target, dirs_exist_ok=True)
    return settings


def _run_all(plan: Plan, books: list[Notebook], cards: dict[str, Card], console: Console) -> None:
    with _progress(console) as progress:
        for place, book in enumerate(books, start=1):
            task = progress.add_task(f"{place}/{len(books)} {book.name}", total=None)

            def step(done: int, cells: int, task: Any = task) -> None:
                progress.update(task, completed=done, total=cells)

            copy = plan.output / book.path.name
            began = time.perf_counter()
            try:
                run(book, copy, plan.given, step)
            except NotebookFailed:
                cards[book.name] = _card(plan, book, FAILED, began, copy)
                console.print(f"[red]✗[/] {book.name}", highlight=False)
                raise
            finally:
                progress.remove_task(task)
            cards[book.name] = _card(plan, book, DONE, began, copy)
            console.print(f"[green]✓[/] {book.name:<28}{cards[book.name].seconds:5.1f} s", highlight=False)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(24), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield progress


def _card(plan: Plan, book: Notebook, status: str, began: float, copy: Path) -> Card:
    seconds = time.perf_counter() - began
    return Card(book.name, book.title, status, seconds, to_html(copy, plan.folder))


def _summary(plan: Plan, home: Home, settings: Settings) -> Summary:
    from churnstream.local.registry import newest_metrics, newest_results  # imports mlrun, which takes seconds

    generated = newest_results(home, settings.project, "event-generator", settings.case)
    return summarise(settings, generated, newest_metrics(home, settings.project, settings.case), plan.case.note)


def _write_index(plan: Plan, at: datetime, took: timedelta, cards: list[Card], summary: Summary | None, failure: str) -> None:
    title = f"Churnstream: {plan.case.title}"
    (plan.output / "index.html").write_text(index(title, at, took, cards, summary, failure))


def _tell(plan: Plan, client: SupervisorClient, settings: Settings, summary: Summary, took: timedelta, console: Console) -> None:
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in summary.counts:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_row(*(f"[bold]{number:,}[/]" for number in summary.counts.values()))
    stages = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0))
    for name in ("stage", "events", "seconds", "events/s"):
        stages.add_column(name, justify="left" if name == "stage" else "right")
    for stage in summary.stages:
        stages.add_row(stage.function, f"{stage.rows:,}", f"{stage.busy.total_seconds():.2f}", f"{stage.rows_per_s:,.0f}")
    console.print("", table, "", stages, "", sep="\n")
    for line in summary.lines:
        console.print(line.sentence(), style="" if line.unaccounted == 0 else "red", highlight=False, soft_wrap=True)
    console.print(f"\nAUC: {summary.auc()}", highlight=False, soft_wrap=True)
    if summary.note:
        console.print(f"Mind: {summary.note}", style="yellow", highlight=False, soft_wrap=True)
    try:
        asking = infer_command(client, settings, _command())
        console.print("\nThe platform is up. Ask the model about a customer:\n", highlight=False)
        console.print(asking, style="cyan", highlight=False, markup=False, soft_wrap=True)
    except UnknownFunction as cause:
        console.print(f"\nThe platform is up, but there is no model to ask: {cause}.", highlight=False, soft_wrap=True)
    page = near(plan.output / "index.html")
    console.print(f"\nSee {page}, or run `{_command()} status`; `make down` stops it.", highlight=False, soft_wrap=True)
    console.print(f"It took {took.total_seconds():.0f} s in all.", highlight=False)


def _command() -> str:
    return str(near(Path(sys.executable).parent / "churnstream"))

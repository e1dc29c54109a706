"""What every command shares: where it prints, the options that several have, and how an error reads."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console

from churnstream.errors import ChurnstreamError
from churnstream.local import Home
from churnstream.settings import DEFAULT_CASE, DEFAULT_PROJECT, Settings

console = Console()
wide = Console(width=max(console.width, 180))  # a table that wraps can be read, one that is cut cannot

Name = Annotated[str, typer.Argument(help="the function's name, as `churnstream status` shows it")]
Project = Annotated[str | None, typer.Option(help="the function's project, where several have one of this name")]
Case = Annotated[str | None, typer.Option(help="the use case; by default the one that is deployed")]
Json = Annotated[bool, typer.Option("--json", help="for programs")]


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


def case_settings(home: Home, case: str | None) -> Settings:
    """The settings of ``case``; of the case that is deployed in ``home`` when it is None."""
    from churnstream.local.reset import deployed_case
    from churnstream.usecases import load
    from churnstream.wiring import settings_from_env

    os.environ.setdefault("CHURNSTREAM_HOME", str(home.root))
    chosen = case or os.environ.get("CHURNSTREAM_CASE") or deployed_case(home, DEFAULT_PROJECT) or DEFAULT_CASE
    load(chosen)  # raises for a name that is none
    return settings_from_env(DEFAULT_PROJECT, chosen)

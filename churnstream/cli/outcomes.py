"""`churnstream models outcomes`: which version was right, once it is known what became of the customers."""

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from math import isnan
from typing import Annotated, Any

import typer
from rich.table import Table

from churnstream.cli.common import Case, Json, case_settings, console, sentences, wide
from churnstream.local import Home

FIGURES = ("customers", "left", "flagged", "AUC", "Brier", "log loss")


def outcomes(
    case: Case = None,
    hours: Annotated[
        float | None, typer.Option(min=0, help="from the anchor to the decision; by default as the case says")
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="leave out what was answered before (UTC)")] = None,
    as_json: Json = False,
) -> None:
    """Compare what champion, canaries, variants and shadows answered with what became of the customers.

    A customer counts once, with the newest answer from the stream before the decision, when the label is known. Look as often
    as you like: the interval of the Brier scores' difference holds at every look.
    """
    with sentences():
        from churnstream.models.dataset import read_archive
        from churnstream.reading import peek
        from churnstream.serving.outcomes import contrasts, judged, matured, standings
        from churnstream.topology import INFERENCE
        from churnstream.usecases import load

        settings = case_settings(Home.find(), case)
        chosen = load(settings.case)
        decision = None if hours is None else timedelta(hours=hours)
        known = matured(read_archive(settings.archive, chosen), chosen, decision)
        told = peek(INFERENCE, 0, settings)
        if since is not None and len(told):
            told = told[told["appended_at"] >= since.replace(tzinfo=since.tzinfo or UTC)]
        rows = judged(told, known)
        versions, compared = standings(rows), contrasts(rows)
        if as_json:
            found = {"versions": [asdict(each) for each in versions]}
            found["compared"] = [asdict(each) | {"verdict": each.verdict} for each in compared]
            typer.echo(json.dumps(_finite(found), indent=2))
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("version", "", *FIGURES):
            table.add_column(name, no_wrap=True, justify="left" if name in ("version", "") else "right")
        for each in versions:
            shares = (f"{share:.1%}" for share in (each.left, each.flagged))
            figures = ("-" if isnan(figure) else f"{figure:.4f}" for figure in (each.auc, each.brier, each.log_loss))
            table.add_row(each.version, each.role, f"{each.customers:,}", *shares, *figures)
        wide.print(table)
        for one in compared:
            console.print(one.sentence(), markup=False, highlight=False, soft_wrap=True)


def _finite(told: Any) -> Any:
    """The same without NaN, which JSON does not know."""
    if isinstance(told, dict):
        return {name: _finite(each) for name, each in told.items()}
    if isinstance(told, list | tuple):
        return [_finite(each) for each in told]
    return None if isinstance(told, float) and isnan(told) else told

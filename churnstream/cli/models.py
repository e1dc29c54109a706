"""`churnstream models`: which there are, which one is served, and who takes whose place."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.table import Table

from churnstream.cli.common import Case, Json, case_settings, console, sentences, wide
from churnstream.errors import InvalidModel, InvalidSetting
from churnstream.local import Home

Version = Annotated[str, typer.Argument(help="its version, or how it begins, as `churnstream models list` shows it")]
FIGURES = {"AUC": "auc", "stayers found": "average_precision_stayers", "Brier": "brier", "calibration": "calibration_error"}

models = typer.Typer(help="Look at trained models, and choose the one that is served.", no_args_is_help=True)


@models.command("list")
def list_models(case: Case = None, as_json: Json = False) -> None:
    """List the models of a case, the newest first: how good each was on its hold-out, and which one is the champion."""
    with sentences():
        from churnstream.wiring import open_registry

        registry = open_registry(case_settings(Home.find(), case))
        found, champion = registry.versions(), registry.champion()
        served = champion.version if champion else ""
        if as_json:
            rows = [msgspec.to_builtins(each) | {"champion": each.version == served} for each in found]
            typer.echo(json.dumps(rows, indent=2))
            return
        if not found:
            console.print("There are no models yet; notebook 4b trains one.")
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("version", "", "judged after", "95 % of the AUC", *FIGURES, "rows"):
            table.add_column(name, no_wrap=True, justify="left" if name in ("version", "") else "right")
        for each in found:
            told = each.metrics
            table.add_row(
                each.version,
                "champion" if each.version == served else "",
                f"{each.decision_s / 3_600:g} h",
                f"{told['auc_low']:.4f} to {told['auc_high']:.4f}",
                *(f"{told[name]:.4f}" for name in FIGURES.values()),
                f"{told['holdout_customers']:,.0f}",
            )
        wide.print(table)
        for step in registry.history():
            forced = ", by force" if step.forced else ""
            line = f"{step.at:%Y-%m-%d %H:%M:%S} {step.version} {step.deed}{forced}: {step.reason}"
            console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


@models.command("promote")
def promote_model(
    version: Version,
    case: Case = None,
    force: Annotated[bool, typer.Option("--force", help="though it is not better, or worse somewhere")] = False,
    reason: Annotated[str, typer.Option(help="why, for the history; needed with --force")] = "",
) -> None:
    """Make a model the champion if it is better than the champion on its hold-out by more than noise, and worse on no group.

    Whoever serves the champion switches to it within a second or two, without a restart. Exits with 1 when it was not promoted.
    """
    with sentences():
        from churnstream.models.promotion import promote
        from churnstream.usecases import load
        from churnstream.wiring import model_keys, open_registry

        if reason and not force:
            raise InvalidSetting("a reason goes with --force; without it the figures are the reason")
        settings = case_settings(Home.find(), case)
        registry = open_registry(settings)
        chosen, features = registry.resolve(version), load(settings.case).features
        verdict, step = promote(
            registry, chosen, features, model_keys(settings), datetime.now(UTC), force=reason if force else None
        )
        _say(f"{verdict.sentence()}.")
        if step.forced:
            _say(f"Promoted by force, though {verdict.refusal}.")
        _say(f"{step.version} is the champion.")


@models.command("rollback")
def roll_back_model(
    case: Case = None,
    reason: Annotated[str, typer.Option(help="why, for the history")] = "asked for",
) -> None:
    """Make the champion before this one the champion again; twice goes back twice."""
    with sentences():
        from churnstream.models.promotion import roll_back
        from churnstream.usecases import load
        from churnstream.wiring import model_keys, open_registry

        settings = case_settings(Home.find(), case)
        step = roll_back(open_registry(settings), load(settings.case).features, model_keys(settings), datetime.now(UTC), reason)
        _say(f"{step.version} is the champion again; it was {step.before}.")


@models.command("verify")
def verify_model(folder: Annotated[Path, typer.Argument(help="the folder of a model")], case: Case = None) -> None:
    """Say who signed the model in a folder, and whether it is trusted here. Exits with 1 when it is refused."""
    with sentences():
        from churnstream.models.artifact import load_artifact
        from churnstream.models.keys import key_id
        from churnstream.wiring import model_keys

        found = load_artifact(folder, None, model_keys(case_settings(Home.find(), case)))
        _say(f"{found.manifest.version} of {found.manifest.case} is as {key_id(found.signer)} signed it.")


@models.command("sign")
def sign_model(folder: Annotated[Path, typer.Argument(help="the folder of a model")], case: Case = None) -> None:
    """Sign the model in a folder with this home's key: you vouch for it. Nothing in it is changed."""
    with sentences():
        from churnstream.models.artifact import load_artifact, sign_folder
        from churnstream.models.keys import key_id
        from churnstream.wiring import model_keys

        home = Home.find()
        home.ensure()
        keys = model_keys(case_settings(home, case), signing=True)
        try:
            by = sign_folder(folder, keys.private)
        except OSError as cause:
            raise InvalidModel(f"{folder} is no model that could be signed: {cause}") from cause
        load_artifact(folder, None, keys)
        _say(f"Signed with {key_id(by)}.")


def _say(sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)

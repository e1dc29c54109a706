"""`churnstream models`: which there are, which one is served, and who takes whose place."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.table import Table

from churnstream.cli.candidates import deeds
from churnstream.cli.common import Case, Json, case_settings, console, sentences, wide
from churnstream.errors import InvalidModel, InvalidSetting
from churnstream.local import Home

if TYPE_CHECKING:
    from churnstream.models.registry import Registry
    from churnstream.models.withdrawals import Withdrawals

if TYPE_CHECKING:
    from churnstream.models.registry import Registry

Version = Annotated[str, typer.Argument(help="its version, or how it begins, as `churnstream models list` shows it")]
FIGURES = {"AUC": "auc", "stayers found": "average_precision_stayers", "Brier": "brier", "calibration": "calibration_error"}

models = typer.Typer(help="Look at trained models, and choose the one that is served.", no_args_is_help=True)


@models.command("list")
def list_models(case: Case = None, as_json: Json = False) -> None:
    """List the models of a case, the newest first: how good each was on its hold-out, and which one is the champion."""
    with sentences():
        from churnstream.wiring import open_registry, open_withdrawals

        settings = case_settings(Home.find(), case)
        registry, withdrawals = open_registry(settings), open_withdrawals(settings)
        withdrawn = withdrawals.all()
        found, champion = registry.versions(), registry.champion()
        served = champion.version if champion else ""
        if as_json:
            rows = [
                msgspec.to_builtins(each) | {"champion": each.version == served, "withdrawn": each.version in withdrawn}
                for each in found
            ]
            typer.echo(json.dumps(rows, indent=2))
            return
        if not found:
            console.print("There are no models yet; notebook 4b trains one.")
            _say_history(registry, withdrawals)
            return
        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in ("version", "", "judged after", "95 % of the AUC", *FIGURES, "rows"):
            table.add_column(name, no_wrap=True, justify="left" if name in ("version", "") else "right")
        for each in found:
            told = each.metrics
            table.add_row(
                each.version,
                "champion" if each.version == served else "withdrawn" if each.version in withdrawn else "",
                f"{each.decision_s / 3_600:g} h",
                f"{told['auc_low']:.4f} to {told['auc_high']:.4f}",
                *(f"{told[name]:.4f}" for name in FIGURES.values()),
                f"{told['holdout_customers']:,.0f}",
            )
        wide.print(table)
        _say_history(registry, withdrawals)


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
        _announce(registry)


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
        registry = open_registry(settings)
        step = roll_back(registry, load(settings.case).features, model_keys(settings), datetime.now(UTC), reason)
        _say(f"{step.version} is the champion again; it was {step.before}.")
        _announce(registry)


@models.command("publish")
def publish_models(
    case: Case = None,
    to: Annotated[str, typer.Option(help="where MLflow is from now on; everything is sent there that it lacks")] = "",
) -> None:
    """Send MLflow what it was not told, and let its alias `champion` follow the champion here; as often as you like.

    It is told of the models that were trained with `mlflow`. Promoting and rolling back do it by themselves; this is for when
    MLflow was away, or has moved. Exits with 1 when MLflow does not take it.
    """
    with sentences():
        from churnstream.models.mlflow_server import tracking_address
        from churnstream.models.tracking import known_versions, move, publish
        from churnstream.wiring import open_registry

        registry = open_registry(case_settings(Home.find(), case))
        if to:
            move(registry, tracking_address(to))
        for sentence in publish(registry):
            _say(f"{sentence}.")
        known = known_versions(registry)
        _say(
            f"MLflow knows {', '.join(known)}."
            if known
            else "No model here was trained with `mlflow`, so MLflow is told nothing."
        )


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


def _announce(registry: "Registry") -> None:
    from churnstream.models.tracking import announce

    for sentence in announce(registry):
        _say(sentence)


def _say_history(registry: "Registry", withdrawals: "Withdrawals") -> None:
    for line in deeds(registry, withdrawals):
        console.print(line, style="dim", markup=False, highlight=False, soft_wrap=True)


def _say(sentence: str) -> None:
    console.print(sentence, markup=False, highlight=False, soft_wrap=True)

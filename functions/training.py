"""training: builds a training set from the archive, trains, judges on the newest customers, signs and registers the model."""

import json
import tempfile
from datetime import timedelta
from pathlib import Path

import mlrun
from mlrun.features import Feature

from churnstream.errors import NotPromoted
from churnstream.models.artifact import FILES, write_artifact
from churnstream.models.canary import watch
from churnstream.models.card import minds, model_card
from churnstream.models.dataset import build_training_set, read_archive
from churnstream.models.describing import describe, holdout_rows
from churnstream.models.dossier import figures, new_dossier, tables
from churnstream.models.joins import joined_today, with_joins
from churnstream.models.manifest import MODEL_FILE
from churnstream.models.mlflow_server import tracking_address
from churnstream.models.plots import draw
from churnstream.models.promotion import promote
from churnstream.models.search import search
from churnstream.models.split import HOLDOUT
from churnstream.models.tracking import announce, track
from churnstream.models.training import train
from churnstream.wiring import model_keys, open_joins, open_parts, open_registry, settings_from_env


def fit(
    context,
    case: str = "",
    seed: int = 1,
    holdout: float = HOLDOUT,
    hours: float = 0,
    trials: int = 0,
    flagged: float = 0,
    export: str = "",
    mlflow: str = "",
    progress: bool = True,
):
    """Train on the archive of ``case``; logs metrics, plots, the training set and the signed model ``churn-<case>``.

    Customers are judged ``hours`` after the anchor, by default when the case says. ``trials`` searches for parameters first
    (extra ``search``). ``flagged`` sets the threshold so that this share of customers counts as leaving; by default it is 0.5.
    ``export`` names a folder to which the model is written as well. ``mlflow`` is the address of an MLflow server that is told of
    the run and gets the model (extra ``mlflow``), ``env`` that of MLFLOW_TRACKING_URI; when it does not answer, the run says so
    and goes on. A column that knows what was not known at the decision fails the run with its name.
    """
    say = print if progress else context.logger.info
    parts = open_parts("training", settings_from_env(context.project, case))
    address, began = tracking_address(mlflow), parts.clock()
    keys = model_keys(parts.settings, signing=True)
    chosen = parts.case
    name = f"churn-{chosen.name.replace('_', '-')}"
    lookup = parts.table(chosen.enrichment.table) if chosen.enrichment else None
    archive = with_joins(read_archive(parts.settings.archive, chosen), chosen, open_joins(parts.settings))
    if unknown := joined_today(archive, chosen):
        say(f"{unknown:,} events that enrich-stream has not joined get what the lookup table says today")
    data = build_training_set(archive, chosen, lookup, (timedelta(hours=hours),) if hours else ())
    say(f"{len(data):,} customers whose label is known, {data.unmatured:,} whose label is not known yet")
    watch(data, archive, chosen, lookup, seed)
    say("no column knows what was not known at the decision")
    parameters = search(data, trials, seed, holdout, say=say) if trials else None
    trained = train(data, seed, holdout, parameters=parameters, say=say)
    manifest = describe(chosen, data, trained, seed, flagged)
    card = model_card(manifest, chosen, data, trained)
    with tempfile.TemporaryDirectory() as folder:
        write_artifact(Path(folder), trained.text, manifest, card, keys.private)
        if export:
            write_artifact(Path(export), trained.text, manifest, card, keys.private)
        registry = open_registry(parts.settings) if parts.settings.models is not None else None
        if registry:
            registry.add(Path(folder), holdout_rows(data, trained))
        pictures = draw(trained)
        report(context, data, trained, pictures)
        context.log_result("version", manifest.version)
        for sentence in minds(manifest, chosen, trained):
            say(f"mind: {sentence}")
        context.log_model(
            name,
            model_dir=folder,
            model_file=MODEL_FILE,
            extra_data={name: name for name in FILES if name != MODEL_FILE},
            metrics=trained.metrics,
            inputs=[Feature(name=name, value_type="float") for name in manifest.features],
            outputs=[Feature(name="probability", value_type="float")],
            framework="lightgbm",
            algorithm="gradient boosting",
            labels={"case": parts.settings.case, "version": manifest.version},
        )
        if address:
            asked = {"case": parts.settings.case, "holdout": holdout, "hours": manifest.decision_s / 3_600}
            asked |= {"trials": trials, "flagged": flagged, "calibration": trained.calibration.method}
            told = new_dossier(address, name, data, trained, asked, began, parts.clock())
            sent, sentences = track(registry, Path(folder), told, pictures, tables(trained))
            for sentence in sentences:
                say(sentence)
            context.log_result("mlflow_run", sent.run if sent else "not sent")
            context.log_result("mlflow_version", sent.version if sent else "not sent")


def challenge(context, version: str, case: str = ""):
    """Make ``version`` the champion of ``case`` if it may be; logs ``promoted``, why (or why not), and the ``champion``.

    To be no better than the champion is an outcome, and fails no run.
    """
    parts = open_parts("training", settings_from_env(context.project, case))
    registry = open_registry(parts.settings)
    try:
        verdict, _ = promote(registry, registry.resolve(version), parts.case.features, model_keys(parts.settings), parts.clock())
        promoted, why = True, "; ".join([verdict.sentence(), *announce(registry)])
    except NotPromoted as refusal:
        promoted, why = False, str(refusal)
    context.logger.info(why)
    champion = registry.champion()
    for name, value in {"promoted": promoted, "verdict": why, "champion": champion.version if champion else ""}.items():
        context.log_result(name, value)


def report(context, data, trained, pictures):
    """Log what a person looks at: figures, pictures and tables."""
    told = figures(data, trained) | {"data_digest": data.digest, "calibration": trained.calibration.method}
    for name, value in (told | {"parameters": json.dumps(trained.parameters)}).items():
        context.log_result(name, value)
    for name, figure in pictures.items():
        context.log_artifact(mlrun.artifacts.PlotArtifact(name, body=figure))
    context.log_dataset("training-set", df=data.features.assign(label=data.label), format="parquet")  # no ids
    for name, frame in tables(trained).items():
        context.log_dataset(name, df=frame, format="csv")

"""training: builds a training set from the archive, trains, judges on the newest customers, signs and registers the model."""

import json
import tempfile
from datetime import timedelta
from pathlib import Path

import mlrun
from mlrun.features import Feature

from churnstream.models.artifact import FILES, write_artifact
from churnstream.models.canary import watch
from churnstream.models.card import minds, model_card
from churnstream.models.dataset import build_training_set, read_archive
from churnstream.models.describing import describe, holdout_rows
from churnstream.models.manifest import MODEL_FILE
from churnstream.models.plots import draw
from churnstream.models.search import search
from churnstream.models.split import HOLDOUT
from churnstream.models.training import train
from churnstream.wiring import model_keys, open_parts, open_registry, settings_from_env


def fit(
    context,
    case: str = "",
    seed: int = 1,
    holdout: float = HOLDOUT,
    hours: float = 0,
    trials: int = 0,
    flagged: float = 0,
    export: str = "",
    progress: bool = True,
):
    """Train on the archive of ``case``; logs metrics, plots, the training set and the signed model ``churn-<case>``.

    Customers are judged ``hours`` after the anchor, by default when the case says. ``trials`` searches for parameters first
    (extra ``search``). ``flagged`` sets the threshold so that this share of customers counts as leaving; by default it is 0.5.
    ``export`` names a folder to which the model is written as well. A column that knows what was not known at the decision
    fails the run with its name.
    """
    say = print if progress else context.logger.info
    parts = open_parts("training", settings_from_env(context.project, case))
    keys = model_keys(parts.settings, signing=True)
    chosen = parts.case
    lookup = parts.table(chosen.enrichment.table) if chosen.enrichment else None
    archive = read_archive(parts.settings.archive, chosen)
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
        if parts.settings.models is not None:
            open_registry(parts.settings).add(Path(folder), holdout_rows(data, trained))
        report(context, data, trained)
        for sentence in minds(manifest, chosen, trained):
            say(f"mind: {sentence}")
        context.log_model(
            f"churn-{chosen.name.replace('_', '-')}",
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


def report(context, data, trained):
    """Log what a person looks at: figures, pictures and tables."""
    for name, value in trained.metrics.items():
        context.log_result(name, value)
    told = {"customers": len(data), "unmatured": data.unmatured, "not_yet_known": trained.parts.unknown}
    told |= {"data_digest": data.digest, "calibration": trained.calibration.method, "parameters": json.dumps(trained.parameters)}
    for name, row in trained.baselines.iterrows():
        told[f"auc_{str(name).replace(' ', '_')}"] = row["auc"]
    for name, value in told.items():
        context.log_result(name, value)
    for name, figure in draw(trained).items():
        context.log_artifact(mlrun.artifacts.PlotArtifact(name, body=figure))
    context.log_dataset("training-set", df=data.features.assign(user_id=data.keys, label=data.label), format="parquet")
    if len(trained.slices):
        worse = trained.slices["worse"].map({True: "yes", False: "no"})  # MLRun draws a histogram of what is no text
        context.log_dataset("slices", df=trained.slices.assign(worse=worse), format="csv")
    context.log_dataset("baselines", df=trained.baselines.rename_axis("baseline").reset_index(), format="csv")

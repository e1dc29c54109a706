"""training: builds a training set from the archive, trains, judges on the newest customers, and registers the model."""

import tempfile
from pathlib import Path

import mlrun
from mlrun.features import Feature

from churnstream.models.card import model_card
from churnstream.models.dataset import build_training_set, read_archive
from churnstream.models.manifest import CARD_FILE, MANIFEST_FILE, MANIFEST_VERSION, MODEL_FILE, Manifest, digest, write_manifest
from churnstream.models.plots import draw
from churnstream.models.training import HOLDOUT, train
from churnstream.wiring import open_parts, settings_from_env

THRESHOLD = 0.5


def fit(context, case: str = "", seed: int = 1, holdout: float = HOLDOUT, export: str = ""):
    """Train on the archive of ``case``; logs metrics, plots, the training set and the model ``churn-<case>``.

    ``export`` names a folder to which the model's text, manifest and card are written as well.
    """
    parts = open_parts("training", settings_from_env(context.project, case))
    chosen = parts.case
    lookup = parts.table(chosen.enrichment.table) if chosen.enrichment else None
    data = build_training_set(read_archive(parts.settings.archive, chosen), chosen, lookup)
    trained = train(data, seed, holdout)
    manifest = Manifest(
        manifest_version=MANIFEST_VERSION,
        case=chosen.name,
        version=digest(trained.text)[:12],
        features=chosen.features.names,
        fingerprint=chosen.features.fingerprint,
        model_sha256=digest(trained.text),
        label=chosen.label.sentence(),
        threshold=THRESHOLD,
        data_digest=data.digest,
        metrics=trained.metrics,
        note=chosen.note,
    )
    for name, value in trained.metrics.items():
        context.log_result(name, value)
    context.log_result("customers", len(data))
    context.log_result("unmatured", data.unmatured)
    for name, figure in draw(trained).items():
        context.log_artifact(mlrun.artifacts.PlotArtifact(name, body=figure))
    context.log_dataset("training-set", df=data.features.assign(user_id=data.keys, label=data.label), format="parquet")
    if len(trained.slices):
        context.log_dataset("slices", df=trained.slices, format="csv")
    card = model_card(manifest, chosen, data, trained)
    if export:
        _write(Path(export), trained.text, manifest, card)
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), trained.text, manifest, card)
        context.log_model(
            f"churn-{chosen.name.replace('_', '-')}",
            model_dir=folder,
            model_file=MODEL_FILE,
            extra_data={MANIFEST_FILE: MANIFEST_FILE, CARD_FILE: CARD_FILE},
            metrics=trained.metrics,
            inputs=[Feature(name=name, value_type="float") for name in manifest.features],
            outputs=[Feature(name="probability", value_type="float")],
            framework="lightgbm",
            algorithm="gradient boosting",
            labels={"case": parts.settings.case, "version": manifest.version},
        )


def _write(folder, text, manifest, card):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_text(text)
    write_manifest(manifest, folder / MANIFEST_FILE)
    (folder / CARD_FILE).write_text(card)

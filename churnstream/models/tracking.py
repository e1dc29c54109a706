"""MLflow beside the registry: it gets each training's dossier and model, and its alias ``champion`` follows ours.

    sending    a run in the experiment ``churn-<case>``: parameters, metrics, pictures, tables, the training set's digest as an
               input, the signed folder of the model as artifacts; and a version of the registered model of the same name, whose
               source is that folder. No flavour and no pickle: who downloads it verifies it with ``churnstream models verify``
    alias      ``champion`` stands at the version that is served here, and nowhere when MLflow was never told of that one

The registry here is the truth. When MLflow is away nothing here is lost or waits for it: a dossier stays beside its version until
it was sent, and ``publish`` may be called again and again, since a run is found again by its dossier's id.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from churnstream.errors import ChurnstreamError, TrackingFailed
from churnstream.models.artifact import FILES
from churnstream.models.dossier import PLOTS, TABLES, Dossier, Sent, note_sent, read_dossier, read_sent, readdress, write_dossier
from churnstream.models.manifest import MANIFEST_FILE, Manifest, read_manifest
from churnstream.models.mlflow_server import speaking_to
from churnstream.models.registry import Registry

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

CHAMPION, MODEL = "champion", "model"
DOSSIER_TAG = "churnstream.dossier"
AGAIN = "`churnstream models publish` tells it again, with --to ADDRESS where it has moved."


def publish(registry: Registry, version: str = "") -> Iterator[str]:
    """Send what MLflow was not told yet, and let its alias follow the champion; a sentence for each deed.

    Of the dossiers only those of ``version`` and of the champion are sent when one is given. Raises TrackingFailed in the end
    when MLflow did not take something, MissingExtra without its client, InvalidModel for a dossier that cannot be read.
    """
    dossiers, champion, failures = _dossiers(registry), registry.champion(), []
    wanted = {version, champion.version if champion else ""} if version else set(dossiers)
    for each, told in dossiers.items():
        if each in wanted and read_sent(registry.dossier(each)) is None:
            try:
                sent = send(registry.dossier(each), registry.artifact(each))
            except TrackingFailed as cause:
                failures.append(cause)
            else:
                yield f"MLflow at {told.address} has {each} as version {sent.version} of {told.model}, run {sent.run}"
    if champion is not None:
        for address, model, number in _aliases(registry, dossiers, champion.version):
            try:
                changed = _set_alias(address, model, number)
            except TrackingFailed as cause:
                failures.append(cause)
                continue
            if changed and number:
                yield f"MLflow at {address} has version {number} of {model} as its {CHAMPION}: {champion.version}"
            elif changed:
                yield f"MLflow at {address} has no {CHAMPION} of {model} any more: it was not told of {champion.version}"
    if failures:
        raise TrackingFailed("; ".join(dict.fromkeys(str(each) for each in failures))) from failures[0]


def track(
    registry: Registry | None,
    artifact: Path,
    told: Dossier,
    pictures: Mapping[str, "Figure"],
    frames: Mapping[str, "pd.DataFrame"],
) -> tuple[Sent | None, list[str]]:
    """Keep a training's dossier beside its version, where there is a registry, and send it with the model in ``artifact``.

    Returns what MLflow calls it, None when it did not take it, and what came of it in sentences. A failure raises nothing: the
    model is trained.
    """
    version = read_manifest(artifact / MANIFEST_FILE).version
    said: list[str] = []
    with tempfile.TemporaryDirectory() as passing:
        folder = registry.dossier(version) if registry else Path(passing) / "dossier"
        write_dossier(folder, told, pictures, frames)
        try:
            if registry:
                said.extend(f"{each}." for each in publish(registry, version))
            else:
                send(folder, artifact)
        except ChurnstreamError as cause:
            kept = AGAIN if registry else "The model is trained; no registry keeps what MLflow lacks."
            said.append(f"mind: {cause}. {kept}")
        return read_sent(folder), said


def announce(registry: Registry) -> list[str]:
    """Tell MLflow who is the champion now, if it was ever told of a model here; what came of it in sentences, failures too."""
    champion = registry.champion()
    told: list[str] = []
    if champion is not None:
        try:
            told.extend(f"{each}." for each in publish(registry, champion.version))
        except ChurnstreamError as cause:
            told.append(f"Here {champion.version} is the champion, and MLflow may not know: {cause}. {AGAIN}")
    return told


def move(registry: Registry, address: str) -> None:
    """Every dossier goes to ``address`` from now on, from its beginning; what is there already is found again."""
    for version in _dossiers(registry):
        readdress(registry.dossier(version), address)


def known_versions(registry: Registry) -> list[str]:
    """The versions that MLflow has, the oldest first."""
    return [version for version in _dossiers(registry) if read_sent(registry.dossier(version))]


def send(folder: Path, artifact: Path) -> Sent:
    """Send the dossier in ``folder`` and the model in ``artifact``; goes on where it stopped when it was tried before.

    Raises TrackingFailed, MissingExtra.
    """
    told, manifest = read_dossier(folder), read_manifest(artifact / MANIFEST_FILE)
    if told is None:
        raise TrackingFailed(f"there is no dossier in {folder} that could be sent")
    with speaking_to(told.address) as client:
        run = _run(client, told, manifest)
        number = run.info.run_id
        _log(client, number, told, manifest)
        for part in (PLOTS, TABLES):
            client.log_artifacts(number, str(folder / part), part)
        for name in FILES:
            client.log_artifact(number, str(artifact / name), MODEL)
        sent = Sent(run=number, version=_version(client, run, told, manifest))
        client.set_terminated(number, "FINISHED", _ms(told.ended))
    note_sent(folder, sent)
    return sent


def _run(client: Any, told: Dossier, manifest: Manifest) -> Any:
    found = client.get_experiment_by_name(told.model)
    experiment = found.experiment_id if found else client.create_experiment(told.model)
    before = client.search_runs([experiment], f"tags.`{DOSSIER_TAG}` = '{told.id}'", max_results=1)
    if before:
        return before[0]
    tags = {
        DOSSIER_TAG: told.id,
        "mlflow.source.name": "churnstream training",
        "mlflow.source.type": "JOB",
        "mlflow.note.content": f"Churned means: {manifest.label}. {manifest.note}".strip(),
        **_names(manifest),
    }
    return client.create_run(experiment, _ms(told.began), tags, run_name=f"{told.model} {manifest.version}")


def _log(client: Any, run: str, told: Dossier, manifest: Manifest) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param

    metrics = [Metric(name, value, _ms(told.ended), 0) for name, value in told.metrics.items()]
    client.log_batch(run, metrics, [Param(name, str(value)) for name, value in told.parameters.items()])
    columns = [{"type": "double", "name": name, "required": True} for name in manifest.features]
    data = Dataset(
        name=f"{told.model} training set",
        digest=manifest.data_digest,
        source_type="code",
        source=json.dumps({"tags": {"mlflow.source.name": "churnstream training", **_names(manifest)}}),
        schema=json.dumps({"mlflow_colspec": columns}),
        profile=json.dumps({"num_rows": told.rows, "trained_until": manifest.trained_until}),
    )
    client.log_inputs(run, [DatasetInput(data, [InputTag("mlflow.data.context", "training")])])


def _version(client: Any, run: Any, told: Dossier, manifest: Manifest) -> str:
    if not client.search_registered_models(f"name = '{told.model}'", max_results=1):
        client.create_registered_model(told.model)
    for each in client.search_model_versions(f"run_id = '{run.info.run_id}'"):
        return str(each.version)
    source = f"{run.info.artifact_uri}/{MODEL}"
    text = f"Churned means: {manifest.label}."
    made = client.create_model_version(
        told.model, source, run.info.run_id, _names(manifest), description=text, await_creation_for=0
    )
    return str(made.version)


def _names(manifest: Manifest) -> dict[str, str]:
    told = {"case": manifest.case, "version": manifest.version, "fingerprint": manifest.fingerprint}
    return told | {"data_digest": manifest.data_digest, "code_version": manifest.code_version}


def _aliases(registry: Registry, dossiers: dict[str, Dossier], champion: str) -> Iterator[tuple[str, str, str]]:
    """Every server and model of which something was sent, and which version there is the champion's, empty for none."""
    sent = {version: known.version for version in dossiers if (known := read_sent(registry.dossier(version)))}
    own = (dossiers[champion].address, dossiers[champion].model) if champion in sent else None
    for place in dict.fromkeys((dossiers[version].address, dossiers[version].model) for version in sent):
        yield *place, sent[champion] if place == own else ""


def _set_alias(address: str, model: str, version: str) -> bool:
    """Whether it had to be changed."""
    with speaking_to(address) as client:
        before = str(client.get_registered_model(model).aliases.get(CHAMPION, ""))
        if before == version:
            return False
        if version:
            client.set_registered_model_alias(model, CHAMPION, version)
        else:
            client.delete_registered_model_alias(model, CHAMPION)
        return True


def _dossiers(registry: Registry) -> dict[str, Dossier]:
    found = ((each.version, read_dossier(registry.dossier(each.version))) for each in reversed(registry.versions()))
    return {version: told for version, told in found if told is not None}


def _ms(at: datetime) -> int:
    return int(at.timestamp() * 1_000)

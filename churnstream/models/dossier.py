"""What a training tells about itself, kept in a folder so that a tracking server can be told now, or later when it was away.

    dossier.json        ``Dossier``; written last, so that a folder without it is none
    plots/<name>.png    the pictures
    tables/<name>.csv   the baselines, and the slices where the case declares any
    sent.json           ``Sent``: what the tracking server calls it; absent until all of it is there

No customer is in it: figures, pictures and tables of groups only.
"""

import secrets
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pandas as pd

from churnstream.errors import InvalidModel
from churnstream.models.dataset import TrainingSet
from churnstream.models.training import Trained

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Told = TypeVar("Told", bound=msgspec.Struct)
DOSSIER_FILE, SENT_FILE, PLOTS, TABLES = "dossier.json", "sent.json", "plots", "tables"


class Dossier(msgspec.Struct, frozen=True, kw_only=True):
    """``id`` names this training among all others; ``address`` is the tracking server's, without a password; ``model`` the name
    that its versions share there. ``began`` and ``ended`` are aware; ``rows`` is how many rows the training set has."""

    id: str
    address: str
    model: str
    began: datetime
    ended: datetime
    parameters: Mapping[str, Any]
    metrics: Mapping[str, float]
    rows: int


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """The ``run`` in which the tracking server keeps the training, and the number that it gave the ``version`` of the model."""

    run: str
    version: str


def figures(data: TrainingSet, trained: Trained) -> dict[str, float]:
    """Every number of a training by name: the metrics, the baselines' AUCs, and how many customers there were."""
    told = dict(trained.metrics) | {"customers": len(data), "unmatured": data.unmatured, "not_yet_known": trained.parts.unknown}
    for name, row in trained.baselines.iterrows():
        told[f"auc_{str(name).replace(' ', '_')}"] = row["auc"]
    return told


def tables(trained: Trained) -> dict[str, pd.DataFrame]:
    """name -> table: ``slices`` with a row for each group, where there are any, and ``baselines`` with one a simpler way."""
    found = {}
    if len(trained.slices):
        worse = trained.slices["worse"].map({True: "yes", False: "no"})  # MLRun draws a histogram of what is no text
        found["slices"] = trained.slices.assign(worse=worse)
    return found | {"baselines": trained.baselines.rename_axis("baseline").reset_index()}


def new_dossier(
    address: str, model: str, data: TrainingSet, trained: Trained, parameters: Mapping[str, Any], began: datetime, ended: datetime
) -> Dossier:
    """What a training tells; ``parameters`` are those of the job, LightGBM's are added."""
    return Dossier(
        id=secrets.token_hex(16),
        address=address,
        model=model,
        began=began,
        ended=ended,
        parameters={**parameters, **trained.parameters},
        metrics={name: float(value) for name, value in figures(data, trained).items() if pd.notna(value)},
        rows=len(data),
    )


def write_dossier(folder: Path, told: Dossier, pictures: Mapping[str, "Figure"], frames: Mapping[str, pd.DataFrame]) -> None:
    """Write down a training in ``folder``, in place of an older one."""
    shutil.rmtree(folder, ignore_errors=True)
    for part in (PLOTS, TABLES):
        (folder / part).mkdir(parents=True)
    for name, figure in pictures.items():
        figure.savefig(folder / PLOTS / f"{name}.png", dpi=120)
    for name, frame in frames.items():
        frame.to_csv(folder / TABLES / f"{name}.csv", index=False)
    _write(folder / DOSSIER_FILE, told)


def read_dossier(folder: Path) -> Dossier | None:
    """The dossier in ``folder``, None where there is none; raises InvalidModel for one that cannot be read."""
    return _read(folder / DOSSIER_FILE, Dossier)


def read_sent(folder: Path) -> Sent | None:
    """What the tracking server calls the dossier in ``folder``; None until it has all of it."""
    return _read(folder / SENT_FILE, Sent)


def note_sent(folder: Path, sent: Sent) -> None:
    """The tracking server has all of it."""
    _write(folder / SENT_FILE, sent)


def readdress(folder: Path, address: str) -> None:
    """Let the dossier in ``folder`` go to ``address``, from its beginning."""
    told = read_dossier(folder)
    if told is not None:
        (folder / SENT_FILE).unlink(missing_ok=True)
        _write(folder / DOSSIER_FILE, msgspec.structs.replace(told, address=address))


def _write(path: Path, told: msgspec.Struct) -> None:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    draft.write_bytes(msgspec.json.format(msgspec.json.encode(told), indent=2) + b"\n")
    draft.replace(path)


def _read(path: Path, kind: type[Told]) -> Told | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise InvalidModel(f"{path} cannot be read: {cause}; train the model again, or remove its folder") from cause

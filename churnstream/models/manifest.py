"""What a model says about itself; written and signed beside the LightGBM text, and believed only when it fits."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from churnstream.errors import FingerprintMismatch, InvalidModel, UnknownVersion
from churnstream.features.definitions import FeatureTable

MANIFEST_VERSION = 2
MODEL_FILE, MANIFEST_FILE, CARD_FILE = "model.txt", "manifest.json", "card.md"
DTYPE = "float64"


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How the model's margin became the one that it was signed with: ``slope * margin + intercept``, already in the leaves.

    ``method`` is ``sigmoid``, or ``none`` where there was too little to fit it on (slope 1, intercept 0); ``customers`` is how
    many it was fitted on.
    """

    method: str = "none"
    slope: float = 1.0
    intercept: float = 0.0
    customers: int = 0


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``features`` are the names in the order of the columns, with a dtype and a unit each, and ``fingerprint`` their meaning.

    ``model_sha256`` and ``card_sha256`` are digests of the files beside it. ``label`` says what churned means, ``decision_s`` how
    many seconds after the anchor customers were judged. ``threshold`` is the probability from which a customer counts as
    leaving, and ``threshold_policy`` how it was chosen. ``data_digest`` and ``holdout_digest`` name the rows that it was trained
    and judged on, ``trained_until`` (ISO 8601, UTC) is the newest anchor among the customers that it has learnt from; ``metrics``
    were measured on the hold-out, all of whose customers are newer. ``parameters`` and ``seed`` give the same model again.
    """

    manifest_version: int
    case: str
    version: str
    features: tuple[str, ...]
    fingerprint: str
    model_sha256: str
    label: str
    threshold: float
    data_digest: str
    metrics: Mapping[str, float]
    dtypes: tuple[str, ...]
    units: tuple[str, ...]
    decision_s: float
    threshold_policy: str
    holdout_digest: str
    trained_until: str
    code_version: str
    calibration: Calibration
    parameters: Mapping[str, Any]
    seed: int
    card_sha256: str = ""  # known when the card is written
    note: str = ""


def digest(text: str) -> str:
    """The SHA-256 of a model's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def to_json(manifest: Manifest) -> bytes:
    """As JSON, indented for people; the same manifest always gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2) + b"\n"


def write_manifest(manifest: Manifest, path: Path) -> None:
    """Write it unsigned; ``artifact.write_artifact`` writes a whole model."""
    path.write_bytes(to_json(manifest))


def read_manifest(path: Path) -> Manifest:
    """Read it unverified, to show it; raises InvalidModel when the file is no manifest, UnknownVersion for another version."""
    try:
        return parse_manifest(path.read_bytes(), str(path))
    except OSError as cause:
        raise InvalidModel(f"{path} is no model manifest: {cause}") from cause


def parse_manifest(content: bytes, where: str) -> Manifest:
    """Raises InvalidModel when ``content`` is no manifest, UnknownVersion when it is one of another version."""
    try:
        told: Any = msgspec.json.decode(content)
        if told.get("manifest_version") != MANIFEST_VERSION:
            raise UnknownVersion(
                f"{where} has manifest version {told.get('manifest_version')}, this version reads {MANIFEST_VERSION};"
                " train the model again"
            )
        return msgspec.convert(told, Manifest)
    except (AttributeError, msgspec.MsgspecError, UnicodeDecodeError) as cause:
        raise InvalidModel(f"{where} is no model manifest: {cause}") from cause


def check(manifest: Manifest, text: str, features: FeatureTable | None) -> None:
    """Raises InvalidModel when the text is not the manifest's, FingerprintMismatch when it was trained on other ``features``."""
    if digest(text) != manifest.model_sha256:
        raise InvalidModel(
            f"the model's text is not the one its manifest was written for ({manifest.case}, version {manifest.version})"
        )
    if features is None:
        return
    if manifest.features != features.names or manifest.fingerprint != features.fingerprint:
        raise FingerprintMismatch(
            f"the model {manifest.version} was trained on features {manifest.fingerprint}, the running ones are"
            f" {features.fingerprint}; {_difference(manifest.features, features.names)}train again on the running definitions"
            " (notebook 4b)"
        )


def _difference(trained: tuple[str, ...], running: tuple[str, ...]) -> str:
    missing = [name for name in running if name not in trained]
    extra = [name for name in trained if name not in running]
    if missing:
        return f"it lacks {', '.join(missing[:3])}; "
    if extra:
        return f"it takes {', '.join(extra[:3])}, which the running ones lack; "
    return "the names are the same in another order; " if trained != running else ""

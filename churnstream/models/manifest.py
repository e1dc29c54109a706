"""What a model says about itself; written beside the LightGBM text, and believed only when it fits."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from churnstream.errors import FingerprintMismatch, InvalidModel, UnknownVersion
from churnstream.features.definitions import FeatureTable

MANIFEST_VERSION = 1
MODEL_FILE, MANIFEST_FILE, CARD_FILE = "model.txt", "manifest.json", "card.md"


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """``features`` are the names in the order of the columns, ``fingerprint`` their meaning, ``model_sha256`` the text's digest.

    ``threshold`` is the probability from which a customer counts as leaving; ``metrics`` were measured on the hold-out.
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
    note: str = ""


def digest(text: str) -> str:
    """The SHA-256 of a model's text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def write_manifest(manifest: Manifest, path: Path) -> None:
    """As JSON, indented for people."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")


def read_manifest(path: Path) -> Manifest:
    """Raises InvalidModel when the file is no manifest, UnknownVersion when it is one of another version."""
    try:
        content: Any = msgspec.json.decode(path.read_bytes())
        if content.get("manifest_version") != MANIFEST_VERSION:
            raise UnknownVersion(
                f"{path} has manifest version {content.get('manifest_version')}, this version reads {MANIFEST_VERSION}"
            )
        return msgspec.convert(content, Manifest)
    except (OSError, AttributeError, msgspec.MsgspecError) as cause:
        raise InvalidModel(f"{path} is no model manifest: {cause}") from cause


def check(manifest: Manifest, text: str, features: FeatureTable) -> None:
    """Raises InvalidModel when the text is not the manifest's, FingerprintMismatch when it was trained on other features."""
    if digest(text) != manifest.model_sha256:
        raise InvalidModel(
            f"the model's text is not the one its manifest was written for ({manifest.case}, version {manifest.version})"
        )
    if manifest.features != features.names or manifest.fingerprint != features.fingerprint:
        raise FingerprintMismatch(
            f"the model {manifest.version} was trained on features {manifest.fingerprint}, the running ones are"
            f" {features.fingerprint}; train again on the running definitions (notebook 4b)"
        )

"""Models that a test has changed, signed again."""

from pathlib import Path
from typing import Any

import msgspec

from churnstream.models.artifact import sign_folder
from churnstream.models.manifest import MANIFEST_FILE, read_manifest, write_manifest
from churnstream.wiring import model_keys
from tests.functions.river import River


def resign(river: River, folder: Path) -> None:
    """Sign what lies there with a key that the river trusts: what is refused then is refused for itself."""
    with river.environment():
        sign_folder(folder, model_keys(river.settings, signing=True).private)


def change_manifest(river: River, folder: Path, **changes: Any) -> None:
    write_manifest(msgspec.structs.replace(read_manifest(folder / MANIFEST_FILE), **changes), folder / MANIFEST_FILE)
    resign(river, folder)

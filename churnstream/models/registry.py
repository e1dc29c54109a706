"""The registry of models: a folder with every version of a case's model, and a pointer to the one that is served.

    versions/<version>/artifact/       a signed model, as ``artifact.load_artifact`` reads it
    versions/<version>/holdout.parquet the rows that it was judged on: features, label, slices
    versions/<version>/mlflow/         what an MLflow server is told of it, where one was named (``dossier``)
    champion.json                      which version is served; replaced as a whole, by a rename
    history.jsonl                      a line for each promotion and rollback: who, when, why
    withdrawn/, candidates.jsonl       candidates that were sent away from customers (``withdrawals``)

``Registry(folder).champion()`` is the version that serving has to load, and costs one small read: whoever serves asks it again
and again, and switches when ``version`` differs. ``wiring.open_registry(settings)`` opens that of a project and case.
"""

import os
import re
import secrets
import shutil
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from churnstream.errors import InvalidModel, UnknownModel
from churnstream.models.manifest import MANIFEST_FILE, Manifest, read_manifest

if TYPE_CHECKING:
    import pandas as pd

CHAMPION_FILE, HISTORY_FILE = "champion.json", "history.jsonl"
ARTIFACT, HOLDOUT_FILE, DOSSIER = "artifact", "holdout.parquet", "mlflow"
_VERSION = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True, slots=True)
class Champion:
    """The model that is to be served: its ``version``, the ``folder`` of its artifact, and since when (aware, UTC)."""

    version: str
    folder: Path
    since: datetime


class Step(msgspec.Struct, frozen=True):
    """A line of the history: at ``at`` the champion became ``version``, before it was ``before`` (empty: none)."""

    at: datetime
    deed: str
    version: str
    before: str
    reason: str
    forced: bool = False


class _Pointer(msgspec.Struct, frozen=True):
    version: str
    since: datetime


class Registry:
    """The versions of one case's model in ``folder``, which is made by the first that is added."""

    def __init__(self, folder: Path):
        self.folder = folder

    def add(self, artifact: Path, holdout: "pd.DataFrame") -> str:
        """Take a copy of a signed model and of the rows that it was judged on; returns its version. Adding twice changes nothing.

        ``holdout`` has the model's features, ``label``, ``customer`` (a number), ``anchor``, ``at``, and a column
        ``slice:<name>`` for each slice: no name and no id, because a registry outlives the events.
        """
        version = self._checked(read_manifest(artifact / MANIFEST_FILE).version)
        target = self.folder / "versions" / version
        if target.is_dir():
            return version
        draft = target.with_name(f".{version}.{secrets.token_hex(4)}")
        try:
            shutil.copytree(artifact, draft / ARTIFACT)
            holdout.to_parquet(draft / HOLDOUT_FILE)
            draft.rename(target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return version

    def versions(self) -> list[Manifest]:
        """What every version says about itself, unverified, the newest addition first."""
        found = sorted(
            self.folder.glob("versions/[0-9a-f]*"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True
        )
        return [read_manifest(path / ARTIFACT / MANIFEST_FILE) for path in found]

    def artifact(self, version: str) -> Path:
        """The folder of a version's artifact; raises UnknownModel when there is none."""
        return self._version(version) / ARTIFACT

    def holdout(self, version: str) -> "pd.DataFrame":
        """The rows that a version was judged on; raises UnknownModel when there are none, or they were removed."""
        import pandas as pd  # who only asks for the champion does without

        path = self._version(version) / HOLDOUT_FILE
        if not path.is_file():
            raise UnknownModel(f"the rows that {version} was judged on are not kept any more; train it again")
        return pd.read_parquet(path)

    def dossier(self, version: str) -> Path:
        """The folder of what a tracking server is told of a version; need not exist. Raises UnknownModel for no version."""
        return self._version(version) / DOSSIER

    def resolve(self, start: str) -> str:
        """The version that begins with ``start``; raises UnknownModel when none does, or several do."""
        known = [each.version for each in self.versions()]
        found = [each for each in known if each.startswith(start)] if start else []
        if len(found) != 1:
            what = f"no model {start!r} is" if not found else f"several models that begin with {start!r} are"
            raise UnknownModel(f"{what} in the registry: {', '.join(known) or 'it is empty; train one (notebook 4b)'}")
        return found[0]

    def champion(self) -> Champion | None:
        """The model to serve; None while none was promoted. Raises InvalidModel when the pointer cannot be read."""
        try:
            pointer = msgspec.json.decode((self.folder / CHAMPION_FILE).read_bytes(), type=_Pointer)
        except FileNotFoundError:
            return None
        except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
            raise InvalidModel(f"{self.folder / CHAMPION_FILE} names no champion: {cause}; promote one again") from cause
        return Champion(pointer.version, self.artifact(pointer.version), pointer.since)

    def set_champion(self, version: str, at: datetime, deed: str, reason: str, forced: bool = False) -> Step:
        """Make ``version`` the champion, and write down why. The pointer changes in one rename; readers see the old or the
        new."""
        before = self.champion()
        self.artifact(version)
        step = Step(at, deed, version, before.version if before else "", reason, forced)
        with (self.folder / HISTORY_FILE).open("ab") as history:
            history.write(msgspec.json.encode(step) + b"\n")
            history.flush()
            os.fsync(history.fileno())
        draft = self.folder / f".{CHAMPION_FILE}.{secrets.token_hex(4)}"
        with draft.open("wb") as file:
            file.write(msgspec.json.encode(_Pointer(version, at)))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self.folder / CHAMPION_FILE)
        return step

    def history(self) -> list[Step]:
        """Every promotion and rollback, the oldest first."""
        path = self.folder / HISTORY_FILE
        return [msgspec.json.decode(line, type=Step) for line in path.read_bytes().splitlines()] if path.exists() else []

    def _version(self, version: str) -> Path:
        path = self.folder / "versions" / self._checked(version)
        if not path.is_dir():
            raise UnknownModel(
                f"no model {version} is in the registry {self.folder}; `churnstream models list` shows those that are"
            )
        return path

    def _checked(self, version: str) -> str:
        if not _VERSION.fullmatch(version):
            raise UnknownModel(f"{version!r} is no version of a model: hexadecimal digits only")
        return version

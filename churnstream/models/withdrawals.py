"""Candidates that were sent away: in a folder that every worker looks at, so that one of them finding out is enough.

    withdrawn/<version>.json   why, when and in which role; while it lies there, that model answers nobody as a candidate
    candidates.jsonl           a line for each withdrawal and each return: who, when, why

They lie in the folder of the registry (see ``registry``), also for a candidate that never was in it. A restart or another
deployment of the same model changes nothing; somebody has to take it back: `churnstream models readmit`.
"""

import os
import secrets
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import msgspec

from churnstream.errors import InvalidSetting, StorageFailed, UnknownModel

FOLDER, HISTORY_FILE = "withdrawn", "candidates.jsonl"
WITHDRAWN, READMITTED = "withdrawn", "readmitted"


class Withdrawal(msgspec.Struct, frozen=True):
    """At ``at`` (aware, UTC) the candidate ``version`` was sent away, in the ``role`` that it had (empty: by hand)."""

    version: str
    role: str
    reason: str
    at: datetime


class Deed(msgspec.Struct, frozen=True):
    """A line of the history."""

    at: datetime
    deed: str
    version: str
    role: str
    reason: str


class Withdrawals:
    """Those of one case, in the ``folder`` of its registry. Every method raises StorageFailed when that cannot be used."""

    def __init__(self, folder: Path):
        self._folder, self._history = folder / FOLDER, folder / HISTORY_FILE

    def all(self) -> dict[str, Withdrawal]:
        """Everyone who is withdrawn, by version. What cannot be read counts as withdrawn: somebody had a reason to put it
        there."""
        found: dict[str, Withdrawal] = {}
        try:
            for path in sorted(self._folder.glob("*.json")):
                try:
                    found[path.stem] = msgspec.json.decode(path.read_bytes(), type=Withdrawal)
                except FileNotFoundError:
                    continue  # taken back this very moment
                except (msgspec.MsgspecError, UnicodeDecodeError) as cause:
                    at = datetime.fromtimestamp(path.stat().st_mtime).astimezone()
                    found[path.stem] = Withdrawal(path.stem, "", f"{path} cannot be read: {cause}", at)
        except OSError as cause:
            raise StorageFailed(f"which candidates are withdrawn cannot be read: {cause}") from cause
        return found

    def withdraw(self, version: str, role: str, reason: str, at: datetime) -> bool:
        """Send a model away, for everybody and for good; False when it was withdrawn already, and the first reason stays.

        Raises InvalidSetting without a reason.
        """
        path, reason = self._path(version), reason.strip()
        if not reason:
            raise InvalidSetting("who is withdrawn is told why: --reason 'it answers customers of the shop that closed'")
        draft = path.with_name(f".{version}.{secrets.token_hex(4)}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            try:
                _write(draft, msgspec.json.encode(Withdrawal(version, role, reason, at)))
                os.link(draft, path)  # as a whole, and only one of several workers succeeds
            except FileExistsError:
                return False
            finally:
                draft.unlink(missing_ok=True)
            self._note(Deed(at, WITHDRAWN, version, role, reason))
        except OSError as cause:
            raise StorageFailed(f"that {version} is withdrawn cannot be written to {self._folder}: {cause}") from cause
        return True

    def readmit(self, version: str, reason: str, at: datetime) -> Withdrawal:
        """Take back the withdrawal of a model, which is returned; raises UnknownModel when there is none."""
        before = self.all().get(version)
        try:
            self._path(version).unlink()
            self._note(Deed(at, READMITTED, version, before.role if before else "", reason))
        except FileNotFoundError as cause:
            raise UnknownModel(f"{version} is not withdrawn; `churnstream models list` shows who is") from cause
        except OSError as cause:
            raise StorageFailed(f"{version} cannot be readmitted: {cause}") from cause
        return before or Withdrawal(version, "", "", at)

    def resolve(self, start: str) -> str:
        """The withdrawn version that begins with ``start``; raises UnknownModel when none does, or several do."""
        known = sorted(self.all())
        found = [each for each in known if each.startswith(start)] if start else []
        if len(found) != 1:
            what, verb = ("several models that begin", "are") if found else ("no model that begins", "is")
            raise UnknownModel(f"{what} with {start!r} {verb} withdrawn; withdrawn are: {', '.join(known) or 'none'}")
        return found[0]

    def history(self) -> list[Deed]:
        """Every withdrawal and return, the oldest first, less a line that a power cut has torn: who is withdrawn says ``all``."""
        lines = self._history.read_bytes().splitlines() if self._history.exists() else []
        found = []
        for line in lines:
            with suppress(msgspec.MsgspecError, UnicodeDecodeError):
                found.append(msgspec.json.decode(line, type=Deed))
        return found

    def _path(self, version: str) -> Path:
        if not version.isalnum():
            raise UnknownModel(f"{version!r} is no version of a model: letters and digits only")
        return self._folder / f"{version}.json"

    def _note(self, deed: Deed) -> None:
        with self._history.open("ab") as history:
            history.write(b"\n" * self._is_torn() + msgspec.json.encode(deed) + b"\n")
            history.flush()
            os.fsync(history.fileno())

    def _is_torn(self) -> bool:
        content = self._history.read_bytes()
        return bool(content) and not content.endswith(b"\n")


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())

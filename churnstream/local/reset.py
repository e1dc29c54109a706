"""Takes a case back to before its first event: its functions are gone, its streams, tables and archive are empty."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from churnstream.errors import InvalidSetting
from churnstream.local.client import SupervisorClient
from churnstream.local.home import Home
from churnstream.local.rundb_address import cluster_address
from churnstream.local.specification import Specification
from churnstream.settings import Settings


@dataclass(frozen=True, slots=True)
class Found:
    """What ``reset`` would remove: deployed functions of the project, and the folder of the case, None when it is not there."""

    functions: tuple[str, ...]
    folder: Path | None

    def sentence(self) -> str:
        """What there is, in words.

        >>> Found(("serving",), Path("/home/data")).sentence()
        '1 deployed function and all data in /home/data'
        """
        counted = "1 deployed function" if len(self.functions) == 1 else f"{len(self.functions)} deployed functions"
        words = [counted] * bool(self.functions) + [f"all data in {self.folder}"] * (self.folder is not None)
        return " and ".join(words) or "no deployed function and no data"


def deployed_case(home: Home, project: str) -> str | None:
    """The case that the deployed functions of ``project`` work on; None when none is deployed."""
    for owner, name in home.specs():
        if owner == project:
            return Specification.load(home.spec(owner, name)).environment.get("CHURNSTREAM_CASE")
    return None


def look(home: Home, settings: Settings) -> Found:
    """What of the project and case of ``settings`` the home holds.

    Raises InvalidSetting on a cluster, and where streams, tables or the archive lie outside of the home, which are not ours.
    """
    if cluster_address() is not None:
        raise InvalidSetting("MLRUN_DBPATH names a cluster, and this removes things of one machine only; unset it to go on")
    folder = home.root / "data" / settings.project / settings.case
    if folder.resolve().parent.parent != (home.root / "data").resolve():
        raise InvalidSetting(f"{settings.case!r} of {settings.project!r} is no name of a case of a project")
    places = {
        "CHURNSTREAM_STREAMS": settings.streams,
        "CHURNSTREAM_TABLES": settings.tables,
        "CHURNSTREAM_ARCHIVE": f"embedded://{settings.archive.parent}",
    }
    for name, place in places.items():
        if place != f"embedded://{folder}":
            raise InvalidSetting(
                f"{name} points outside of {home.root}, and only what lies in there is removed; unset it to go on"
            )
    deployed = tuple(name for project, name in home.specs() if project == settings.project)
    return Found(deployed, folder if folder.is_dir() else None)


def reset(home: Home, settings: Settings) -> Found:
    """Delete what ``look`` finds and return it; models, runs and artifacts in MLRun's registry stay.

    Training keeps no customer's id in those. Raises as ``look`` does.
    """
    found, client = look(home, settings), SupervisorClient(home)
    for name in found.functions:
        client.delete(settings.project, name)
    if found.folder is not None:
        shutil.rmtree(found.folder)
    return found

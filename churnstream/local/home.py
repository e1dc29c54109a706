"""A home: the folder in which one local platform keeps everything that it has."""

import os
import re
import secrets
from dataclasses import dataclass
from pathlib import Path

from churnstream.errors import InvalidSetting
from churnstream.local.scopes import Scope

FOLDER = ".churnstream"
LOGIN = "churnstream"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True, slots=True)
class Home:
    """The paths of one home; ``root`` is absolute. Two homes share nothing, neither files nor ports."""

    root: Path

    @classmethod
    def find(cls, start: Path | None = None) -> "Home":
        """The home that CHURNSTREAM_HOME names, else ``.churnstream`` of the project around ``start``.

        ``start`` defaults to the working directory. The project is the nearest folder, going up, that holds a
        ``project.yaml`` or a ``.churnstream``; without one it is ``start`` itself.
        """
        given = os.environ.get("CHURNSTREAM_HOME")
        if given:
            return cls(Path(given).expanduser().resolve())
        start = (start or Path.cwd()).resolve()
        for folder in (start, *start.parents):
            if (folder / "project.yaml").is_file() or (folder / FOLDER).is_dir():
                return cls(folder / FOLDER)
        return cls(start / FOLDER)

    @property
    def token_file(self) -> Path:
        return self.token_of("operate")

    def token_of(self, scope: Scope) -> Path:
        """Where the token of ``scope`` lies; the operator's is simply called ``token``."""
        return self.root / ("token" if scope == "operate" else f"token-{scope}")

    @property
    def netrc_file(self) -> Path:
        return self.root / "netrc"

    @property
    def supervisor_file(self) -> Path:
        return self.root / "supervisor.json"

    @property
    def supervisor_lock(self) -> Path:
        return self.root / "supervisor.lock"

    @property
    def supervisor_log(self) -> Path:
        return self.root / "supervisor.log"

    @property
    def run_db(self) -> Path:
        return self.root / "run.db"

    def spec(self, project: str, name: str) -> Path:
        """Where a deployed function is kept; raises InvalidSetting for a name that is no file name."""
        return self.root / "functions" / _named(project) / f"{_named(name)}.json"

    def specs(self) -> list[tuple[str, str]]:
        """The deployed functions as (project, name), sorted."""
        return sorted((path.parent.name, path.stem) for path in self.root.glob("functions/*/*.json"))

    def log(self, project: str, name: str) -> Path:
        """The function's log, text in UTF-8; raises InvalidSetting for a name that is no file name."""
        return self.root / "logs" / _named(project) / f"{_named(name)}.log"

    @property
    def artifact_root(self) -> Path:
        """Where the artifacts of all projects lie."""
        return self.root / "artifacts"

    def artifacts(self, project: str) -> Path:
        """MLRun's artifact path of ``project``; raises InvalidSetting for a name that is no file name."""
        return self.artifact_root / _named(project)

    def ensure(self) -> None:
        """Create what is missing: the folder, the operator's token and the netrc, readable by their owner only.

        Raises InvalidSetting for a place that cannot be written.
        """
        try:
            self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not os.access(self.root, os.W_OK):
                raise PermissionError("it is read-only")
            if not self.token_file.exists():
                _write_once(self.token_file, secrets.token_urlsafe(32))
            netrc = f"machine 127.0.0.1 login {LOGIN} password {self.token()}\n"
            if not self.netrc_file.exists() or self.netrc_file.read_text() != netrc:
                write_private(self.netrc_file, netrc)
        except OSError as cause:
            raise InvalidSetting(
                f"the home {self.root} cannot be written ({cause}); make room or allow it, or name another with CHURNSTREAM_HOME"
            ) from cause

    def token(self, scope: Scope = "operate") -> str:
        """The secret of ``scope``; raises InvalidSetting while there is none: before ``ensure``, or before ``issue``."""
        try:
            return self.token_of(scope).read_text().strip()
        except FileNotFoundError as cause:
            how = "`churnstream up` makes it one" if scope == "operate" else f"`churnstream token --scope {scope}` makes one"
            what = "is no home yet" if scope == "operate" else f"has no token for {scope} yet"
            raise InvalidSetting(f"{self.root} {what}; {how}") from cause

    def issue(self, scope: Scope, rotate: bool = False) -> str:
        """The secret of ``scope``, made when there is none; ``rotate`` replaces it, and closes what the old one opened."""
        self.ensure()
        path = self.token_of(scope)
        if rotate:
            write_private(path, secrets.token_urlsafe(32))
            self.ensure()  # the netrc holds the operator's
        elif not path.exists():
            _write_once(path, secrets.token_urlsafe(32))
        return self.token(scope)


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` as a whole by ``text``, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = _draft(path, text)
    draft.replace(path)


def _write_once(path: Path, text: str) -> None:
    draft = _draft(path, text)
    try:
        os.link(draft, path)
    except FileExistsError:
        return  # someone else was first, and theirs counts
    finally:
        draft.unlink()


def _draft(path: Path, text: str) -> Path:
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    return draft


def _named(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidSetting(f"{name!r} cannot name a project or a function: letters, digits, '-', '_' and '.' only")
    return name

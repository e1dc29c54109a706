"""What a bare clone starts from: the locks, the Makefile, and the scripts that install."""

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

LOCKS = ("requirements.lock", "requirements-dev.lock", "requirements-lab.lock", "requirements-uv.lock", "requirements-peers.lock")
HEAVY = {
    "jupyterlab",
    "keras",
    "mlflow",
    "notebook",
    "pyspark",
    "ray",
    "tensorflow",
    "torch",
    "transformers",
    "xgboost",
}
HASHES = r"(\n +--hash=sha256:[0-9a-f]{64}( \\)?)+"
PINNED = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[^ ;]+)( ; [^\\]+)? \\" + HASHES)


def pins(lock: Path) -> dict[str, str]:
    """Name to version of every requirement; what is no requirement with its hashes is an error."""
    text = lock.read_text()
    found = list(PINNED.finditer(text))
    rest = PINNED.sub("", text).strip()
    assert rest == "", f"{lock.name} holds more than versions and hashes: {rest[:200]}"
    return {each["name"]: each["version"] for each in found}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_holds_versions_and_hashes_and_no_address(root: Path, name: str) -> None:
    assert pins(root / name)
    assert "://" not in (root / name).read_text()


def test_every_dependency_is_in_the_lock(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^A-Za-z0-9._-]", each)[0].lower() for each in requirements}

    base, groups = names(project["project"]["dependencies"]), project["dependency-groups"]
    assert base | names(groups["build"]) <= pins(root / "requirements.lock").keys()
    assert base | names(groups["dev"]) <= pins(root / "requirements-dev.lock").keys()
    assert base | names(project["project"]["optional-dependencies"]["lab"]) <= pins(root / "requirements-lab.lock").keys()
    assert names(groups["installer"]) == pins(root / "requirements-uv.lock").keys()


def test_the_base_install_stays_light(root: Path) -> None:
    assert not HEAVY & pins(root / "requirements.lock").keys()


def test_the_locks_agree_so_that_one_install_never_undoes_another(root: Path) -> None:
    base, dev, lab = (pins(root / name) for name in LOCKS[:3])
    assert base.items() <= dev.items()
    assert base.items() <= lab.items()
    assert all(dev.get(name, version) == version for name, version in lab.items())


def test_help_lists_every_target(root: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE))
    told = subprocess.run(["make", "--no-print-directory", "help"], cwd=root, check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"^ +make ([a-z-]+) +\S", told, re.MULTILINE)) == targets
    assert {"demo", "test", "lab", "check", "lock", "up", "down", "status", "clean"} <= targets


# Below, a clone with stand-ins on an otherwise empty PATH: what the scripts decide is tested, not pip.


TOOLS = [
    "basename",
    "cat",
    "chmod",
    "cksum",
    "cmp",
    "cp",
    "dirname",
    "env",
    "grep",
    "mkdir",
    "mktemp",
    "rm",
    "sh",
]


class Clone:
    """A folder with the files that the set-up reads, and a PATH that holds only what a test puts there."""

    def __init__(self, root: Path, folder: Path):
        self.folder, self.bin = folder / "clone", folder / "bin"
        self.calls = folder / "calls"
        self.calls.touch()
        self.bin.mkdir()
        shutil.copytree(root / "scripts", self.folder / "scripts")
        for name in ("pyproject.toml", *LOCKS):
            shutil.copy(root / name, self.folder)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or pytest.skip(f"this machine has no {tool}"))

    def stand_in(self, name: str, body: str) -> None:
        """A program of this name that notes how it was called, then runs ``body``."""
        program = self.bin / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>"{self.calls}"\n{body}\n')
        program.chmod(0o755)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": str(self.bin), "HOME": str(self.folder)}
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False)


UV = """
case "$1" in
venv) mkdir -p .venv/bin; printf '#!/bin/sh\\n' >.venv/bin/python; chmod +x .venv/bin/python ;;
esac
"""


@pytest.fixture
def clone(root: Path, tmp_path: Path) -> Clone:
    return Clone(root, tmp_path)


def test_without_python_311_set_up_says_so_and_how_to_get_it(clone: Clone) -> None:
    clone.stand_in("python3", "exit 1")  # another Python: it answers no to the question for its version
    done = clone.run("scripts/set-up", "base")
    assert done.returncode == 1
    assert done.stderr.startswith("Churnstream needs Python 3.11")
    assert "uv" in done.stderr
    assert not (clone.folder / ".venv").exists()


def test_the_second_set_up_does_nothing(clone: Clone) -> None:
    clone.stand_in("uv", UV)
    assert clone.run("scripts/set-up", "dev").returncode == 0
    first = clone.calls.read_text()
    assert "uv venv --quiet --python 3.11 .venv" in first
    assert "--require-hashes --compile-bytecode --build-constraints requirements.lock -r requirements-dev.lock" in first
    again = clone.run("scripts/set-up", "dev")
    assert (again.returncode, again.stdout, clone.calls.read_text()) == (0, "", first)


def test_a_changed_lock_is_installed_into_the_same_environment(clone: Clone) -> None:
    clone.stand_in("uv", UV)
    clone.run("scripts/set-up", "base")
    with (clone.folder / "requirements.lock").open("a") as lock:
        lock.write("\n")
    clone.run("scripts/set-up", "base")
    calls = clone.calls.read_text()
    assert calls.count("-r requirements.lock") == 2
    assert calls.count("uv venv") == 1


def test_an_install_that_fails_is_tried_again_the_next_time(clone: Clone) -> None:
    clone.stand_in("uv", UV + 'case "$*" in *--require-hashes*) exit 1 ;; esac')
    assert clone.run("scripts/set-up", "base").returncode != 0
    clone.stand_in("uv", UV)
    assert clone.run("scripts/set-up", "base").returncode == 0
    assert clone.calls.read_text().count("-r requirements.lock") == 2


def test_an_environment_that_was_moved_with_its_folder_is_made_anew(clone: Clone) -> None:
    clone.stand_in("uv", UV)
    clone.run("scripts/set-up", "base")
    clone.folder = clone.folder.rename(clone.folder.with_name("moved"))
    assert clone.run("scripts/set-up", "base").returncode == 0
    assert clone.calls.read_text().count("uv venv") == 2


def test_an_address_never_gets_into_a_lock(clone: Clone) -> None:
    before = {name: (clone.folder / name).read_text() for name in LOCKS}
    clone.stand_in("uv", 'while [ "$1" != --output-file ]; do shift; done; echo "a @ https://example.org/a.whl" >"$2"')
    done = clone.run("scripts/lock")
    assert done.returncode == 1
    assert "an address or an option got into requirements.lock" in done.stderr
    assert {name: (clone.folder / name).read_text() for name in LOCKS} == before

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str], str]]:
    """``module(name, text)`` is the dotted name of a module that holds ``text``, importable while the test runs."""
    package = tmp_path / "thirdparty" / "acme_cases"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(package.parent))

    def write(name: str, text: str) -> str:
        (package / f"{name}.py").write_text(text)
        return f"acme_cases.{name}"

    yield write
    for name in [each for each in sys.modules if each.partition(".")[0] == "acme_cases"]:
        del sys.modules[name]

import stat
from pathlib import Path

import pytest

from churnstream.errors import InvalidSetting
from churnstream.local import Home


def test_a_home_is_the_projects_wherever_in_it_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHURNSTREAM_HOME")
    (tmp_path / "project.yaml").touch()
    (tmp_path / "notebooks").mkdir()
    assert Home.find(tmp_path / "notebooks").root == tmp_path / ".churnstream"


def test_without_a_project_the_home_is_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CHURNSTREAM_HOME")
    assert Home.find(tmp_path).root == tmp_path / ".churnstream"


def test_the_environment_names_the_home_before_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "project.yaml").touch()
    monkeypatch.setenv("CHURNSTREAM_HOME", str(tmp_path / "elsewhere"))
    assert Home.find(tmp_path).root == tmp_path / "elsewhere"


def test_secrets_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.ensure()
    assert [stat.S_IMODE(file.stat().st_mode) for file in (home.token_file, home.netrc_file)] == [0o600, 0o600]
    assert home.token() in home.netrc_file.read_text()


def test_a_token_stays_the_same(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.ensure()
    token = home.token()
    home.ensure()
    assert home.token() == token
    assert len(token) > 40


def test_a_folder_that_is_no_home_has_no_token(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="churnstream up"):
        Home(tmp_path).token()


@pytest.mark.parametrize("name", ["../shop", "a/b", "", ".hidden", "a\n"])
def test_a_name_never_leads_out_of_the_home(tmp_path: Path, name: str) -> None:
    for place in (Home(tmp_path).spec, Home(tmp_path).log):
        with pytest.raises(InvalidSetting):
            place("shop", name)
        with pytest.raises(InvalidSetting):
            place(name, "alpha")

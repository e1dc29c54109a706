"""Settings come from an environment once, and what is wrong with one is a sentence."""

from datetime import timedelta
from pathlib import Path

import pytest

from churnstream.errors import InvalidSetting, MissingSetting
from churnstream.settings import read_settings
from churnstream.wiring import open_registry, open_stream, settings_from_env

HOME = {"CHURNSTREAM_HOME": "/srv/home"}


def test_a_home_is_enough() -> None:
    settings = read_settings(HOME)
    assert (settings.project, settings.case) == ("churnstream", "first_day")
    assert settings.streams == settings.tables == "embedded:///srv/home/data/churnstream/first_day"
    assert settings.archive == Path("/srv/home/data/churnstream/first_day/parquet")
    assert (settings.flush_rows, settings.flush_age) == (250_000, timedelta(seconds=10))
    assert settings.batch_wait == timedelta(milliseconds=20)
    assert (settings.staleness, settings.cached_customers, settings.shadow_age) == (
        timedelta(seconds=1),
        200_000,
        timedelta(seconds=1),
    )


def test_models_and_their_keys_lie_in_the_home_or_where_they_are_said_to() -> None:
    settings = read_settings(HOME)
    assert (settings.models, settings.home) == (Path("/srv/home/registry/churnstream/first_day"), Path("/srv/home"))
    assert read_settings({**HOME, "CHURNSTREAM_MODELS": "/srv/models"}).models == Path("/srv/models")
    given = {"CHURNSTREAM_STREAMS": "embedded://s", "CHURNSTREAM_TABLES": "embedded://t", "CHURNSTREAM_ARCHIVE": "/a"}
    with pytest.raises(MissingSetting, match="the registry of models needs CHURNSTREAM_MODELS"):
        open_registry(read_settings(given))


def test_cases_and_projects_of_one_home_share_no_folder() -> None:
    addresses = {
        read_settings({**HOME, "CHURNSTREAM_PROJECT": project, "CHURNSTREAM_CASE": case}).streams
        for project in ("a", "b")
        for case in ("first_day", "casual_game")
    }
    assert len(addresses) == 4


def test_what_is_said_stands_above_the_home() -> None:
    given = {"CHURNSTREAM_STREAMS": "embedded://s", "CHURNSTREAM_TABLES": "embedded://t", "CHURNSTREAM_ARCHIVE": "/a"}
    settings = read_settings({**HOME, **given, "CHURNSTREAM_FLUSH_ROWS": "5", "CHURNSTREAM_FLUSH_SECONDS": "0.5"})
    assert (settings.streams, settings.tables, settings.archive) == ("embedded://s", "embedded://t", Path("/a"))
    assert (settings.flush_rows, settings.flush_age) == (5, timedelta(milliseconds=500))


@pytest.mark.parametrize("missing", ["CHURNSTREAM_STREAMS", "CHURNSTREAM_TABLES", "CHURNSTREAM_ARCHIVE"])
def test_without_a_home_each_address_is_needed(missing: str) -> None:
    given = {"CHURNSTREAM_STREAMS": "embedded://s", "CHURNSTREAM_TABLES": "embedded://t", "CHURNSTREAM_ARCHIVE": "/a"}
    with pytest.raises(MissingSetting, match=f"needs {missing}, which is unset or empty; set it in project.yaml") as caught:
        read_settings({**given, missing: ""})
    assert caught.value.name == missing


@pytest.mark.parametrize("name", ["CHURNSTREAM_FLUSH_ROWS", "CHURNSTREAM_FLUSH_SECONDS"])
@pytest.mark.parametrize(
    ("value", "sentence"), [("many", "'many', which is no number"), ("0", "0; it must lie between"), ("nan", "nan; it must lie")]
)
def test_a_number_that_cannot_be_used_is_a_sentence(name: str, value: str, sentence: str) -> None:
    with pytest.raises(InvalidSetting, match=f"^{name} is {sentence}"):
        read_settings({**HOME, name: value})


def test_batching_can_be_switched_off_but_not_waited_for_backwards() -> None:
    assert read_settings({**HOME, "CHURNSTREAM_BATCH_WAIT_MS": "0"}).batch_wait == timedelta(0)
    assert read_settings({**HOME, "CHURNSTREAM_BATCH_WAIT_MS": "2.5"}).batch_wait == timedelta(microseconds=2_500)
    with pytest.raises(InvalidSetting, match="CHURNSTREAM_BATCH_WAIT_MS is -1; it must lie between"):
        read_settings({**HOME, "CHURNSTREAM_BATCH_WAIT_MS": "-1"})


@pytest.mark.parametrize(
    ("name", "value"),
    [("STALENESS_SECONDS", "-1"), ("STALENESS_SECONDS", "soon"), ("CACHED_CUSTOMERS", "1"), ("SHADOW_SECONDS", "-0.1")],
)
def test_a_cache_that_cannot_be_is_a_sentence(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=f"CHURNSTREAM_{name} is '?{value}'?[;,]"):
        read_settings({**HOME, f"CHURNSTREAM_{name}": value})


def test_flushing_by_less_than_one_row_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="CHURNSTREAM_FLUSH_ROWS"):
        read_settings({**HOME, "CHURNSTREAM_FLUSH_ROWS": "0.5"})


@pytest.mark.parametrize("value", ["inf", "1e300"])
def test_a_flush_age_that_no_clock_reaches_is_refused(value: str) -> None:
    with pytest.raises(InvalidSetting, match="CHURNSTREAM_FLUSH_SECONDS"):
        read_settings({**HOME, "CHURNSTREAM_FLUSH_SECONDS": value})


def test_the_case_that_a_caller_names_stands_above_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_CASE", "first_day")
    assert settings_from_env(case="casual_game").case == "casual_game"
    assert settings_from_env(case="").case == "first_day"


def test_an_address_of_an_unknown_adapter_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHURNSTREAM_STREAMS", "carrier-pigeon://loft")
    with pytest.raises(InvalidSetting, match="'carrier-pigeon://loft' is no address of a stream or table"):
        open_stream("generated-stream", settings_from_env())

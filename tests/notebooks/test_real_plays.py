"""Every notebook again, on recorded plays of a game: no lookup table, no simulation, no model that comes along."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.notebooks.river import NOTEBOOKS, Executed, complaints, said

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plays(open_river: Callable[..., Any], real_data: Callable[[str], Path]) -> Iterator[Executed]:
    with open_river(case="casual_game", data=str(real_data("dodge_mud_plays.parquet"))) as (executed, _):
        yield executed


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_it_runs_to_its_end_and_complains_of_nothing(name: str, plays: Executed) -> None:
    assert complaints(plays[name]) == []


def test_every_play_is_accounted_for(plays: Executed) -> None:
    said_last = said(plays["5-serving"])
    assert "generated-stream: 153,920 in = 153,828 applied + 92 duplicate + 0 late + 0 invalid + 0 erased (exact)" in said_last
    assert "UNACCOUNTED" not in said_last

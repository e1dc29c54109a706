"""The search for parameters: no worse than the default, the same for the same seed, and optional."""

import sys

import pytest

from churnstream.errors import MissingExtra
from churnstream.models.search import SEARCHED, search
from churnstream.models.split import split
from churnstream.models.training import fit, settle_parameters, train
from tests.models.people import customers


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        MissingExtra, match=r"a search for parameters needs the extra 'search', .*: pip install 'churnstream\[search\]'"
    ):
        search(customers(400), trials=2, seed=1)


def test_a_search_finds_nothing_worse_than_the_default_on_the_validation_window() -> None:
    pytest.importorskip("optuna", reason="the extra `search` is not installed")
    data = customers(600)
    parts = split(data)

    def loss(**given: float) -> float:
        booster = fit(data, parts, settle_parameters(given, len(parts.training), 1))
        return float(booster.best_score["valid_0"]["binary_logloss"])

    said: list[str] = []
    found = search(data, trials=6, seed=1, say=said.append)
    assert set(found) == set(SEARCHED)
    assert loss(**found) <= loss(lambda_l2=0.001)
    assert found == search(data, trials=6, seed=1)
    assert [line.partition(":")[0] for line in said] == [f"trial {number} of 6" for number in range(1, 7)]
    assert train(data, 1, parameters=found).parameters["num_leaves"] == found["num_leaves"]


def test_a_search_sees_nothing_of_the_holdout_and_of_the_calibration_window() -> None:
    pytest.importorskip("optuna", reason="the extra `search` is not installed")
    data, turned = customers(600), customers(600)
    parts = split(data)
    for rows in (parts.holdout, parts.calibration):
        turned.label[rows] = 1 - turned.label[rows]
    assert search(turned, trials=3, seed=1) == search(data, trials=3, seed=1)

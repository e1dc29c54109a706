"""One row at a time: the same bits as ``Booster.predict``."""

import gc

import lightgbm as lgb
import numpy as np
import pytest

from churnstream.serving.explaining import explain
from churnstream.serving.fast import FastRow
from tests.serving.small_models import NAMES, TABLE, scorer, text, vectors

ROWS = 100_000


def test_a_hundred_thousand_rows_one_by_one_are_the_boosters_bit_for_bit() -> None:
    matrix = vectors(ROWS, seed=7)
    expected = lgb.Booster(model_str=text(1)).predict(matrix)  # with as many threads as it likes
    model = scorer(1)
    one_by_one = np.array([model.row(each) for each in matrix.tolist()])
    assert one_by_one.tobytes() == expected.tobytes()
    assert model.predict(matrix).tobytes() == expected.tobytes()


@pytest.mark.parametrize("rows", [0, 1, 2, 24, 25, 1_000])
def test_few_rows_and_many_are_scored_alike(rows: int) -> None:
    matrix = vectors(rows, seed=rows)
    model = scorer(1)
    assert model.score(matrix.tolist()) == model.predict(matrix).tolist()


def test_what_is_no_number_is_refused_and_leaves_the_next_row_right() -> None:
    model, row = scorer(1), vectors(1).tolist()[0]
    before = model.row(row)
    for wrong in ([*row[:-1], None], [*row[:-1], "1"], row[:-1], [*row, 1.0]):
        with pytest.raises((TypeError, ValueError)):
            model.row(wrong)
    assert model.row(row) == before


def test_a_row_of_another_length_than_the_models_is_refused_at_once() -> None:
    with pytest.raises(lgb.basic.LightGBMError):
        FastRow(lgb.Booster(model_str=text(1)), len(NAMES) - 1)


def test_it_keeps_its_model_alive() -> None:
    fast = FastRow(lgb.Booster(model_str=text(1)), len(NAMES))
    gc.collect()
    assert fast(vectors(1).tolist()[0]) == scorer(1).row(vectors(1).tolist()[0])


def contributions_add_up(rows: int) -> float:
    """The largest difference between the sum of the parts and the margin."""
    matrix, model = vectors(rows, seed=9), scorer(1)
    return float(np.abs(model.contributions(matrix).sum(axis=1) - model.margin(matrix)).max())


def test_contributions_add_up_to_the_margin() -> None:
    assert contributions_add_up(3_000) < 1e-6


@pytest.mark.slow
def test_contributions_add_up_to_the_margin_on_a_hundred_thousand_rows() -> None:
    assert contributions_add_up(ROWS) < 1e-6


def test_reasons_name_what_moves_the_margin_most_and_which_way() -> None:
    matrix, model = vectors(200, seed=3), scorer(1)
    (told,) = explain(model, TABLE, matrix[:1].tolist())
    assert abs(sum(told.contributions) + told.base - told.margin) < 1e-9
    strongest = np.argsort(-np.abs(told.contributions))[:3]
    assert len(told.reasons) == 3
    for place, sentence in zip(strongest, told.reasons, strict=True):
        feature = TABLE.features[place]
        assert sentence.startswith(feature.doc.rstrip("."))
        assert ("raises" in sentence) == (told.contributions[place] > 0)
        assert "not known" in sentence if np.isnan(matrix[0, place]) else feature.unit in sentence


def test_a_model_that_looks_at_nothing_gives_no_reasons() -> None:
    matrix = np.ones((100, len(NAMES)))
    label = np.arange(100) % 2
    dull = lgb.train({"objective": "binary", "verbosity": -1}, lgb.Dataset(matrix, label, feature_name=list(NAMES)), 2)
    model = type(scorer())(lgb.Booster(model_str=dull.model_to_string()), scorer().manifest)
    assert explain(model, TABLE, [[1.0] * len(NAMES)])[0].reasons == ()

"""Probabilities mean what they say, and the model's text says them by itself."""

import lightgbm as lgb
import numpy as np
import pytest

from churnstream.models.calibration import LEAST_TO_CALIBRATE, fit_calibration, fold
from churnstream.models.manifest import Calibration
from churnstream.models.measures import calibration_error


def sigmoid(margin: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-margin))


def judged(count: int, seed: int, slope: float = 0.4, intercept: float = -1.0) -> tuple[np.ndarray, np.ndarray]:
    """Margins that are too sure of themselves, and outcomes that follow ``slope * margin + intercept``."""
    rng = np.random.default_rng(seed)
    margin = rng.normal(0, 3, count)
    return margin, (rng.random(count) < sigmoid(slope * margin + intercept)).astype(np.int8)


def test_the_two_numbers_are_those_by_which_the_outcomes_were_drawn() -> None:
    found = fit_calibration(*judged(20_000, 1))
    assert (found.method, found.customers) == ("sigmoid", 20_000)
    assert found.slope == pytest.approx(0.4, abs=0.02)
    assert found.intercept == pytest.approx(-1.0, abs=0.05)


def test_probabilities_of_new_customers_are_right_where_they_were_wrong() -> None:
    found = fit_calibration(*judged(5_000, 1))
    margin, label = judged(20_000, 2)
    assert calibration_error(label, sigmoid(margin)) > 0.15
    assert calibration_error(label, sigmoid(found.slope * margin + found.intercept)) < 0.015


def test_classes_that_part_cleanly_give_finite_numbers() -> None:
    label = np.repeat([0, 1], 100).astype(np.int8)
    found = fit_calibration(np.where(label, 5.0, -5.0), label)
    # Platt's targets: of 100 who churned, 101 in 102 are counted on, and no more
    assert sigmoid(np.array(found.slope * 5 + found.intercept)) == pytest.approx(101 / 102, abs=1e-3)


def test_too_few_customers_and_a_model_that_ranks_backwards_are_left_alone() -> None:
    margin, label = judged(2 * LEAST_TO_CALIBRATE - 2, 3)
    assert fit_calibration(margin, label) == Calibration()
    margin, label = judged(1_000, 3)
    assert fit_calibration(-margin, label) == Calibration()


@pytest.fixture(scope="module")
def booster() -> lgb.Booster:
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(2_000, 6))
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    label = (np.nan_to_num(matrix[:, 0]) + rng.normal(size=2_000) > 0).astype(int)
    settings = {"objective": "binary", "verbosity": -1, "num_threads": 1, "num_leaves": 15}
    return lgb.train(settings, lgb.Dataset(matrix, label), 60)


def test_a_folded_model_gives_the_calibrated_probability_and_contributions_that_add_up(booster: lgb.Booster) -> None:
    calibration = Calibration(method="sigmoid", slope=0.7, intercept=-0.3, customers=1)
    folded = lgb.Booster(model_str=fold(booster.model_to_string(), calibration))
    rows = np.random.default_rng(5).normal(size=(100_000, 6))
    rows[::7, 2] = np.nan
    margin = np.asarray(booster.predict(rows, raw_score=True, num_threads=1))
    np.testing.assert_allclose(folded.predict(rows, num_threads=1), sigmoid(0.7 * margin - 0.3), rtol=0, atol=1e-12)
    some = rows[:5_000]
    added = np.asarray(folded.predict(some, pred_contrib=True, num_threads=1)).sum(axis=1)
    np.testing.assert_allclose(added, folded.predict(some, raw_score=True, num_threads=1), rtol=0, atol=1e-9)


def test_a_model_without_calibration_is_left_as_it_is(booster: lgb.Booster) -> None:
    text = booster.model_to_string()
    assert fold(text, Calibration()) == text

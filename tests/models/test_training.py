"""Models are judged on customers whom they have not seen, and the figures are those of the textbook."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from churnstream.errors import NotEnoughData
from churnstream.models.dataset import TrainingSet
from churnstream.models.training import LEAST_A_CLASS, measure, train

START = datetime(2026, 3, 1, tzinfo=UTC)


def customers(count: int, churned: np.ndarray | None = None, seed: int = 0) -> TrainingSet:
    """Customers in order of anchor; the first feature tells most of the label, the second nothing."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 2, count).astype(np.int8) if churned is None else churned.astype(np.int8)
    features = pd.DataFrame({"signal": label + rng.normal(0, 0.7, count), "noise": rng.normal(0, 1, count)})
    return TrainingSet(
        keys=pd.Series([f"u{place}" for place in range(count)], name="user_id"),
        features=features,
        label=label,
        anchor=pd.Series([START + timedelta(hours=place) for place in range(count)]),
        slices=pd.DataFrame({"country": np.where(np.arange(count) % 2, "DE", "ES")}),
        unmatured=0,
        until=START,
        digest="0" * 16,
    )


def test_the_figures_are_those_of_the_newest_customers() -> None:
    data = customers(400)
    trained = train(data, seed=1)
    assert len(trained.label) == 120
    np.testing.assert_array_equal(trained.label, data.label[280:])
    assert trained.metrics["holdout_customers"] == 120
    assert trained.metrics["auc"] > 0.7


def test_the_newest_customers_are_not_trained_on() -> None:
    data = customers(400)
    turned = customers(400)
    turned.label[280:] = 1 - turned.label[280:]
    assert train(turned, seed=1).text == train(data, seed=1).text


def test_the_same_data_and_seed_give_the_same_model() -> None:
    one, two = train(customers(400), seed=1), train(customers(400), seed=1)
    assert one.text == two.text
    assert one.metrics == two.metrics


def test_what_tells_the_label_matters_most() -> None:
    assert train(customers(400), seed=1).importance.index[0] == "signal"


def test_groups_are_judged_apart() -> None:
    slices = train(customers(400), seed=1).slices
    assert list(slices["value"]) == ["DE", "ES"]
    assert slices["customers"].sum() == 120


@pytest.mark.parametrize(
    ("count", "churned", "part"),
    [
        (10, None, "training"),
        (0, None, "training"),
        (400, np.arange(400) < 280, "training"),
        (400, np.arange(400) % 2 * (np.arange(400) < 224), "validation"),
    ],
)
def test_a_part_that_lacks_a_class_is_a_sentence(count: int, churned: np.ndarray | None, part: str) -> None:
    with pytest.raises(
        NotEnoughData, match=f"the {part} part has .* customers who churned and .* who stayed; it takes {LEAST_A_CLASS} of"
    ):
        train(customers(count, churned), seed=1)


def test_figures_by_hand() -> None:
    # ranked 0.9 0.8 0.7 0.2 with labels 1 0 1 0: three of the four pairs of a churner and a stayer are in the right order
    figures = measure(np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.2]), seed=0)
    assert figures["auc"] == 0.75
    assert figures["churn_rate"] == 0.5
    assert figures["lift_at_10_percent"] == 2.0
    assert figures["brier"] == pytest.approx((0.1**2 + 0.8**2 + 0.3**2 + 0.2**2) / 4)
    assert figures["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2, abs=1e-6)


def test_the_interval_around_the_auc_holds_it_and_narrows_with_more_customers() -> None:
    def width(count: int) -> float:
        rng = np.random.default_rng(5)
        label = rng.integers(0, 2, count)
        figures = measure(label, 1 / (1 + np.exp(-(label + rng.normal(0, 1, count)))), seed=0)
        assert figures["auc_low"] <= figures["auc"] <= figures["auc_high"]
        return figures["auc_high"] - figures["auc_low"]

    assert width(2_000) < width(200) / 2

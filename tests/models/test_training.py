"""Models are judged on customers whom they have not seen, and the figures are those of the textbook."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from churnstream.errors import NotEnoughData
from churnstream.models.measures import measure
from churnstream.models.resampling import auc, auc_interval, difference_interval
from churnstream.models.slices import worse_groups
from churnstream.models.split import LEAST_A_CLASS
from churnstream.models.training import PARAMETERS, threshold_for, train
from tests.models.people import customers


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
        (400, np.arange(400) % 2 * (np.arange(400) >= 275), "training"),
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


def test_the_lift_at_five_percent_is_of_the_five_percent() -> None:
    label = np.zeros(100, np.int8)
    label[[0, 1, 2, 50, 60, 70, 80, 90, 95, 99]] = 1
    figures = measure(label, np.linspace(1, 0, 100), seed=0)
    assert figures["lift_at_5_percent"] == pytest.approx(3 / 5 / 0.1)
    assert figures["lift_at_10_percent"] == pytest.approx(3 / 10 / 0.1)


def test_the_calibration_error_by_hand() -> None:
    # ten bins of ten: each predicts its own value, and in each one of ten more churns than was said
    said = np.repeat(np.arange(10) / 10, 10)
    label = np.concatenate([np.arange(10) < place + 1 for place in range(10)]).astype(np.int8)
    assert measure(label, said, seed=0)["calibration_error"] == pytest.approx(0.1)


def test_the_auc_is_scikit_learns_with_ties_and_weights() -> None:
    rng = np.random.default_rng(2)
    label, score, weight = rng.integers(0, 2, 500).astype(np.int8), rng.integers(0, 20, 500) / 20, rng.integers(0, 4, 500)
    assert auc(label, score) == pytest.approx(roc_auc_score(label, score))
    assert auc(label, score, weight.astype(float)) == pytest.approx(roc_auc_score(label, score, sample_weight=weight))


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    # Scores of two normal distributions one apart: the true AUC is Phi(1 / sqrt 2) = 0.7602.
    covered = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        label = rng.integers(0, 2, 300).astype(np.int8)
        low, high = auc_interval(label, label + rng.normal(0, 1, 300), seed, resamples=200)
        covered += low <= 0.7602 <= high
    assert covered >= 88


def test_two_models_that_are_one_differ_by_nothing() -> None:
    rng = np.random.default_rng(0)
    label, score = rng.integers(0, 2, 200).astype(np.int8), rng.random(200)
    assert difference_interval(label, score, score, seed=1).tolist() == [0.0, 0.0]


def test_rows_of_one_customer_are_drawn_together() -> None:
    # Ten rows each of 40 customers hold no more than 40 rows do: the interval must not shrink.
    rng = np.random.default_rng(3)
    label, one, other = rng.integers(0, 2, 40).astype(np.int8), rng.random(40), rng.random(40)
    low, high = difference_interval(label, one, other, seed=1)
    many = [np.repeat(each, 10) for each in (label, one, other)]
    together = difference_interval(*many, seed=1, groups=np.repeat(np.arange(40), 10))
    alone = difference_interval(*many, seed=1)
    assert together[1] - together[0] == pytest.approx(high - low, rel=0.2)
    assert alone[1] - alone[0] < (high - low) / 2


def test_simpler_ways_are_judged_on_the_same_customers() -> None:
    baselines = train(customers(400), seed=1).baselines
    assert list(baselines.index) == ["logistic regression", "recency"]
    assert baselines.loc["logistic regression", "auc"] > 0.75  # two normal distributions: a straight line is right
    assert baselines.loc["recency", "auc_low"] < 0.5 < baselines.loc["recency", "auc_high"]  # drawn at random


def test_a_feature_that_tells_the_label_alone_is_named_and_others_are_not() -> None:
    assert train(customers(400), seed=1).too_good == ()
    assert train(customers(400, noise=0.1), seed=1).too_good == ("signal",)


def test_a_group_that_is_served_worse_is_said_to_be() -> None:
    data = customers(2_000)
    spoilt = (data.slices["country"] == "DE").to_numpy()
    data.features.loc[spoilt, "signal"] = np.random.default_rng(1).normal(0, 1, int(spoilt.sum()))
    trained = train(data, seed=1)
    worse = dict(zip(trained.slices["value"], trained.slices["worse"], strict=True))
    assert worse == {"DE": True, "ES": False}
    (sentence,) = worse_groups(trained.slices, trained.metrics["auc"])
    assert sentence.startswith("country = DE: AUC 0.5")
    assert sentence.endswith(f"against {trained.metrics['auc']:.3f} on all")


def test_no_group_is_called_worse_where_all_are_alike() -> None:
    assert not train(customers(2_000), seed=1).slices["worse"].any()


def test_of_a_group_that_is_small_nothing_is_concluded() -> None:
    data = customers(400)
    data.slices.loc[:, "country"] = "ES"
    data.slices.loc[395:, "country"] = "LI"
    judged = train(data, seed=1).slices.set_index("value")
    assert judged.loc["LI", "customers"] == 5
    assert not judged.loc["LI", "worse"]


def test_given_parameters_stand_above_the_default_ones() -> None:
    trained = train(customers(400), seed=1, parameters={"num_leaves": 4})
    assert (trained.parameters["num_leaves"], trained.parameters["learning_rate"]) == (4, PARAMETERS["learning_rate"])


def test_how_it_goes_is_told() -> None:
    said: list[str] = []
    train(customers(400), seed=1, say=said.append)
    assert said[0].endswith("judging on the newest 120")
    assert said[-1].endswith("trees are kept")


def test_a_threshold_flags_the_share_that_was_asked_for() -> None:
    probability = np.random.default_rng(0).random(1_000)
    assert (probability >= threshold_for(probability, 0.1)).mean() == pytest.approx(0.1, abs=0.002)

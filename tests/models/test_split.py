"""Parts follow one another in time, and hold whole customers."""

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from churnstream.errors import NotEnoughData
from churnstream.models.split import Parts, split
from tests.models.people import customers, visits


def ordered(parts: Parts) -> list[np.ndarray]:
    return [parts.training, parts.validation, parts.calibration, parts.holdout]


def test_every_part_is_newer_than_the_one_before_and_none_is_lost() -> None:
    data = customers(1_000)
    parts = split(data)
    anchors = data.anchor.astype("int64").to_numpy()
    for before, after in zip(ordered(parts), ordered(parts)[1:], strict=False):
        assert anchors[before].max() < anchors[after].min()
    assert sum(map(len, ordered(parts))) + parts.unknown == 1_000
    assert len(parts.holdout) == 300
    np.testing.assert_array_equal(np.concatenate(ordered(parts)[:3]), parts.learnt)


def test_nothing_is_learnt_whose_label_was_not_known_when_the_first_of_the_holdout_was_judged() -> None:
    # an hour apart and known ten hours after the decision: the ten before the hold-out, less the one whose hour it is
    data = customers(400, matures=timedelta(hours=10))
    parts = split(data)
    assert parts.unknown == 9
    assert data.known.iloc[parts.learnt].max() <= data.at.iloc[parts.holdout].min()
    assert split(customers(400)).unknown == 0


def test_all_rows_of_a_customer_fall_into_one_part() -> None:
    data = visits(customers(200), 7)
    parts = split(data, holdout=0.333)
    people = [set(data.keys.iloc[rows]) for rows in ordered(parts)]
    for place, one in enumerate(people):
        assert all(one.isdisjoint(other) for other in people[place + 1 :])


def test_customers_straddle_when_asked_and_are_then_cut_by_the_decision() -> None:
    data = visits(customers(200), 7)
    parts = split(data, straddle=True)
    assert data.at.iloc[parts.learnt].max() <= data.at.iloc[parts.holdout].min()
    assert set(data.keys.iloc[parts.learnt]) & set(data.keys.iloc[parts.holdout])


def test_too_few_to_calibrate_on_are_learnt_from_instead() -> None:
    assert len(split(customers(250)).calibration) == 0
    assert len(split(customers(1_000)).calibration) == 105


def test_where_a_class_is_rare_more_customers_say_when_to_stop() -> None:
    data = visits(customers(200), 2)
    people = data.keys.unique()
    stayed = data.keys.isin([*people[:120:10], *people[150::5]])
    parts, usual = split(replace(data, label=(~stayed).to_numpy(np.int8))), split(data)
    assert len(parts.validation) > len(usual.validation)
    assert (~stayed.iloc[parts.training]).sum() > 0
    assert stayed.iloc[parts.validation].sum() >= 5
    assert set(data.keys.iloc[parts.training]).isdisjoint(data.keys.iloc[parts.validation])


def test_without_a_class_nothing_is_trained_and_the_sentence_says_what_is_missing() -> None:
    data = customers(100)
    with pytest.raises(NotEnoughData, match="customers who churned and 0 who stayed"):
        split(replace(data, label=np.ones_like(data.label)))

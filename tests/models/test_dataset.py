"""Training sets that were true at the time, whatever clocks and columns say."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from churnstream.codecs import schema
from churnstream.errors import LeakFound
from churnstream.features.reference import Observed, feature_vector, split_late
from churnstream.models.canary import watch
from churnstream.models.dataset import TrainingSet, build_training_set, features_at, on_time
from churnstream.models.watermark import watermark
from churnstream.usecases import load

CASE = load("casual_game")
START = datetime(2015, 1, 13, tzinfo=UTC)
DAY, WEEK = timedelta(days=1), timedelta(days=7)
Play = tuple[str, datetime, float]


def archive(plays: Sequence[Play]) -> pa.Table:
    """Plays in order of arrival, as the archive has them."""
    rows = [
        {"user_id": user, "event_type": "play", "event_time": at, "score": score, "origin_offset": place, "origin_row": 0}
        for place, (user, at, score) in enumerate(plays)
    ]
    extra = [("origin_offset", pa.int64()), ("origin_row", pa.int64())]
    columns = pa.schema([*schema(CASE), *(pa.field(*each) for each in extra if each[0] not in schema(CASE).names)])
    return pa.Table.from_pylist(rows, schema=columns)


@pytest.fixture(scope="module")
def plays() -> list[Play]:
    """150 players over thirty days, most of them silent after a while; some plays arrive late, a few too late."""
    rng = np.random.default_rng(7)
    arrivals = []
    for player in range(150):
        at = START + timedelta(hours=rng.uniform(0, 30 * 24))
        for _ in range(int(rng.integers(1, 30))):
            delay = timedelta(hours=rng.uniform(0, 3)) if rng.random() < 0.05 else timedelta(0)
            arrivals.append((at + delay, (f"p{player}", at, round(float(rng.uniform(0, 500)), 2))))
            at += timedelta(hours=float(rng.exponential(1 if rng.random() < 0.8 else 60)))
    return [play for _, play in sorted(arrivals) if play[1] < START + timedelta(days=31)]


@pytest.fixture(scope="module")
def events(plays: list[Play]) -> pa.Table:
    return archive(plays)


def test_every_point_is_what_the_slow_reference_says_of_what_had_happened_by_then(plays: list[Play], events: pa.Table) -> None:
    hours = (timedelta(minutes=10), timedelta(hours=1), timedelta(hours=6.5), DAY)
    data = build_training_set(events, CASE, None, hours)
    histories: dict[str, list[Observed]] = {}
    for user, at, score in plays:
        histories.setdefault(user, []).append(Observed("play", at, {"score": score}))
    applied = {user: split_late(CASE.features.lateness, each)[0] for user, each in histories.items()}
    until = sorted((max(each.at for each in told) for told in applied.values()), reverse=True)[2]
    wanted = {}
    for user, told in applied.items():
        first = min(each.at for each in told)
        for decision in hours:
            at = first + decision
            if at + WEEK <= until:
                churned = not any(at <= each.at < at + WEEK for each in told)
                before = [each for each in told if each.at < at]
                silence = (at - max(each.at for each in before)).total_seconds()
                wanted[user, at] = feature_vector(CASE.features, before, at), int(churned), at + WEEK, silence
    assert len(wanted) > 300
    assert set(zip(data.keys, data.at, strict=True)) == set(wanted)
    assert data.unmatured == len(applied) * len(hours) - len(wanted)
    for place, key in enumerate(zip(data.keys, data.at, strict=True)):
        vector, label, known, silence = wanted[key]
        np.testing.assert_allclose(data.features.iloc[place], vector, rtol=1e-9, atol=1e-9, equal_nan=True)
        assert (data.label[place], data.known[place], data.silence[place]) == (label, known, silence)


def test_rows_stand_in_order_of_anchor_and_a_customers_rows_together(events: pa.Table) -> None:
    data = build_training_set(events, CASE, None, (DAY, timedelta(hours=1)))
    assert data.anchor.is_monotonic_increasing
    assert (data.keys != data.keys.shift()).sum() == data.keys.nunique()


# -- where the archive ends -----------------------------------------------------------------------------------------------


def same(one: TrainingSet, other: TrainingSet, of: set[str]) -> None:
    for name in ("features", "keys", "at", "label"):
        left, right = (np.asarray(getattr(each, name))[each.keys.isin(of).to_numpy()] for each in (one, other))
        np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("ahead", [timedelta(days=3), timedelta(days=400), timedelta(days=20_000)])
def test_a_clock_that_runs_ahead_makes_no_label_known(plays: list[Play], events: pa.Table, ahead: timedelta) -> None:
    before = build_training_set(events, CASE, None)
    wrong = [("p3", plays[-1][1] + ahead, 1.0), ("stranger", plays[-1][1] + ahead, 1.0)]
    after = build_training_set(archive([*plays, *wrong]), CASE, None)
    # two wrong clocks among 151: the archive ends where three agree, which is here a moment earlier than before
    assert after.until <= before.until + timedelta(hours=1)
    assert abs(after.until - before.until) < DAY
    same(before, after, set(before.keys) & set(after.keys) - {"p3"})
    assert "stranger" not in set(after.keys)
    assert abs(len(after) - len(before)) <= 2


def test_the_watermark_is_what_three_have_reached_or_one_in_a_thousand() -> None:
    def ends(count: int) -> pd.Series:
        return pd.Series(pd.date_range(START, periods=count, freq="h"))

    assert watermark(ends(100)) == ends(100).iloc[-3]
    assert watermark(ends(10_000)) == ends(10_000).iloc[-10]
    assert watermark(ends(2)) == ends(2).iloc[0]
    assert watermark(ends(1)) == ends(1).iloc[0]


# -- the canary -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(events: pa.Table) -> TrainingSet:
    return build_training_set(events, CASE, None)


def planted(data: TrainingSet, **columns: Any) -> TrainingSet:
    return replace(data, features=data.features.assign(**columns))


def test_an_honest_set_passes(data: TrainingSet, events: pa.Table) -> None:
    watch(data, events, CASE, None)
    several = build_training_set(events, CASE, None, (timedelta(hours=1), DAY))
    watch(several, events, CASE, None)


def test_a_column_that_nobody_can_compute_again_fails_by_its_name(data: TrainingSet, events: pa.Table) -> None:
    with pytest.raises(LeakFound, match="the column hunch looks into the future: nothing computes it") as caught:
        watch(planted(data, hunch=data.label * 1.0), events, CASE, None)
    assert caught.value.column == "hunch"


def plays_in_all(events: pa.Table, rows: pd.DataFrame) -> pd.Series:
    """How many plays of each customer the archive holds: innocent to look at, and all of the label."""
    counts = pc.value_counts(events.column("user_id")).to_pylist()
    return rows["user_id"].map({each["values"]: float(each["counts"]) for each in counts}).fillna(0.0)


def plays_before(events: pa.Table, rows: pd.DataFrame) -> pd.Series:
    table = events.select(["user_id", "event_time"]).to_pandas().merge(rows.reset_index(names="row"), on="user_id")
    return (table["event_time"] < table["at"]).groupby(table["row"]).sum().reindex(rows.index).fillna(0.0).astype(float)


@pytest.mark.parametrize(("column", "leaks"), [(plays_in_all, True), (plays_before, False)])
def test_a_column_that_is_computed_is_caught_when_and_only_when_it_looks_ahead(
    data: TrainingSet, events: pa.Table, column: Any, leaks: bool
) -> None:
    def compute(table: pa.Table, rows: pd.DataFrame) -> pd.DataFrame:
        return features_at(table, rows, CASE, None).assign(planted=column(table, rows))

    rows = pd.DataFrame({"user_id": data.keys, "at": data.at})
    suspected = planted(data, planted=column(on_time(events, CASE.features.lateness), rows))
    if not leaks:
        watch(suspected, events, CASE, None, compute=compute)
        return
    with pytest.raises(
        LeakFound, match=r"the column planted looks into the future: for the customer who was judged at 2015-.*differ"
    ):
        watch(suspected, events, CASE, None, compute=compute)


@pytest.mark.parametrize("name", CASE.features.names)
def test_a_feature_whose_numbers_are_not_what_was_known_fails_by_its_name(data: TrainingSet, events: pa.Table, name: str) -> None:
    later = {name: data.features[name].fillna(0) + data.label}  # a little of the label, in a column that has a good name
    with pytest.raises(LeakFound) as caught:
        watch(planted(data, **later), events, CASE, None)
    assert caught.value.column == name


def test_one_wrong_row_among_all_is_enough(data: TrainingSet, events: pa.Table) -> None:
    table = data.features.copy()
    table.loc[17, "play_count_24h"] += 1
    with pytest.raises(LeakFound, match=f"play_count_24h .* 1 of {len(data)} rows differ"):
        watch(replace(data, features=table), events, CASE, None)

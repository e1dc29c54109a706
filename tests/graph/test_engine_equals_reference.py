"""The fast engine against the slow exact answer, at every event, over histories that nobody would wish for."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from math import isclose, isnan

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.codecs import schema
from churnstream.errors import FingerprintMismatch, UnknownVersion, UnreadablePayload
from churnstream.features.definitions import READS_NO_FIELD, Attribute, Feature, FeatureTable, Op, Ratio, Trend
from churnstream.features.reference import Observed, feature_vector
from churnstream.features.windows import First, Lifetime, Session, Sliding, Tumbling, Window
from churnstream.graph.engine import StateReader, WindowEngine
from churnstream.usecases.case import EventType, Field, Kind, SilenceLabel, UseCase

START = datetime(2026, 3, 1, tzinfo=UTC)
EXACT = (Op.COUNT, Op.SUM, Op.MIN, Op.MAX, Op.FIRST, Op.LAST, Op.SINCE_LAST, Op.LAST_AT, Op.DISTINCT)
MINUTE = 60_000_000


ANCHORED = {"1h": First(timedelta(hours=1)), "5h": First(timedelta(hours=5))}
UNANCHORED = {
    "slide1h": Sliding(timedelta(hours=1), timedelta(minutes=10)),
    "slide3h": Sliding(timedelta(hours=3), timedelta(minutes=10)),
    "slide3hago": Sliding(timedelta(hours=3), timedelta(minutes=10), timedelta(minutes=20)),
    "exact1h": Sliding(timedelta(hours=1)),
    "exact1hago": Sliding(timedelta(hours=1), None, timedelta(minutes=7)),
    "tumble1h": Tumbling(timedelta(hours=1)),
    "session": Session(timedelta(minutes=20)),
    "life": Lifetime(),
}


def every_op(event: str, field: str, windows: Mapping[str, Window]) -> tuple[Feature, ...]:
    return tuple(
        Feature(f"{event}_{op}_{suffix}", event, None if op in READS_NO_FIELD else field, op, window, "", "")
        for suffix, window in windows.items()
        for op in Op
        if (op is not Op.LAST_AT or isinstance(window, First)) and (op is not Op.DISTINCT or keeps_values(window))
    )


def keeps_values(window: Window) -> bool:
    return not isinstance(window, Session) and not (isinstance(window, Sliding) and window.ago)


def tiny_case(requires: str | None, anchor: str | None = "buy") -> UseCase:
    windows = UNANCHORED | (ANCHORED if anchor else {})
    slide = Feature("slide", "look", "seconds", Op.SUM, UNANCHORED["slide1h"], "", "")
    return UseCase(
        name="tiny",
        title="Tiny",
        events=(
            EventType("hello", (Field("rank", Kind.NUMBER),)),
            EventType("buy", (Field("amount", Kind.NUMBER),)),
            EventType("look", (Field("seconds", Kind.NUMBER),)),
        ),
        features=FeatureTable(
            anchor=anchor,
            requires=requires,
            lateness=timedelta(minutes=30),
            features=(
                Attribute("rank", "hello", "rank", "", "", default=-1.0),
                *every_op("buy", "amount", windows),
                *every_op("look", "seconds", windows),
                Trend("look_trend", slide, timedelta(hours=1), "", ""),
                Ratio("looks_a_buy", "look_count_slide3h", "buy_count_slide3h", "", ""),
            ),
        ),
        label=SilenceLabel("buy", timedelta(days=1)),
        serving_events=("buy", "look"),
        decision=timedelta(hours=5),
        example={},
    )


FIELD = {"hello": "rank", "buy": "amount", "look": "seconds"}

arrivals = st.lists(
    st.tuples(
        st.sampled_from(["ann", "bob", "eve"]),
        st.sampled_from(["hello", "buy", "look", "look"]),
        st.one_of(st.integers(0, 8 * 60).map(lambda minutes: minutes * 60_000_000), st.integers(0, 8 * 3_600_000_000)),
        st.one_of(st.just(100.10), st.integers(0, 10**7).map(lambda cents: cents / 100), st.floats(0, 1e9)),
    ),
    max_size=60,
)


def batch_of(case: UseCase, rows: Sequence[tuple[str, str, int, float]]) -> pa.RecordBatch:
    columns = {
        "user_id": [who for who, _, _, _ in rows],
        "event_type": pa.DictionaryArray.from_arrays(
            pa.array([case.event_names.index(event) for _, event, _, _ in rows], pa.int8()), pa.array(case.event_names)
        ),
        "event_time": pa.array([START + timedelta(microseconds=at) for _, _, at, _ in rows], pa.timestamp("us", tz="UTC")),
    }
    for name in FIELD.values():
        columns[name] = pa.array([value if FIELD[event] == name else None for _, event, _, value in rows], pa.float64())
    return pa.RecordBatch.from_pydict(columns, schema=schema(case))


def assert_equal(case: UseCase, got: Sequence[float] | None, wanted: Sequence[float] | None) -> None:
    assert (got is None) == (wanted is None)
    if got is None or wanted is None:
        return
    largest = max([1e-300, *(abs(value) for value in wanted if not isnan(value))])
    for feature, mine, theirs in zip(case.features.features, got, wanted, strict=True):
        if isnan(theirs) or isnan(mine):
            assert isnan(mine) == isnan(theirs), (feature.name, mine, theirs)
        elif isinstance(feature, Attribute) or (isinstance(feature, Feature) and feature.op in EXACT):
            assert mine == theirs, feature.name
        else:
            assert isclose(mine, theirs, rel_tol=1e-9, abs_tol=rounding(feature, wanted, case, largest)), (
                feature.name,
                mine,
                theirs,
            )


def rounding(feature: object, vector: Sequence[float], case: UseCase, largest: float) -> float:
    """Amounts that are all equal leave a variance of rounding only: what counts is its size beside the squared amounts."""
    if isinstance(feature, Trend):
        return 1e-12 * largest  # the difference of two large sums
    if not isinstance(feature, Feature) or feature.op not in (Op.VAR, Op.STD):
        return 0.0
    top = vector[case.features.names.index(feature.name.replace(f"_{feature.op}_", "_max_"))]
    return 1e-15 * top * top if feature.op is Op.VAR else 3.2e-8 * top


@pytest.mark.parametrize(("requires", "anchor"), [(None, "buy"), ("hello", "buy"), (None, None)])
@given(
    rows=arrivals,
    cuts=st.lists(st.integers(0, 60), max_size=4),
    restart=st.booleans(),
    silence=st.integers(0, 6 * 3_600_000_000),
)
@settings(max_examples=200, deadline=None)
def test_the_engine_equals_the_reference_after_every_event_and_at_instants_without_one(
    requires: str | None,
    anchor: str | None,
    rows: list[tuple[str, str, int, float]],
    cuts: list[int],
    restart: bool,
    silence: int,
) -> None:
    case = tiny_case(requires, anchor)
    engine, stored = WindowEngine(case), {}
    applied: dict[str, list[Observed]] = {}
    newest: dict[str, datetime] = {}
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for start, end in pairwise(bounds):
        done = engine.apply(batch_of(case, rows[start:end]))
        stored.update(done.states)
        vectors = dict(zip((start + row for row in done.emitted.tolist()), done.vectors, strict=True))
        late = {start + row for row in done.late.tolist()}
        for place in range(start, end):
            who, event, offset, value = rows[place]
            at = START + timedelta(microseconds=offset)
            behind = who in newest and at < newest[who] - case.features.lateness
            assert behind == (place in late)
            if behind:
                continue
            newest[who] = max(at, newest.get(who, at))
            applied.setdefault(who, []).append(Observed(event, at, {FIELD[event]: value}))
            wanted = feature_vector(case.features, applied[who], newest[who])
            assert_equal(case, vectors.get(place), wanted if event in case.serving_events else None)
        if restart:
            engine = WindowEngine(case)
            engine.restore(stored.items())
    reader = StateReader(case)
    for who, history in applied.items():
        wanted = feature_vector(case.features, history, newest[who])
        assert_equal(case, reader.vector(stored[who]), wanted)
        assert_equal(case, engine.vector(who), wanted)
        later = newest[who] + timedelta(microseconds=silence)
        assert_equal(case, engine.vector(who, later), feature_vector(case.features, history, later))
        assert_equal(case, reader.vector(stored[who], later), feature_vector(case.features, history, later))
        assert reader.newest(stored[who]) == newest[who]


def test_seven_equal_amounts_have_no_variance() -> None:
    case = tiny_case(None)
    engine = WindowEngine(case)
    engine.apply(batch_of(case, [("ann", "buy", minute * 60_000_000, 100.10) for minute in range(7)]))
    vector = engine.vector("ann")
    assert vector is not None
    assert 0.0 <= vector[case.features.names.index("buy_var_1h")] < 1e-20


def test_an_event_at_the_end_of_the_window_does_not_count() -> None:
    # buy at 00:00, looks at 00:59:59.999999 (inside the hour) and at 01:00 (outside)
    case = tiny_case(None)
    engine = WindowEngine(case)
    hour = 3_600_000_000
    engine.apply(batch_of(case, [("ann", "buy", 0, 1.0), ("ann", "look", hour - 1, 5.0), ("ann", "look", hour, 7.0)]))
    vector = engine.vector("ann")
    assert vector is not None
    assert vector[case.features.names.index("look_sum_1h")] == 5.0
    assert vector[case.features.names.index("look_sum_5h")] == 12.0


def test_a_late_bet_does_not_reopen_a_closed_window() -> None:
    # buy at 00:00; a look at 03:00 makes one at 02:29 late (more than 30 minutes behind), one at 02:30 not
    case = tiny_case(None)
    engine = WindowEngine(case)
    minute = 60_000_000
    done = engine.apply(
        batch_of(
            case,
            [
                ("ann", "buy", 0, 1.0),
                ("ann", "look", 180 * minute, 1.0),
                ("ann", "look", 149 * minute, 1.0),
                ("ann", "look", 150 * minute, 1.0),
            ],
        )
    )
    assert done.late.tolist() == [2]


def test_one_customers_wrong_clock_makes_nobody_else_late() -> None:
    case = tiny_case(None)
    done = WindowEngine(case).apply(batch_of(case, [("eve", "buy", 8 * 3_600_000_000, 1.0), ("ann", "buy", 0, 1.0)]))
    assert done.late.tolist() == []


def test_state_of_other_features_is_refused() -> None:
    engine = WindowEngine(tiny_case(None))
    stored = engine.apply(batch_of(tiny_case(None), [("ann", "buy", 0, 1.0)])).states
    with pytest.raises(FingerprintMismatch, match="replay the archive"):
        WindowEngine(tiny_case("hello")).restore(stored.items())


@pytest.mark.parametrize("size", [34, 67, 1_060, 1_100])
def test_events_that_wait_for_an_anchor_are_kept_for_as_long_as_it_may_come(size: int) -> None:
    # a look every two seconds and no purchase yet; then a purchase arrives, as far behind as the lateness allows
    case = tiny_case(None)
    engine = WindowEngine(case)
    looks = [place * 2_000_000 for place in range(size)]
    bought = max(0, looks[-1] - 30 * 60_000_000)
    engine.apply(batch_of(case, [("ann", "look", at, 1.0) for at in looks]))
    engine.apply(batch_of(case, [("ann", "buy", bought, 1.0)]))
    vector = engine.vector("ann")
    assert vector is not None
    assert vector[case.features.names.index("look_count_1h")] == sum(at >= bought for at in looks)


@given(rows=arrivals, cut=st.integers(0, 60))
@settings(max_examples=60, deadline=None)
def test_a_restart_changes_no_bit(rows: list[tuple[str, str, int, float]], cut: int) -> None:
    case = tiny_case(None)
    undisturbed, before, after = WindowEngine(case), WindowEngine(case), WindowEngine(case)
    wanted: dict[str, bytes] = {}
    for part in (rows[:cut], rows[cut:]):
        wanted.update(undisturbed.apply(batch_of(case, part)).states)
    stored = before.apply(batch_of(case, rows[:cut])).states
    after.restore(stored.items())
    assert stored | after.apply(batch_of(case, rows[cut:])).states == wanted


def test_state_of_another_layout_is_refused() -> None:
    case = tiny_case(None)
    stored = WindowEngine(case).apply(batch_of(case, [("ann", "buy", 0, 1.0)])).states["ann"]
    with pytest.raises(UnknownVersion, match="layout 2, this version reads 4"):
        WindowEngine(case).restore([("ann", b"\x02" + stored[1:])])


@pytest.mark.parametrize("cut", [24, 800, -1, -8])
def test_state_that_was_cut_short_is_refused(cut: int) -> None:
    case = tiny_case(None)
    stored = WindowEngine(case).apply(batch_of(case, [("ann", "buy", 0, 1.0), ("ann", "look", MINUTE, 1.0)])).states["ann"]
    with pytest.raises(UnreadablePayload, match="damaged"):
        WindowEngine(case).restore([("ann", stored[:cut])])


def test_codes_of_another_order_mean_the_same_events() -> None:
    case = tiny_case(None)
    batch = batch_of(case, [("ann", "buy", 0, 1.0), ("ann", "look", MINUTE, 2.0)])
    names = list(reversed(case.event_names))
    types = pa.DictionaryArray.from_arrays(
        pa.array([names.index(name) for name in batch.column("event_type").to_pylist()], pa.int8()), pa.array(names)
    )
    turned = batch.set_column(batch.schema.get_field_index("event_type"), "event_type", types)
    assert WindowEngine(case).apply(turned).states == WindowEngine(case).apply(batch).states


def test_a_window_that_has_emptied_costs_its_customer_nothing_more() -> None:
    case = tiny_case(None, None)
    engine = WindowEngine(case)
    looks = [("ann", "look", minute * MINUTE, 1.0) for minute in range(100)]
    sizes = [len(engine.apply(batch_of(case, [row])).states["ann"]) for row in [*looks, ("ann", "hello", 10**4 * MINUTE, 1.0)]]
    assert sizes[-1] < sizes[50]
    assert sizes[-1] < len(WindowEngine(case).apply(batch_of(case, looks[:1])).states["ann"])


def test_cells_beyond_the_bits_of_a_word_are_read_as_well() -> None:
    spans = [timedelta(minutes=10 * (1 + number)) for number in range(80)]
    features = tuple(
        Feature(f"look_{number}", "look", "seconds", Op.SUM, Sliding(span, timedelta(minutes=10)), "", "")
        for number, span in enumerate(spans)
    )
    case = replace(tiny_case(None, None), features=FeatureTable(features=features))
    engine, history = WindowEngine(case), []
    for minute in range(0, 900, 13):
        at = START + timedelta(minutes=minute)
        done = engine.apply(batch_of(case, [("ann", "look", minute * MINUTE, float(minute))]))
        history.append(Observed("look", at, {"seconds": float(minute)}))
        assert done.vectors[0].tolist() == list(feature_vector(case.features, history, at) or ())

"""The features graph, as MLRun runs it: the stream's state equals the slow reference, whatever happens on the way."""

import random
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from churnstream.codecs import decode_batch
from churnstream.errors import FingerprintMismatch, StorageFailed
from churnstream.features.reference import Observed, feature_vector, split_late
from churnstream.graph import steps
from churnstream.graph.engine import StateReader
from churnstream.graph.state import VERSION_WORD
from churnstream.journal import Changes, Journal
from churnstream.topology import DEAD_LETTERS, ENRICHED, FEATURES, SERVING
from churnstream.wiring import open_table
from tests.functions.river import River, assert_conserved

BEFORE, NAME = ("incoming-event-handler", "enrich-stream"), "stream-to-features"


def states(river: River) -> dict[str, tuple[np.ndarray | None, datetime]]:
    """Each customer's features, and the instant that they stand for, as any process reads them."""
    reader, table = StateReader(river.case), open_table(FEATURES, river.settings)
    found = {key: (reader.vector(state), reader.newest(state)) for key, state in table.items()}
    table.close()
    return found


def assert_same(got: Any, wanted: Any) -> None:
    """Vectors are equal: within 1e-9, and NaN where the other is NaN."""
    assert (got is None) == (wanted is None)
    if wanted is not None:
        np.testing.assert_allclose(np.array(got, float), np.array(wanted, float), rtol=1e-9, atol=1e-9, equal_nan=True)


def assert_online_equals_offline(river: River) -> int:
    """Every customer's state is what the reference makes of all that arrived; returns how many events were late."""
    found, late = states(river), 0
    arrived = river.observed()
    assert set(found) == set(arrived)
    for user, events in arrived.items():
        applied, too_late = split_late(river.case.features.lateness, events)
        newest = max(each.at for each in applied)
        late += len(too_late)
        assert found[user][1] == newest
        assert_same(found[user][0], feature_vector(river.case.features, applied, newest))
    return late


def sent(river: River, **params: Any) -> list[Mapping[str, Any]]:
    """Simulated events, in order of event time."""
    assert river.case.simulate is not None
    return list(river.case.simulate(**({"seed": 5, "customers": 30, "events": 3_000} | params)))


def mixed_up(events: list[Mapping[str, Any]], seed: int) -> list[Mapping[str, Any]]:
    """What a bad network makes of them: up to 50 minutes out of order, one in twenty twice, one in fifty hours late."""
    rng = random.Random(seed)
    arrivals: list[tuple[datetime, Mapping[str, Any]]] = []
    for event in events:
        delay = timedelta(minutes=rng.uniform(0, 50)) if rng.random() < 0.3 else timedelta(0)
        if rng.random() < 0.02:
            delay = timedelta(hours=rng.uniform(1, 30))
        arrivals.append((event["event_time"] + delay, event))
        if rng.random() < 0.05:
            arrivals.append((event["event_time"] + delay + timedelta(minutes=rng.uniform(0, 30)), event))
    return [event for _, event in sorted(arrivals, key=lambda arrival: arrival[0])]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose enriched stream holds a day that arrived out of order, twice and late."""
    river = River(tmp_path_factory.mktemp("template"), "first_day")
    river.job("enrichment-table", "build")
    river.send(mixed_up(sent(river), seed=1))
    river.flow(*BEFORE)
    return river.home


@pytest.fixture
def enriched(template: Path, tmp_path: Path) -> River:
    return River(Path(shutil.copytree(template, tmp_path / "home")), "first_day")


def test_online_equals_offline_for_every_customer_after_a_day_out_of_order_twice_and_late(enriched: River) -> None:
    enriched.flow(NAME)
    late = assert_online_equals_offline(enriched)
    assert late > 20
    letters = enriched.rows(DEAD_LETTERS, NAME)
    assert len(letters) == late == enriched.lines()[NAME, ENRICHED].late
    assert {each["reason"] for each in letters} == {"the event is late: more than 1 hour behind the newest event of its customer"}
    assert_conserved(enriched, NAME)


def test_every_vector_in_the_serving_stream_is_the_references_at_its_event(enriched: River) -> None:
    enriched.flow(NAME)
    table, lateness = enriched.case.features, enriched.case.features.lateness
    vectors = {(row["user_id"], row["origin_offset"], row["origin_row"]): row for row in enriched.rows(SERVING)}
    seen: dict[str, list[Observed]] = {}
    checked = 0
    for place, event in places(enriched):
        history = seen.setdefault(place[0], [])
        newest = max((each.at for each in history), default=event.at)
        if event.at < newest - lateness:
            assert place not in vectors
            continue
        history.append(event)
        wanted = feature_vector(table, history, max(newest, event.at)) if event.event in enriched.case.serving_events else None
        got = vectors.pop(place, None)
        assert_same(None if got is None else [got[name] for name in table.names], wanted)
        if got is not None:
            assert got["event_time"] == event.at
        checked += wanted is not None
    assert vectors == {}
    assert checked > 2_000


def places(river: River) -> list[tuple[tuple[str, int, int], Observed]]:
    """Every enriched event with (customer, offset, row), in order of arrival."""
    numbers = {each.field for each in river.case.features.features if each.field is not None}
    found = []
    for record in river.records(ENRICHED):
        for row, event in enumerate(decode_batch(record.payload).to_pylist()):
            values = {name: event[name] for name in numbers if event[name] is not None}
            observed = Observed(event["event_type"], event["event_time"], values)
            found.append(((event["user_id"], record.offset, row), observed))
    return found


def test_the_label_is_in_no_state_vector_or_letter(enriched: River) -> None:
    enriched.flow(NAME)
    assert "label" not in enriched.rows(SERVING)[0]
    assert all('"label"' not in each["payload"] for each in enriched.rows(DEAD_LETTERS, NAME))


def test_a_function_that_is_restarted_after_every_few_records_ends_where_one_that_never_was_does(
    enriched: River, new_river: Callable[..., River]
) -> None:
    records = enriched.records(ENRICHED)
    for start in range(0, len(records), 12):
        with enriched.door(NAME) as door:
            for record in records[start : start + 12]:
                door.apply(ENRICHED, record.shard, record)
    assert_online_equals_offline(enriched)
    with enriched.door(NAME) as door:
        for record in records:
            assert door.apply(ENRICHED, record.shard, record) == {"replayed": True}
    assert_conserved(enriched, NAME)


def fail_now_and_then(monkeypatch: pytest.MonkeyPatch, step: str) -> list[int]:
    """Every third time, this step fails; returns a list that grows with each failure."""
    failures: list[int] = []
    calls = iter(range(10**9))

    def due() -> bool:
        if next(calls) % 3 != 2:
            return False
        failures.append(1)
        return True

    if step == "decode":
        decode = steps.decode_batch
        monkeypatch.setattr(steps, "decode_batch", lambda payload: fail(OSError("a bit fell over")) if due() else decode(payload))
    elif step == "update":
        apply = steps.WindowEngine.apply

        def half(self: Any, batch: Any, states: bool) -> Any:
            done = apply(self, batch, states)  # memory has run ahead when it fails
            return fail(MemoryError("no room")) if due() else done

        monkeypatch.setattr(steps.WindowEngine, "apply", half)
    else:
        write = Journal.write

        def unwritable(self: Journal, changes: Changes, now: datetime) -> None:
            if due():
                fail(StorageFailed("the disk is full"))
            write(self, changes, now)

        monkeypatch.setattr(Journal, "write", unwritable)
    return failures


def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize("step", ["decode", "update", "deliver"])
def test_a_failing_step_is_raised_and_trying_again_ends_where_it_would_have(
    enriched: River, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    raised = 0
    with enriched.door(NAME) as door, monkeypatch.context() as patch:
        failures = fail_now_and_then(patch, step)
        for record in enriched.records(ENRICHED):
            before = len(failures)
            try:
                door.apply(ENRICHED, record.shard, record)
            except (OSError, MemoryError, StorageFailed, RuntimeError):
                raised += 1
                door.apply(ENRICHED, record.shard, record)
            assert raised == len(failures)
            assert len(failures) - before < 2
    assert raised > 10
    assert_online_equals_offline(enriched)
    assert_conserved(enriched, NAME)
    rows = [(row["user_id"], row["origin_offset"], row["origin_row"]) for row in enriched.rows(SERVING)]
    assert len(rows) == len(set(rows))


def test_what_the_graph_cannot_read_is_raised_and_not_passed(enriched: River) -> None:
    record = replace(enriched.records(ENRICHED)[0], payload=b"no batch")
    with enriched.door(NAME) as door:
        with pytest.raises(Exception, match="no Arrow stream"):
            door.apply(ENRICHED, record.shard, record)
        door.pump()
    assert_conserved(enriched, NAME)


def test_state_of_other_definitions_is_refused_before_anything_is_written(enriched: River) -> None:
    enriched.flow(NAME)
    before = states(enriched)
    enriched.send(sent(enriched, events=100, seed=6))
    enriched.flow(*BEFORE)
    changed = steps.WindowEngine.restore
    with enriched.door(NAME) as door, pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            steps.WindowEngine,
            "restore",
            lambda self, states: changed(self, [(key, VERSION_WORD + b"x" * 800) for key, _ in states]),
        )
        with pytest.raises((FingerprintMismatch, RuntimeError), match="replay the archive into empty streams"):
            door.pump()
    assert {key: at for key, (_, at) in states(enriched).items()} == {key: at for key, (_, at) in before.items()}


def test_a_customer_whose_registration_never_came_has_no_features_and_no_predictions(river: River) -> None:
    events = [each for each in sent(river, customers=1, events=40) if each["event_type"] != "new_registration"]
    river.send(events)
    river.flow(*BEFORE, NAME)
    ((vector, _),) = states(river).values()
    assert vector is None
    assert river.rows(SERVING) == []
    assert_conserved(river, NAME)


def test_an_event_of_the_year_9999_makes_only_its_own_customer_late(river: River) -> None:
    ann, bob = sent(river, customers=1, events=40, seed=1), sent(river, customers=1, events=40, seed=2)
    wrong = dict(ann[-1]) | {"event_time": "9999-12-31T23:59:59.999999Z"}
    river.send([*ann[:20], wrong, *ann[20:], *bob])
    river.flow(*BEFORE, NAME)
    assert river.lines()[NAME, ENRICHED].late == len(ann) - 20
    assert_online_equals_offline(river)
    assert_conserved(river, NAME)

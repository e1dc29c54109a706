"""The generator: the same events for the same arguments, each of them once, in order."""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from churnstream.errors import InvalidSetting, UnreadablePayload
from churnstream.journal import Changes, Journal
from churnstream.records import shard_of
from churnstream.topology import GENERATED, SHARDS
from tests.doors import load_function
from tests.functions.river import Job, River

NewRiver = Callable[..., River]


def content(river: River) -> list[tuple[int, bytes]]:
    return [(each.shard, each.payload) for each in river.records(GENERATED)]


def test_the_same_seed_gives_the_same_bytes(new_river: NewRiver) -> None:
    one, two, other = new_river(), new_river(), new_river()
    one.generate(customers=20, events=1_000, seed=7)
    two.generate(customers=20, events=1_000, seed=7)
    other.generate(customers=20, events=1_000, seed=8)
    assert content(one) == content(two)
    assert content(one) != content(other)


def test_running_again_adds_nothing(river: River) -> None:
    first = river.generate(customers=20, events=1_000)
    before = content(river)
    again = river.generate(customers=20, events=1_000)
    assert (first.outputs["produced"], first.outputs["already_there"]) == (1_020, 0)
    assert (again.outputs["produced"], again.outputs["already_there"]) == (0, 1_020)
    assert content(river) == before


def test_another_seed_adds_customers_of_its_own(river: River) -> None:
    river.generate(customers=5, events=100, seed=1)
    river.generate(customers=5, events=100, seed=2)
    assert len({row["user_id"] for row in river.rows(GENERATED)}) == 10


def test_the_same_people_are_not_told_to_live_twice(river: River) -> None:
    river.generate(customers=5, events=100, seed=1)
    before = content(river)
    with pytest.raises(InvalidSetting, match="choose another seed"):
        river.generate(customers=5, events=200, seed=1)
    assert content(river) == before


@pytest.mark.parametrize(("customers", "events", "expected"), [(20, 1_000, 1_020), (3, 0, 3_003), (5, 2, 7)])
def test_there_are_exactly_as_many_events_as_were_asked_for(river: River, customers: int, events: int, expected: int) -> None:
    job = river.generate(customers=customers, events=events)
    rows = river.rows(GENERATED)
    assert len(rows) == job.outputs["produced"] == expected
    kinds = Counter(row["event_type"] for row in rows)
    assert kinds["new_registration"] == customers
    assert sum(record.rows for record in river.records(GENERATED)) == expected


def test_every_customer_stands_in_their_shard_in_order_of_event_time(river: River) -> None:
    river.generate(customers=100, events=3_000)
    newest: dict[int, datetime] = {}
    for record in river.records(GENERATED):
        for row in map(json.loads, record.payload.splitlines()):
            assert shard_of(row["user_id"], SHARDS) == record.shard
            at = datetime.fromisoformat(row["event_time"])
            assert at >= newest.get(record.shard, at)
            newest[record.shard] = at
    assert len(newest) == SHARDS


def stop_after(monkeypatch: pytest.MonkeyPatch, writes: int) -> Callable[[], None]:
    """The process dies at a write; returns what brings it back."""
    write, left = Journal.write, [writes]

    def die(self: Journal, changes: Changes, now: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        write(self, changes, now)

    monkeypatch.setattr(Journal, "write", die)
    return lambda: monkeypatch.setattr(Journal, "write", write)


@pytest.mark.parametrize("rates", [(1e9, 0.0), (0.0, 1e9), (1e9, 1e9)])
def test_a_run_that_was_cut_short_is_completed_by_the_next_at_whatever_rate(
    new_river: NewRiver, monkeypatch: pytest.MonkeyPatch, rates: tuple[float, float]
) -> None:
    river, whole = new_river(), new_river()
    revive = stop_after(monkeypatch, 6)
    with pytest.raises(KeyboardInterrupt):
        river.generate(customers=40, events=2_000, rate=rates[0])
    revive()
    cut = len(river.rows(GENERATED))
    job = river.generate(customers=40, events=2_000, rate=rates[1])
    assert (job.outputs["already_there"], job.outputs["produced"]) == (cut, 2_040 - cut)
    whole.generate(customers=40, events=2_000)
    assert river.rows(GENERATED) == whole.rows(GENERATED)


def test_a_finished_run_repeated_at_another_rate_adds_nothing(river: River) -> None:
    river.generate(customers=40, events=2_000)
    again = river.generate(customers=40, events=2_000, rate=1e9)
    assert (again.outputs["produced"], again.outputs["already_there"]) == (0, 2_040)
    assert len(river.rows(GENERATED)) == 2_040


def test_a_rate_is_kept(river: River) -> None:
    clock = SimpleNamespace(at=0.0)

    def sleep(seconds: float) -> None:
        clock.at += seconds

    with river.environment():
        module = load_function("event-generator")
        module.time = SimpleNamespace(perf_counter=lambda: clock.at, sleep=sleep)  # type: ignore[attr-defined]
        job = Job(river.home)
        module.generate(job, customers=10, events=990, rate=100.0, progress=False)
    assert 9.5 <= clock.at <= 10.5
    assert job.outputs["produced"] == 1_000


# -- replay ---------------------------------------------------------------------------------------------------------------


def write_plays(path: Path, rows: list[tuple[Any, Any, float]]) -> Path:
    players, times, scores = zip(*rows, strict=True)
    table = pa.table({"player_id": list(players), "event_ts": list(times), "score": list(scores)})
    if path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("scale", [int, float])
def test_a_file_is_replayed_in_order_of_event_time(new_river: NewRiver, tmp_path: Path, suffix: str, scale: Any) -> None:
    river = new_river("casual_game")
    path = write_plays(
        tmp_path / f"plays{suffix}", [(7, scale(1_000_030), 2.0), (7, scale(1_000_000), 1.0), (8, scale(1_000_010), 3.0)]
    )
    job = river.generate(data=str(path))
    assert job.outputs["produced"] == 3
    rows = river.rows(GENERATED)
    assert [(row["user_id"], row["event_time"], row["score"]) for row in sorted(rows, key=lambda row: row["score"])] == [
        ("7", "1970-01-12T13:46:40Z", 1.0),
        ("7", "1970-01-12T13:47:10Z", 2.0),
        ("8", "1970-01-12T13:46:50Z", 3.0),
    ]
    assert [row["score"] for row in rows if row["user_id"] == "7"] == [1.0, 2.0]
    assert river.generate(data=str(path)).outputs["produced"] == 0


def test_plays_of_one_instant_keep_the_order_of_the_file(new_river: NewRiver, tmp_path: Path) -> None:
    river = new_river("casual_game")
    river.generate(data=str(write_plays(tmp_path / "plays.parquet", [("a", 5, float(place)) for place in range(500)])))
    assert [row["score"] for row in river.rows(GENERATED)] == [float(place) for place in range(500)]


def test_a_key_in_a_csv_file_keeps_its_leading_zeros(new_river: NewRiver, tmp_path: Path) -> None:
    path = tmp_path / "plays.csv"
    path.write_text("player_id,event_ts,score\n007,5,1\n7,6,2\n")
    river = new_river("casual_game")
    river.generate(data=str(path))
    assert {row["user_id"] for row in river.rows(GENERATED)} == {"007", "7"}


def test_only_so_many_events_of_a_file_are_replayed(new_river: NewRiver, tmp_path: Path) -> None:
    river = new_river("casual_game")
    path = write_plays(tmp_path / "plays.parquet", [("a", 5 + place, float(place)) for place in range(50)])
    assert river.generate(data=str(path), events=20).outputs["produced"] == 20
    assert [row["score"] for row in river.rows(GENERATED)] == [float(place) for place in range(20)]


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("nowhere.parquet", None, "there is no file"),
        ("broken.parquet", "PAR1 but not really", "is no readable Parquet file"),
        ("broken.csv", 'player_id,event_ts,score\n"a', "is no readable CSV file|has no column|no readable"),
        ("other.csv", "who,when,score\na,5,1\n", "has no column 'player_id'; it has who, when, score"),
    ],
)
def test_a_file_that_cannot_be_replayed_is_a_sentence(
    new_river: NewRiver, tmp_path: Path, name: str, text: str | None, sentence: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UnreadablePayload, match=sentence):
        new_river("casual_game").generate(data=str(tmp_path / name))


def test_a_case_without_a_simulation_asks_for_a_file(new_river: NewRiver) -> None:
    with pytest.raises(InvalidSetting, match="casual_game has no simulation; name a file with data="):
        new_river("casual_game").generate()


def test_a_case_without_a_source_refuses_a_file(river: River, tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="first_day says of no file how it becomes events"):
        river.generate(data=str(tmp_path / "plays.csv"))

import multiprocessing
import os
import signal
import sqlite3
import threading
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from churnstream.errors import StorageFailed, UnknownVersion
from churnstream.local.rundb_filters import labels_match, name_matches, one_page, partition, utc, within
from churnstream.local.rundb_store import ObjectStore, merged

DEADLINE_S = 30
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    return ObjectStore(tmp_path / "home" / "run.db")


def versions(store: ObjectStore, **asked: object) -> list[str]:
    return [row.uid for row in store.find("thing", "p", "a", **asked)]


def test_versions_are_found_newest_first_and_a_rewritten_one_becomes_the_newest(store: ObjectStore) -> None:
    for uid in ("one", "two", "three", "one"):
        store.put("thing", "p", "a", {"n": uid}, uid=uid)
    assert versions(store) == ["one", "three", "two"]


def test_a_rewritten_version_keeps_the_time_it_was_created(store: ObjectStore) -> None:
    store.put("thing", "p", "a", {"n": 1}, uid="one")
    first = store.find("thing")[0]
    store.put("thing", "p", "a", {"n": 2}, uid="one")
    second = store.find("thing")[0]
    assert (second.created, second.body) == (first.created, {"n": 2})
    assert second.updated > first.updated


def test_a_tag_moves_to_the_version_that_takes_it(store: ObjectStore) -> None:
    store.put("thing", "p", "a", {}, uid="one", tags=("latest", "prod"))
    store.put("thing", "p", "a", {}, uid="two", tags=("latest",))
    assert versions(store, tag="latest") == ["two"]
    assert versions(store, tag="prod") == ["one"]


def test_the_iterations_of_one_run_share_a_tag_until_another_run_takes_it(store: ObjectStore) -> None:
    for iteration in (1, 2):
        store.put("thing", "p", "a", {}, uid=f"r1-{iteration}", iter=iteration, tree="r1", tags=("latest",))
    assert versions(store, tag="latest") == ["r1-2", "r1-1"]
    store.put("thing", "p", "a", {}, uid="r2-0", iter=0, tree="r2", tags=("latest",))
    assert versions(store, tag="latest") == ["r2-0"]


def test_removing_a_version_takes_its_tags_and_no_other_ones(store: ObjectStore) -> None:
    store.put("thing", "p", "a", {}, uid="one", tags=("v1",))
    store.put("thing", "p", "b", {}, uid="one", tags=("v1",))
    store.remove(store.find("thing", "p", "a"))
    assert [(row.name, row.tags) for row in store.find("thing")] == [("b", ("v1",))]


def test_a_failed_transaction_leaves_nothing_behind(store: ObjectStore) -> None:
    def fail_afterwards() -> None:
        with store.transaction():
            store.put("thing", "p", "a", {}, uid="one")
            raise KeyError("afterwards")

    with pytest.raises(KeyError):
        fail_afterwards()
    assert store.find("thing") == []
    store.put("thing", "p", "a", {}, uid="two")
    assert versions(store) == ["two"]


def test_threads_writing_at_once_lose_no_update(store: ObjectStore) -> None:
    store.put("thing", "p", "a", {"n": 0})

    def add() -> None:
        for _ in range(25):
            with store.transaction():
                body = store.find("thing", "p", "a")[0].body
                store.put("thing", "p", "a", {"n": body["n"] + 1})

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert store.find("thing", "p", "a")[0].body == {"n": 100}


def write_until_killed(path: Path, who: int, told: Connection) -> None:
    store = ObjectStore(path)
    for number in range(100_000):
        store.put("thing", "p", f"{who}", {"n": number}, uid=str(number), tags=("latest",))
        told.send(number)


def test_what_a_process_wrote_survives_its_kill_and_blocks_nobody(tmp_path: Path) -> None:
    # Both processes create the file, and are forked from one that has it open.
    path = tmp_path / "run.db"
    fork = multiprocessing.get_context("fork")
    writers, pipes = [], []
    for who in range(2):
        ours, theirs = fork.Pipe(duplex=False)
        writer = fork.Process(target=write_until_killed, args=(path, who, theirs))
        writer.start()
        theirs.close()
        writers.append(writer)
        pipes.append(ours)
    acknowledged = []
    try:
        for pipe in pipes:
            last = -1
            while last < 20:
                assert pipe.poll(DEADLINE_S), "a writer said nothing"
                last = pipe.recv()
            acknowledged.append(last)
    finally:
        for writer in writers:
            assert writer.pid is not None
            os.kill(writer.pid, signal.SIGKILL)
            writer.join(DEADLINE_S)
    store = ObjectStore(path)
    for who, last in enumerate(acknowledged):
        kept = {int(row.uid) for row in store.find("thing", "p", str(who))}
        assert kept >= set(range(last + 1))
        assert len(store.find("thing", "p", str(who), tag="latest")) == 1
    store.put("thing", "p", "after", {})
    assert sqlite3.connect(path).execute("pragma integrity_check").fetchone() == ("ok",)


def test_a_forked_child_writes_through_a_connection_of_its_own(store: ObjectStore) -> None:
    store.put("thing", "p", "a", {}, uid="parent")
    child = multiprocessing.get_context("fork").Process(target=store.put, args=("thing", "p", "a", {}), kwargs={"uid": "child"})
    child.start()
    child.join(DEADLINE_S)
    assert child.exitcode == 0
    assert versions(store) == ["child", "parent"]


def test_a_file_of_a_newer_version_is_refused_by_name(store: ObjectStore) -> None:
    with sqlite3.connect(store.path) as db:
        db.execute("pragma user_version = 99")
    with pytest.raises(UnknownVersion, match="layout 99"):
        ObjectStore(store.path)


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(StorageFailed, match=r"run\.db"):
        ObjectStore(tmp_path / "file" / "run.db")


def test_a_log_is_read_in_the_order_it_was_written(store: ObjectStore) -> None:
    store.append_log("p", "r", b"one ", afresh=False)
    store.append_log("p", "r", b"two", afresh=False)
    assert store.read_log("p", "r") == b"one two"
    store.append_log("p", "r", b"anew", afresh=True)
    assert store.read_log("p", "r") == b"anew"


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        (None, True),
        ("", True),
        ("Train", True),
        ("train", False),
        ("~TRAI", True),
        ("~x", False),
        ("rain", False),
    ],
)
def test_a_name_matches_wholly_unless_a_tilde_asks_for_a_part(asked: str | None, matches: bool) -> None:
    assert name_matches("Train", asked) is matches


@pytest.mark.parametrize(
    ("asked", "matches"),
    [
        (None, True),
        ("owner=ann", True),
        ("owner=ann,stage", True),
        (["owner=bob"], False),
        ({"owner": "ann", "size": "3"}, True),
        ({"stage": None}, True),
        ({"absent": None}, False),
    ],
)
def test_every_label_asked_for_must_be_there(asked: object, matches: bool) -> None:
    assert labels_match({"owner": "ann", "stage": "", "size": 3}, asked) is matches


def test_an_instant_without_a_zone_counts_as_utc() -> None:
    assert utc("2026-03-01T12:00:00") == utc("2026-03-01T13:00:00+01:00") == NOON


def test_both_bounds_of_a_time_belong_to_it_and_an_unknown_time_is_outside() -> None:
    hour = timedelta(hours=1)
    assert within(NOON, NOON, NOON)
    assert not within(NOON, NOON + hour, None)
    assert not within(NOON, None, NOON - hour)
    assert not within(None, NOON, None)
    assert within(None, None, None)


def test_a_partition_keeps_the_best_rows_of_each_group() -> None:
    words = ["ant", "ape", "bee", "bat", "bug", "cow"]
    assert partition(words, key=lambda w: w[0], order=lambda w: w, rows=2) == [
        "cow",
        "bug",
        "bee",
        "ape",
        "ant",
    ]
    assert partition(words, key=lambda w: w[0], order=lambda w: w, descending=False, most=2) == ["ant", "bat"]


def test_pages_follow_their_tokens_to_the_end_with_the_filters_of_the_first() -> None:
    def listing(since: int = 0) -> list[int]:
        return list(range(since, 7))

    seen, token = one_page(listing, {"since": 2}, None, 2, None)
    while token:
        page, token = one_page(listing, {}, None, None, token)
        seen += page
    assert seen == [2, 3, 4, 5, 6]
    assert one_page(listing, {}, 2, 3, None)[0] == [3, 4, 5]


def test_changes_replace_lists_unless_they_are_additive() -> None:
    body = {"spec": {"params": {"a": 1}, "steps": [1]}}
    changes = {"spec": {"params": {"b": 2}, "steps": [2]}}
    assert merged(body, changes) == {"spec": {"params": {"a": 1, "b": 2}, "steps": [2]}}
    assert merged(body, changes, additive=True)["spec"]["steps"] == [1, 2]

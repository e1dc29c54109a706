"""The lookup table and the join with it: known keys get their number, unknown ones a mark, and nothing is lost."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from churnstream.errors import UnreadablePayload
from churnstream.stages.enrich import decode_number
from churnstream.topology import DEAD_LETTERS, ENRICHED, ENRICHMENT, INCOMING
from churnstream.usecases.first_day import lookup_rows
from churnstream.wiring import open_journal, open_table
from tests.functions.river import Job, River, assert_conserved

HANDLER, NAME = "incoming-event-handler", "enrich-stream"


def build(river: River, **params: Any) -> Job:
    return river.job("enrichment-table", "build", **params)


def table(river: River) -> dict[str, float]:
    opened = open_table(ENRICHMENT, river.settings)
    found = {key: decode_number(value) for key, value in opened.items()}
    opened.close()
    return found


# -- the table ------------------------------------------------------------------------------------------------------------


def test_the_generated_table_holds_every_postcode_once(river: River) -> None:
    job = build(river, seed=3)
    assert job.outputs == {"rows": 1_000, "distinct": 1_000}
    assert table(river) == dict(lookup_rows(3))
    assert all(0.0 <= number <= 1.0 for number in table(river).values())
    assert job.said[0].startswith("the lookup table enrichment holds 1000 rows, such as ")


def test_building_again_changes_nothing(river: River) -> None:
    build(river)
    before = table(river)
    build(river)
    assert table(river) == before


def test_a_csv_file_fills_the_table_and_keys_stay_text(river: River, tmp_path: Path) -> None:
    path = tmp_path / "postcodes.csv"
    path.write_text("postcode,idx,remark\n01067,0.25,Dresden\n1067,0.5,elsewhere\nLN1 0AA,1,\n")
    assert build(river, data=str(path)).outputs == {"rows": 3, "distinct": 3}
    assert table(river) == {"01067": 0.25, "1067": 0.5, "LN1 0AA": 1.0}


@pytest.mark.parametrize("numbers", [pa.array([0.1, 1 / 3]), pa.array([1, 0], pa.int32()), pa.array([0.5, 0.1], pa.float32())])
def test_a_parquet_file_fills_the_table(river: River, tmp_path: Path, numbers: pa.Array) -> None:
    path = tmp_path / "postcodes.parquet"
    pq.write_table(pa.table({"postcode": ["a", "b"], "idx": numbers}), path)
    build(river, data=str(path))
    assert table(river) == dict(zip("ab", map(float, numbers.to_pylist()), strict=True))


def test_a_key_that_is_a_number_in_parquet_is_its_text(river: River, tmp_path: Path) -> None:
    path = tmp_path / "postcodes.parquet"
    pq.write_table(pa.table({"postcode": [10115, 80331], "idx": [0.1, 0.2]}), path)
    build(river, data=str(path))
    assert table(river) == {"10115": 0.1, "80331": 0.2}


def test_the_last_row_of_a_key_wins_and_both_are_counted(river: River, tmp_path: Path) -> None:
    path = tmp_path / "postcodes.csv"
    path.write_text("postcode,idx\na,1\na,2\n")
    assert build(river, data=str(path)).outputs == {"rows": 2, "distinct": 1}
    assert table(river) == {"a": 2.0}


BAD_ROWS = [
    (None, 2.0, "is None, 2.0; it needs a key and a finite number"),
    ("", 2.0, "is '', 2.0; it needs a key and a finite number"),
    ("b", None, "is 'b', None; it needs a key and a finite number"),
    ("b", float("nan"), "is 'b', nan; it needs a key and a finite number"),
    ("b", float("inf"), "is 'b', inf; it needs a key and a finite number"),
]


@pytest.mark.parametrize(("key", "number", "sentence"), BAD_ROWS)
def test_a_bad_row_is_a_sentence_and_leaves_the_table_as_it_was(
    river: River, tmp_path: Path, key: str | None, number: float | None, sentence: str
) -> None:
    build(river)
    before = table(river)
    path = tmp_path / "postcodes.parquet"
    pq.write_table(pa.table({"postcode": ["a"] * 60_000 + [key], "idx": [0.5] * 60_000 + [number]}), path)
    with pytest.raises(UnreadablePayload, match=f"row 60000 of the lookup table {sentence}"):
        build(river, data=str(path))
    assert table(river) == before


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("one.csv", "postcode\na\n", "has 1 column; a lookup table needs the key and the number"),
        ("nowhere.csv", None, "there is no file"),
        ("broken.parquet", "not parquet", "is no readable Parquet file"),
        ("words.csv", "postcode,idx\na,high\n", "row 0 of the lookup table is 'a', 'high'"),
    ],
)
def test_a_file_that_is_no_lookup_table_is_a_sentence(
    river: River, tmp_path: Path, name: str, text: str | None, sentence: str
) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UnreadablePayload, match=sentence):
        build(river, data=str(tmp_path / name))


def test_a_case_that_joins_nothing_needs_no_table(new_river: Callable[..., River]) -> None:
    assert build(new_river("casual_game")).outputs == {"rows": 0}


# -- the join -------------------------------------------------------------------------------------------------------------


def registration(user: str, postcode: str, **more: Any) -> dict[str, Any]:
    texts = dict.fromkeys(("name", "street_address", "city", "country"), "x")
    at = {"event_type": "new_registration", "event_time": "2026-01-03T12:00:00Z", "date_of_birth": "1990-12-31"}
    return {"user_id": user, "postcode": postcode, **at, **texts, **more}


def bet(user: str) -> dict[str, Any]:
    return {"user_id": user, "event_type": "new_bet", "event_time": "2026-01-03T13:00:00Z", "bet_amount": 2.5}


def test_registrations_are_joined_and_the_rest_goes_on_untouched(river: River) -> None:
    river.generate(customers=20, events=1_000)
    build(river)
    river.flow(HANDLER, NAME)
    known = table(river)
    incoming, enriched = river.rows(INCOMING), river.rows(ENRICHED)
    assert len(enriched) == len(incoming) == 1_020
    for before, after in zip(incoming, enriched, strict=True):
        if before["event_type"] == "new_registration":
            assert after["enriched"] is (before["postcode"] in known)
            assert after["socioeconomic_idx"] == known.get(before["postcode"], 0.5)
        else:
            assert (after["enriched"], after["socioeconomic_idx"]) == (None, None)
        untouched = {name: value for name, value in after.items() if name not in ("enriched", "socioeconomic_idx")}
        assert untouched == {name: value for name, value in before.items() if name != "label"}
    assert_conserved(river, NAME)


def test_the_label_goes_no_further_than_the_archive(river: River) -> None:
    river.send([registration("ann", "LN1 0AA", label=1), bet("ann")])
    river.flow(HANDLER, NAME)
    assert {row.get("label") for row in river.rows(INCOMING)} == {1, None}
    assert all("label" not in row for row in river.rows(ENRICHED))


def test_an_unknown_postcode_passes_marked_and_counted_with_the_default(river: River) -> None:
    build(river)
    river.send([registration("ann", "LN1 0AA"), registration("bob", "nowhere"), registration("eve", ""), bet("ann")])
    river.flow(HANDLER, NAME)
    joined = [row for row in river.rows(ENRICHED) if row["event_type"] == "new_registration"]
    told = {row["user_id"]: (row["enriched"], row["socioeconomic_idx"]) for row in joined}
    assert told == {"ann": (True, table(river)["LN1 0AA"]), "bob": (False, 0.5), "eve": (False, 0.5)}
    unknown = sum(open_journal(NAME, shard, river.settings).accounts().get((INCOMING, "unknown"), 0) for shard in range(8))
    assert unknown == 2
    assert_conserved(river, NAME)
    assert river.rows(DEAD_LETTERS, NAME) == []


def test_a_table_that_was_never_built_leaves_every_key_unknown(river: River) -> None:
    river.send([registration("ann", "LN1 0AA")])
    river.flow(HANDLER, NAME)
    assert [(row["enriched"], row["socioeconomic_idx"]) for row in river.rows(ENRICHED)] == [(False, 0.5)]


def test_a_row_that_is_added_to_the_table_counts_from_then_on(river: River) -> None:
    river.send([registration("ann", "LN1 0AA")])
    river.flow(HANDLER)
    with river.door(NAME) as door:
        door.pump()
        build(river)
        river.send([registration("ann", "LN1 0AA")])
        river.flow(HANDLER)
        door.pump()
    assert [row["enriched"] for row in river.rows(ENRICHED)] == [False, True]


def test_a_case_without_a_join_passes_everything_on(new_river: Callable[..., River]) -> None:
    river = new_river("casual_game")
    play = {"user_id": "7", "event_type": "play", "event_time": "2015-01-13T15:40:00Z", "score": 1}
    river.send([play])
    river.flow(HANDLER, NAME)
    assert river.rows(ENRICHED) == river.rows(INCOMING)

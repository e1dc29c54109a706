"""Keys and their places: as a dictionary would number them, however the array that brings them was cut."""

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from churnstream.graph.places import UNKNOWN, Places


@given(batches=st.lists(st.tuples(st.lists(st.text(max_size=12), max_size=40), st.integers(0, 5)), max_size=6))
@settings(max_examples=100, deadline=None)
def test_keys_are_numbered_in_the_order_in_which_they_came(batches: list[tuple[list[str], int]]) -> None:
    places: Places = Places()
    known: dict[str, int] = {}
    for keys, cut in batches:
        found = places.of(pa.array(keys, pa.string()).slice(cut))
        assert found.tolist() == [known.setdefault(key, len(known)) for key in keys[cut:]]
    assert places.keys() == list(known)
    assert len(places) == len(known)
    assert all(places.one(key) == place for key, place in known.items())
    assert places.one("a key of thirty letters or more") == UNKNOWN


def test_many_keys_are_found_again_after_the_table_has_grown() -> None:
    places = Places()
    keys = pa.array([f"customer-{number}" for number in range(50_000)])
    first = [places.of(keys.slice(start, 1_000)) for start in range(0, 50_000, 1_000)]
    assert [place for some in first for place in some.tolist()] == list(range(50_000))
    assert places.of(keys, add=False).tolist() == list(range(50_000))
    assert places.keys([49_999, 0]) == ["customer-49999", "customer-0"]

"""Looking for the rows that fail: all of them are found, no others, and within a bounded number of attempts."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st

from churnstream.local.isolation import find_poison


def search(rows: int, fails: Callable[[Sequence[int]], object]) -> tuple[list[int], int]:
    """What is left out of ``rows`` rows, and after how many attempts."""
    attempts = 0

    async def attempt(places: Sequence[int]) -> str:
        nonlocal attempts
        attempts += 1
        return "no" if fails(places) else ""

    return sorted(asyncio.run(find_poison(rows, attempt))), attempts


def holding(poison: Collection[int]) -> Callable[[Sequence[int]], object]:
    return lambda places: not set(poison).isdisjoint(places)


@pytest.mark.parametrize("place", [0, 1, 499, 998, 999])
def test_one_row_among_a_thousand_is_found_in_about_log2_attempts(place: int) -> None:
    found, attempts = search(1_000, holding([place]))
    assert found == [place]
    assert attempts <= ceil(log2(1_000)) + 2


@pytest.mark.parametrize("rows", [1, 2, 3, 1_000])
def test_when_every_row_fails_every_row_is_found_in_a_few_attempts_each(rows: int) -> None:
    found, attempts = search(rows, lambda places: True)
    assert found == list(range(rows))
    assert attempts <= 2 * rows + 2 * ceil(log2(rows) if rows > 1 else 1)


@given(st.integers(1, 300).flatmap(lambda rows: st.tuples(st.just(rows), st.sets(st.integers(0, rows - 1), min_size=1))))
def test_exactly_the_rows_that_fail_are_found_within_the_bound(drawn: tuple[int, set[int]]) -> None:
    rows, poison = drawn
    found, attempts = search(rows, holding(poison))
    assert found == sorted(poison)
    assert attempts <= len(poison) * (2 * ceil(log2(rows + 1)) + 3) + 2


def test_rows_that_fail_only_together_lose_the_last_of_them() -> None:
    assert search(100, lambda places: {20, 70} <= set(places))[0] == [70]
    assert search(100, lambda places: {20, 70} <= set(places) or 5 in places)[0] == [5, 70]
    assert search(100, lambda places: len({10, 20, 30} & set(places)) > 1)[0] == [20, 30]


def test_what_fails_only_now_and_then_is_not_left_out() -> None:
    turn = iter(range(10**6))
    assert search(64, lambda places: 7 in places and next(turn) == 0)[0] == []

"""Used ids, as ranges, against a plain set."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tracker.tracking.ids import UsedIds

LARGEST = 12


def used(numbers: list[int]) -> UsedIds:
    ids = UsedIds()
    for number in numbers:
        ids.add(number)
    return ids


@given(st.lists(st.integers(1, LARGEST)))
def test_holds_what_was_added(numbers: list[int]) -> None:
    ids = used(numbers)
    assert {n for n in range(LARGEST + 2) if n in ids} == set(numbers)


@given(st.lists(st.integers(1, LARGEST)))
def test_next_is_free(numbers: list[int]) -> None:
    if len(set(numbers)) == LARGEST:
        return
    following = used(numbers).next(LARGEST)
    assert following not in numbers
    assert 1 <= following <= LARGEST


@pytest.mark.parametrize(
    ("numbers", "following"),
    [([], 1), ([1, 2], 3), ([5], 6), ([5, 1], 6), ([LARGEST], 1), ([1, LARGEST], 2), ([2, 1, LARGEST], 3)],
)
def test_next(numbers: list[int], following: int) -> None:
    assert used(numbers).next(LARGEST) == following


@given(st.lists(st.integers(1, LARGEST)), st.integers(1, LARGEST))
def test_next_from_a_least_one_up_is_free(numbers: list[int], least: int) -> None:
    free = set(range(1, LARGEST + 1)) - set(numbers)
    if not free:
        return
    following = used(numbers).next(LARGEST, least)
    assert following in free
    assert following >= least or max(free) < least


def test_ids_given_in_turn_take_no_more_room() -> None:
    ids = used(list(range(1, 10_000)))
    assert (ids._starts, ids._ends) == ([1], [10_000])

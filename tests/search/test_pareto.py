"""Fronts and hypervolumes against brute force."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.search.pareto import compromise, front, hypervolume


def sets(dims: int) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, 4), min_size=dims, max_size=dims), max_size=7)


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_the_volume_is_the_count_of_beaten_cells(dims: int) -> None:
    @given(sets(dims))
    def check(points: list[list[int]]) -> None:
        cells = itertools.product(range(4), repeat=dims)
        wanted = sum(any(all(c < p for c, p in zip(cell, point, strict=True)) for point in points) for cell in cells)
        assert hypervolume(np.array(points), np.zeros(dims)) == wanted

    check()


@given(sets(2))
def test_the_front_is_what_nothing_beats(points: list[list[int]]) -> None:
    array = np.array(points).reshape(-1, 2)
    kept = {tuple(array[index]) for index in front(array)}
    wanted = {(a, b) for a, b in points if not any(c >= a and d >= b and (c, d) != (a, b) for c, d in points)}
    assert kept == wanted
    assert len(front(array)) == len(wanted)


def test_compromises_are_on_the_front() -> None:
    points = np.random.default_rng(0).random((30, 2))
    kept = set(front(points))
    for seed in range(40):
        assert int(np.argmax(compromise(points, np.random.default_rng(seed)))) in kept

"""Numbers of any width into bytes and back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayopt.compress import packing


@given(st.integers(1, 16), st.integers(0, 70), st.integers(0, 2**32 - 1))
def test_what_is_packed_comes_back(bits: int, count: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, count)
    planes = packing.pack(codes, bits)
    assert np.array_equal(packing.unpack(planes, bits, count), codes)
    assert sum(plane.nbytes for plane in planes) == -(-count // 8) * bits  # eight numbers in `bits` bytes
    joined = packing.split(np.concatenate(planes), bits, count)
    assert np.array_equal(packing.unpack(joined, bits, count), codes)


def test_the_layout_is_the_one_that_is_described() -> None:
    two, one = packing.pack(np.array([0b101, 0b010, 0b111, 0]), 3)  # planes of the lower two bits and of the highest
    assert two.tolist() == [0b00_11_10_01, 0]
    assert one.tolist() == [0b0101]


@pytest.mark.parametrize(("bits", "widths"), [(2, [2]), (7, [4, 2, 1]), (8, [8]), (13, [8, 4, 1]), (16, [8, 8])])
def test_the_planes_make_up_the_width(bits: int, widths: list[int]) -> None:
    assert packing.plane_widths(bits) == widths

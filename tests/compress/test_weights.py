"""Scales of least error, held against simpler ones and against trying all; and what must not break them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from rayopt.compress.weights import MEAN_SHARE, Plan, quantize
from rayopt.errors import StepError

FINITE = st.floats(-(2.0**100), 2.0**100, width=32)


def loss(tensor: np.ndarray, decoded: np.ndarray) -> float:
    error = decoded.astype(np.float64) - tensor
    return float((error**2).sum() + MEAN_SHARE * error.sum() ** 2)


def from_the_range(tensor: np.ndarray, bits: int) -> np.ndarray:
    """The usual scale: the largest magnitude becomes the largest number."""
    top = 2 ** (bits - 1) - 1
    scale = np.abs(tensor).max() / top
    return np.clip(np.rint(tensor / scale), -top - 1, top) * scale


@pytest.mark.parametrize("bits", range(2, 17))
@pytest.mark.parametrize("seed", range(3))
def test_the_error_is_no_more_than_with_the_full_range(bits: int, seed: int) -> None:
    tensor = np.random.default_rng(seed).normal(size=(1, 200)).astype(np.float32)
    found = quantize(tensor, bits, (), True).decoded()
    assert loss(tensor, found) <= 1.001 * loss(tensor, from_the_range(tensor, bits))
    if bits <= 4:
        assert ((found - tensor) ** 2).sum() < 0.9 * ((from_the_range(tensor, bits) - tensor) ** 2).sum()


@pytest.mark.parametrize("bits", [2, 3, 4])
@pytest.mark.parametrize("seed", range(5))
def test_hardly_any_scale_is_better(bits: int, seed: int) -> None:
    tensor = np.random.default_rng(seed).laplace(size=64).astype(np.float32)
    half, best = 2 ** (bits - 1), np.inf
    for scale in np.linspace(-3, 3, 6001):
        if scale:
            best = min(best, loss(tensor, np.clip(np.rint(tensor / scale), -half, half - 1) * scale))
    assert loss(tensor, quantize(tensor, bits, (), True).decoded()) <= 1.06 * best


@given(arrays.arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 9)), elements=FINITE), st.integers(2, 16))
@settings(max_examples=60, deadline=None)
def test_nothing_finite_becomes_anything_else_and_zeros_stay(tensor: np.ndarray, bits: int) -> None:
    for symmetric in (True, False):
        codes = quantize(tensor, bits, (0,), symmetric)
        assert codes.values.max() < 2**bits
        assert np.isfinite(codes.decoded()).all()
        assert not codes.decoded()[tensor == 0].any()


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_a_zero_point_helps_where_all_weights_have_one_sign(bits: int) -> None:
    tensor = np.random.default_rng(0).uniform(1, 2, (1, 300)).astype(np.float32)
    with_zero, without = (quantize(tensor, bits, (), symmetric).decoded() for symmetric in (False, True))
    assert loss(tensor, with_zero) < loss(tensor, without)


def test_each_channel_has_its_own_scale_along_any_axes() -> None:
    generator = np.random.default_rng(0)
    tensor = (generator.normal(size=(2, 3, 50)) * np.array([[1, 10, 100], [1e-3, 1e3, 5]])[:, :, None]).astype(
        np.float32
    )
    codes = quantize(tensor, 6, (0, 1), True)
    assert codes.scale.shape == (2, 3, 1)
    error = np.abs(codes.decoded() - tensor).max(axis=2) / np.abs(tensor).max(axis=2)
    assert error.max() < 0.06
    for first in range(2):
        for second in range(3):
            alone = quantize(tensor[first, second], 6, (), True)
            np.testing.assert_array_equal(codes.decoded()[first, second], alone.decoded())


@pytest.mark.parametrize(
    "tensor",
    [
        np.zeros((3, 4)), np.zeros((0, 4)), np.zeros((3, 0)), np.full((2, 4), 3e38), np.full((2, 4), 1e-45),
        np.array(2.5), np.array([1.0, -2.0]), np.array([[0, 1e-40], [3e38, -3e38]]),
    ],
)  # fmt: skip
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 8, 16])
def test_odd_tensors_stay_finite(tensor: np.ndarray, symmetric: bool, bits: int) -> None:
    tensor = tensor.astype(np.float32)
    for axes in {(), (0,) if tensor.ndim else ()}:
        decoded = quantize(tensor, bits, axes, symmetric).decoded()
        assert decoded.shape == tensor.shape
        assert np.isfinite(decoded).all()
        assert not decoded[tensor == 0].any()
        if bits == 16:
            np.testing.assert_allclose(decoded, tensor, rtol=2e-3, atol=1e-38)


def test_half_precision_weights_do_not_overflow() -> None:
    tensor = np.array([65504.0] * 7 + [60000.0], np.float32)
    decoded = quantize(tensor, 3, (), True, limit=65504.0).decoded()
    assert np.isfinite(decoded.astype(np.float16)).all()


def test_a_plan_tells_what_it_cannot_do() -> None:
    assert Plan(4, layers={"*": 8, "b": 0, "c*": 32}).bits_of({"a": ["a"], "b": ["b"], "c1": ["c1"]}) == {
        "a": 8, "b": 0, "c1": 0,
    }  # fmt: skip
    for bits in (0, 1, 17, 32):
        with pytest.raises(StepError, match="bits: weights have 2 to 16 bits, got"):
            Plan(bits)
    with pytest.raises(StepError, match="head: weights have 2 to 16 bits, or 0 for float, got 1"):
        Plan(8, layers={"head": 1})
    with pytest.raises(StepError, match="no weights are named 'hed'; did you mean 'head'"):
        Plan(8, layers={"hed": 4}).bits_of({"head": ["head"]})

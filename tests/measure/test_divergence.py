"""Divergences against definitions in loops and against what must hold for all outputs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from rayopt.errors import StepError
from rayopt.measure.divergence import agreement, cosine, divergence, kl, relative_mse

Array = np.ndarray[Any, Any]
random = np.random.default_rng(0)
A, B = random.normal(size=(2, 20, 5))
outputs = arrays(np.float32, (6, 4), elements=st.floats(-50, 50, width=32))
EVERY = [kl, cosine, agreement, relative_mse]


def softmax(row: Array) -> list[float]:
    total = sum(math.exp(one) for one in row)
    return [math.exp(one) / total for one in row]


def test_kl_is_the_mean_over_rows() -> None:
    each = [
        sum(p * math.log(p / q) for p, q in zip(softmax(a), softmax(b), strict=True)) for a, b in zip(A, B, strict=True)
    ]
    assert kl(A, B) == pytest.approx(sum(each) / len(each))
    assert kl(A, A + random.normal(size=(20, 1))) == pytest.approx(0, abs=1e-12)  # softmax does not see a shift
    assert kl(np.array([[1000.0, 0]]), np.array([[0, 1000.0]])) == pytest.approx(1000)


def test_kl_of_sequences_is_the_mean_over_all_positions() -> None:
    assert kl(A.reshape(4, 5, 5), B.reshape(4, 5, 5)) == pytest.approx(kl(A, B))


def test_cosine_is_the_angle_of_each_row() -> None:
    each = [1 - a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) for a, b in zip(A, B, strict=True)]
    assert cosine(A, B) == pytest.approx(np.mean(each))
    assert cosine(A, -A) == pytest.approx(2)
    assert cosine(A.reshape(20, 5, 1), B.reshape(20, 5, 1)) == pytest.approx(cosine(A, B))
    zero = np.zeros((2, 3))
    assert cosine(zero, zero) == 0
    assert cosine(zero, np.ones((2, 3))) == 1


def test_agreement_is_the_share_of_equal_answers() -> None:
    reference = np.array([[1, 2], [3, 1], [0, 5], [1, 0]])
    assert agreement(reference, np.array([[0, 9], [1, 3], [0, 1], [4, 2]])) == 0.75
    assert agreement(np.array([[1.0], [-1], [2]]), np.array([[0.5], [1], [3]])) == pytest.approx(2 / 3)
    assert agreement(np.array([1.0, -1]), np.array([2.0, -2])) == 1


def test_relative_mse_is_one_for_the_mean_row() -> None:
    assert relative_mse(A, np.broadcast_to(A.mean(axis=0), A.shape)) == pytest.approx(1)
    assert relative_mse(A, A + 0.1) == pytest.approx(0.01 / A.var(axis=0).mean())
    same = np.ones((3, 2)) * 2
    assert relative_mse(same, same + 1) == pytest.approx(1 / 4)
    assert relative_mse(np.zeros((3, 2)), np.ones((3, 2))) == 1
    one = A[:1]
    assert relative_mse(one, one * 1.1) == pytest.approx(0.01)


def test_divergence_takes_what_fits_the_outputs() -> None:
    assert divergence(A, B) == kl(A, B)
    assert divergence(A, B, logits=False) == relative_mse(A, B)
    assert divergence(A[:, :1], B[:, :1]) == relative_mse(A[:, :1], B[:, :1])
    assert divergence(A.reshape(4, 5, 5), B.reshape(4, 5, 5)) == relative_mse(A.reshape(4, 25), B.reshape(4, 25))


@given(outputs, outputs)
def test_no_divergence_is_negative_and_equal_outputs_have_none(a: Array, b: Array) -> None:
    for function in (kl, cosine, relative_mse):
        assert function(a, b) >= 0
        assert function(a, a) == pytest.approx(0, abs=1e-6)
    assert 0 <= agreement(a, b) <= 1
    assert agreement(a, a) == 1


@pytest.mark.parametrize("function", EVERY)
def test_outputs_that_cannot_be_compared_say_why(function: Any) -> None:
    with pytest.raises(StepError, match=r"outputs have shape \(19, 5\) instead of \(20, 5\)"):
        function(A, B[:19])
    with pytest.raises(StepError, match="no outputs"):
        function(A[:0], B[:0])
    with pytest.raises(StepError, match="NaN or infinite"):
        function(A, np.where(B > 1, np.nan, B))

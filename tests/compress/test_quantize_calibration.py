"""Ranges of activations against brute force, and in bounded memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayopt.compress import calibrate
from rayopt.compress.calibrate import batches, entropy_threshold, find_ranges
from rayopt.compress.settings import StaticSettings
from rayopt.errors import StepError
from rayopt.models.onnx_model import session, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
node = onnx.helper.make_node
random = np.random.default_rng(0)
ROWS = random.normal(size=(5000, 8)).astype(np.float32)
W = random.normal(size=(8, 16)).astype(np.float32)


@pytest.fixture
def model(make: Callable[..., Artifact]) -> Artifact:
    return make([node("MatMul", ["x", "W"], ["h"]), node("Relu", ["h"], ["y"])], {"W": W})


def ranges(model: Artifact, rows: Array, **told: Any) -> dict[str, Any]:
    return find_ranges(to_proto(model), rows, {"MatMul", "Relu"}, StaticSettings(**told))


def test_minmax_gives_the_extremes_of_every_tensor(model: Artifact) -> None:
    product = ROWS @ W
    found = ranges(model, ROWS)
    assert set(found) == {"x", "h", "y"}
    np.testing.assert_allclose(found["x"], (ROWS.min(), ROWS.max()))
    np.testing.assert_allclose(found["h"], (product.min(), product.max()), rtol=1e-5)
    np.testing.assert_allclose(found["y"], (0, product.max()), rtol=1e-5)


@pytest.mark.parametrize("percentile", [99.0, 99.9])
def test_percentiles_are_those_of_all_values(model: Artifact, percentile: float) -> None:
    product = ROWS @ W
    tail = (100 - percentile) / 2
    wanted = np.percentile(product, [tail, 100 - tail])
    bin_width = (product.max() - product.min()) / calibrate.BINS
    np.testing.assert_allclose(
        ranges(model, ROWS, calibration="percentile", percentile=percentile)["h"], wanted, atol=1.5 * bin_width
    )
    whole = ranges(model, ROWS, calibration="percentile", percentile=100)["h"]
    np.testing.assert_allclose(whole, (product.min(), product.max()), rtol=1e-5)


def test_entropy_clips_outliers_and_keeps_what_has_none(model: Artifact) -> None:
    outlier = ROWS.copy()
    outlier[0] *= 100
    low, high = ranges(model, outlier, calibration="entropy")["x"]
    assert -20 < low < -3
    assert 3 < high < 20
    even = np.linspace(-1, 1, 8 * 5000, dtype=np.float32).reshape(-1, 8)
    np.testing.assert_allclose(ranges(model, even, calibration="entropy")["x"], (-1, 1), atol=0.02)


def test_too_few_values_for_entropy_keep_their_extremes(model: Artifact) -> None:
    assert ranges(model, ROWS[:20], calibration="entropy") == ranges(model, ROWS[:20])


def slow_threshold(counts: Array, levels: int) -> int:
    """The definition in loops: fold the outliers in, merge, spread over what is not empty, compare."""
    counts = [float(one) for one in counts]
    counts[0] = counts[1]
    losses = {}
    for kept in range(levels, len(counts) + 1, max(1, levels // 8)):
        reference = counts[:kept]
        reference[-1] += sum(counts[kept:])
        coarse = [0.0] * kept
        for level in range(levels):
            inside = [i for i in range(kept) if i * levels // kept == level and counts[i] > 0]
            for i in inside:
                coarse[i] = sum(counts[j] for j in inside) / len(inside)
        if sum(reference) == 0 or sum(coarse) == 0:
            continue
        q = [1e-4 if c == 0 and p > 0 else c for p, c in zip(reference, coarse, strict=True)]
        losses[kept] = sum(
            p / sum(reference) * np.log((p / sum(reference)) / (c / sum(q)))
            for p, c in zip(reference, q, strict=True)
            if p > 0
        )
    least = min(losses.values(), default=np.inf)
    return next((kept for kept, loss in losses.items() if loss <= least + 1e-12), len(counts))


@given(st.lists(st.integers(0, 50), min_size=40, max_size=40))
@settings(max_examples=40, deadline=None)
def test_the_entropy_threshold_is_that_of_its_definition(counts: list[int]) -> None:
    found = entropy_threshold(np.array(counts), levels=16)
    wanted = slow_threshold(np.array(counts), 16)
    assert found == wanted


def test_tensors_of_one_value_have_a_range(make: Callable[..., Artifact]) -> None:
    model = make([node("Mul", ["x", "zero"], ["h"]), node("Relu", ["h"], ["y"])], {"zero": np.float32([0])})
    for how in ("minmax", "percentile", "entropy"):
        assert ranges(model, ROWS, calibration=how)["y"] == (0, 0)


def test_a_model_that_gives_nan_is_named(make: Callable[..., Artifact]) -> None:
    model = make([node("Sqrt", ["x"], ["root"]), node("Relu", ["root"], ["y"])], {})
    with pytest.raises(StepError, match="the model gives NaN in 'root' on the calibration rows"):
        ranges(model, ROWS)


@pytest.mark.parametrize("how", ["minmax", "percentile", "entropy"])
def test_memory_does_not_grow_with_rows(
    make: Callable[..., Artifact], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """40 rows of 512 kB of activations each, a first batch of tiny values: a budget of 2 MB holds."""
    monkeypatch.setattr(calibrate, "MEMORY_BYTES", 2 << 20)
    wide = random.normal(size=(8, 1 << 16)).astype(np.float32)
    model = make([node("MatMul", ["x", "W"], ["h"]), node("Relu", ["h"], ["y"])], {"W": wide})
    proto = to_proto(model)
    rows = ROWS[:40] * np.geomspace(1e-6, 1e3, 40, dtype=np.float32)[:, None]
    tracemalloc.start()
    try:
        find_ranges(proto, rows, {"Relu"}, StaticSettings(calibration=how))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * wide.nbytes + (8 << 20)  # copies of the model, and one batch


def test_batches_cover_all_rows_once(model: Artifact) -> None:
    fed = [one["x"] for one in batches(session(model), ROWS[:70], 32)]
    assert [len(one) for one in fed] == [32, 32, 6]
    np.testing.assert_array_equal(np.concatenate(fed), ROWS[:70])

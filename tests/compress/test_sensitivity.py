"""Bits by layer: within the budget, as good as the best for small cases, and where they help."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from rayopt.compress.onnx_weights import quantize_weights, weight_layers
from rayopt.compress.sensitivity import assign_bits, divergences, mixed_bits
from rayopt.compress.weights import Plan
from rayopt.errors import StepError
from rayopt.graph.export import export
from rayopt.measure.metrics import divergence
from rayopt.models.onnx_model import from_proto, predict, session, to_proto
from rayopt.models.zoo import mlp
from rayopt.records import Artifact

ROWS = np.random.default_rng(0).normal(size=(40, 16)).astype(np.float32)
LOSSES = st.lists(st.lists(st.floats(0, 10), min_size=3, max_size=3), min_size=1, max_size=4)


@given(LOSSES, st.floats(2, 5), st.lists(st.integers(1, 50), min_size=4, max_size=4))
@settings(deadline=None)
def test_the_budget_is_kept_and_no_single_step_would_help(
    losses: list[list[float]], budget: float, sizes: list[int]
) -> None:
    by = {str(index): dict(zip((2, 3, 5), row, strict=True)) for index, row in enumerate(losses)}
    counts = dict(zip(by, sizes, strict=False))
    found = assign_bits(by, counts, budget)
    used = sum(counts[name] * bits for name, bits in found.items())
    left = budget * sum(counts.values()) - used
    assert left >= 0
    for name, bits in found.items():
        reached = min(loss for width, loss in by[name].items() if width <= bits)
        for width, loss in by[name].items():
            assert width <= bits or loss >= reached or counts[name] * (width - bits) > left


@given(st.lists(st.floats(0.1, 10), min_size=2, max_size=4), st.integers(4, 20))
@settings(deadline=None)
def test_layers_of_one_size_get_the_best_assignment_there_is(weights: list[float], total: int) -> None:
    widths = (2, 3, 4, 5)
    by = {str(index): {bits: weight * 4.0**-bits for bits in widths} for index, weight in enumerate(weights)}
    budget = max(2.0, total / len(by))
    found = assign_bits(by, dict.fromkeys(by, 7), budget)
    best = min(
        sum(by[name][bits] for name, bits in zip(by, choice, strict=True))
        for choice in itertools.product(widths, repeat=len(by))
        if sum(choice) <= budget * len(by) + 1e-9
    )
    assert sum(by[name][bits] for name, bits in found.items()) == pytest.approx(best)


def test_a_budget_below_the_least_is_refused() -> None:
    with pytest.raises(StepError, match=r"2\.5 bits on average are fewer than the least that was tried"):
        assign_bits({"a": {3: 1.0}}, {"a": 5}, 2.5)


def spiked() -> tuple[Artifact, str]:
    """A perceptron with one layer that few bits cannot hold, and its name."""
    torch.manual_seed(0)
    model = export(mlp(16, 3, hidden=64).eval(), ROWS, ["torchscript"], 17, 0)
    proto = to_proto(model)
    name = weight_layers(model)[0][0]
    for one in proto.graph.initializer:
        if one.name == name:
            tensor = numpy_helper.to_array(one).copy()
            tensor[:, 0] = 4  # beside it the others are small, but they add up
            one.CopyFrom(numpy_helper.from_array(tensor, name))
    return from_proto(proto), name


def test_mixed_bits_keep_the_budget_and_diverge_less_than_equal_ones() -> None:
    model, name = spiked()
    plan = Plan(4, min_size=100)
    alone = divergences(model, ROWS, plan, (2, 4, 8))
    assert max(alone, key=lambda layer: alone[layer][4]) == name
    assert all(by[2] > by[8] for by in alone.values())
    mixed = quantize_weights(model, replace(plan, layers=mixed_bits(model, ROWS, 4.0, plan)))
    assert mixed.notes["average_bits"] <= 4.0
    assert len(set(mixed.notes["bits"].values())) > 1
    equal = quantize_weights(model, plan)
    wanted = predict(session(model), ROWS)
    worse, better = (divergence(wanted, predict(session(one), ROWS)) for one in (equal, mixed))
    assert better < 0.8 * worse

"""How many bits each layer's weights need: what one layer alone does to the outputs, and bits within a budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rayopt.compress.onnx_weights import Weight, coded, decode, find_weights, replaced
from rayopt.compress.weights import Plan
from rayopt.data.rows import Rows
from rayopt.errors import StepError
from rayopt.measure.metrics import divergence
from rayopt.models.onnx_model import predict, session, to_proto
from rayopt.records import Artifact

Array = np.ndarray[Any, Any]
Divergences = Mapping[str, Mapping[int, float]]
WIDTHS = (2, 3, 4, 5, 6, 8)
POWERS = (0.5, 1.0, 2.0)


def mixed_bits(model: Artifact, rows: Rows, average_bits: float, plan: Plan) -> dict[str, int]:
    """Bits by layer with at most `average_bits` per weight, chosen by the outputs on `rows`.

    Single layers' divergences rank the layers but do not add up: several assignments are made of them, with less and
    more weight on the worst layers, and the one whose joint divergence is least is taken; equal bits is among them.
    """
    weights = find_weights(to_proto(model))
    counts = {one.layer: one.tensor.size for one, _ in coded(weights, plan)}
    reference = predict(session(model), rows)
    alone = divergences(model, rows, plan)
    equal = max((width for width in WIDTHS if width <= average_bits), default=WIDTHS[0])
    tried = [dict.fromkeys(counts, equal)]
    for power in POWERS:
        bent = {name: {bits: loss**power for bits, loss in by.items()} for name, by in alone.items()}
        tried.append(assign_bits(bent, counts, average_bits))
    return min(tried, key=lambda bits: _joint(model, weights, plan, bits, rows, reference))


def divergences(model: Artifact, rows: Rows, plan: Plan, widths: Sequence[int] = WIDTHS) -> dict[str, dict[int, float]]:
    """By layer and bits: how far the outputs on `rows` go when that layer's weights alone are quantised."""
    weights = find_weights(to_proto(model))
    layers = [one.layer for one, _ in coded(weights, plan)]
    reference = predict(session(model), rows)
    return {
        layer: {bits: _joint(model, weights, plan, {layer: bits}, rows, reference) for bits in widths}
        for layer in layers
    }


def assign_bits(losses: Divergences, counts: Mapping[str, int], average_bits: float) -> dict[str, int]:
    """Bits by layer: from the least on, the step that saves most loss per bit is taken while the budget lasts.

    losses: by layer and bits; counts: elements by layer. Raises StepError when even the least bits are too many.
    """
    least = {
        name: {bits: min(loss for own, loss in by.items() if own <= bits) for bits in by} for name, by in losses.items()
    }
    found = {name: min(by) for name, by in least.items()}
    left = average_bits * sum(counts[name] for name in found) - sum(counts[name] * bits for name, bits in found.items())
    if left < 0:
        raise StepError(
            f"{average_bits} bits on average are fewer than the least that was tried ({min(found.values())})"
        )
    while True:
        steps = [
            ((by[found[name]] - loss) / (counts[name] * (bits - found[name])), name, bits)
            for name, by in least.items()
            for bits, loss in by.items()
            if bits > found[name] and counts[name] * (bits - found[name]) <= left and loss < by[found[name]]
        ]
        if not steps:
            return found
        _, name, bits = max(steps)
        left -= counts[name] * (bits - found[name])
        found[name] = bits


def _joint(
    model: Artifact, weights: Sequence[Weight], plan: Plan, bits: Mapping[str, int], rows: Rows, reference: Array
) -> float:
    """The divergence when the layers of `bits`, and no others, are quantised."""
    chosen = [one for one in weights if one.layer in bits]
    own = replace(plan, layers={})
    tensors = {
        one.name: decode(one, codes)
        for weight in chosen
        for one, codes in coded([weight], replace(own, bits=bits[weight.layer]))
    }
    return max(0.0, divergence(reference, predict(session(replaced(to_proto(model), tensors)), rows)))

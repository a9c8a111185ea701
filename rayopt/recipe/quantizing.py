"""Stages that change the ONNX file alone: quantisers that suit the operators, gentler ones, mixed precision."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rayopt.compress.facts import Facts
from rayopt.recipe.proposals import Item, Known, Proposal, Steps, key_of

CLEAN = "optimize_graph"  # what the quantisers start from
CLEANED = key_of([CLEAN])
MIXED_BYTES = 16 << 20  # of weights: larger models take minutes to find widths by layer
MAX_LAYERS = 48  # the largest are probed; the others stay as the quantiser has them


def finishers(known: Known) -> Iterator[Proposal]:
    """All ways that suit the model; without data those that need no rows to calibrate on."""
    yield Proposal((CLEAN,), "removes what the graph does not need; proven equal")
    for steps, why in quantizers(known.facts):
        if not known.facts.generated:
            yield Proposal((CLEAN, *steps), why)
        elif "quantize_static" not in key_of(steps):
            yield Proposal((CLEAN, *steps), f"{why}; to be verified on data")


def repairs(known: Known) -> Iterator[Proposal]:
    """Another calibration of what goes over the budget, and other widths of weights."""
    if known.over(known.find(CLEAN, "quantize_static")):
        for calibration in ("percentile", "entropy"):
            again: Item = {"use": "quantize_static", "calibration": calibration}
            yield Proposal((CLEAN, again), f"static quantisation is over the budget: {calibration} ranges")
    narrow = known.find(CLEAN, *_weights(4))
    if known.within(narrow):
        yield Proposal((CLEAN, *_weights(3)), "weights of 4 bits are within the budget: try 3")
        yield from _mixed_widths(3.2, known)
    elif known.over(narrow):
        yield Proposal((CLEAN, *_weights(6)), "weights of 4 bits are over the budget")
        yield from _mixed_widths(4.5, known)


def probes(known: Known) -> Iterator[Proposal]:
    """One layer quantised at a time, where all together are over the budget: it ranks them, but does not add up."""
    for quantizer in _over(known):
        for layer in known.facts.layers[:MAX_LAYERS]:
            yield Proposal(_alone(quantizer, layer, known.facts), f"what {layer} alone does to the outputs", probe=True)


def mixed(known: Known) -> Iterator[Proposal]:
    """The most sensitive layers stay in float; how many, is bisected on the joint result."""
    for quantizer in _over(known):
        ranked = _ranked(quantizer, known)
        low, high = 0, len(ranked)  # leaving `low` of them is not enough; leaving all is no quantisation
        while high - low > 1:
            middle = (low + high) // 2
            steps = _without(quantizer, ranked[:middle])
            most = f"the {middle} most sensitive of {len(ranked)} layers stay in float"
            yield Proposal(steps, f"{quantizer} is over the budget: {most}")
            found = known.find(*steps)
            if found is None:
                break
            low, high = (low, middle) if known.within(found) else (middle, high)


def combined(known: Known) -> Iterator[Proposal]:
    """What a quantiser leaves in float, such as embeddings, packed as well."""
    left = known.facts.share("Gather", "GRU", "RNN", "ConvTranspose")
    for steps, _ in quantizers(known.facts):
        if left > 0.05 and "quantize_dynamic" in key_of(steps) and known.within(known.find(CLEAN, *steps)):
            for bits in (8, 6):
                why = f"embeddings and other float weights ({left:.0%}) in {bits} bits as well"
                yield Proposal((CLEAN, *steps, *_weights(bits)), why)


def best_finishers(known: Known) -> list[Steps]:
    """The cleaned-up file, and the two quantisers within the budget that cost least."""
    candidates = [(CLEAN, *steps) for steps, _ in quantizers(known.facts)]
    good = [(known.tried[key_of(steps)].cost, steps) for steps in candidates if known.within(known.find(*steps))]
    return [(CLEAN,), *(steps for _, steps in sorted(good, key=lambda one: one[0])[:2])]


def quantizers(facts: Facts) -> Iterator[tuple[Steps, str]]:
    """Ways to quantise that suit the operators which hold the weights."""
    if facts.problem:
        return
    conv, attention = facts.share("Conv", "ConvTranspose"), "Softmax" in facts.operators
    matrices = facts.share("MatMul", "Gemm", "LSTM", "Attention")
    if conv > 0.05 or not attention:
        yield ("quantize_static",), f"{conv:.0%} of the weights are convolutions: 8-bit activations by calibration"
    if matrices > 0.05:
        yield ("quantize_dynamic",), f"{matrices:.0%} of the weights are matrices: 8-bit activations as they come"
        yield (_per_tensor("quantize_dynamic"),), "the same with a scale for each matrix: quicker, less exact"
    if facts.share("MatMul", "Gemm") > 0.5 and not attention:
        yield (_per_tensor("quantize_static"),), "matrices one after another: static scales for each are quickest"
    if conv > 0.05 and matrices > 0.05:
        first: Item = {"use": "quantize_static", "operators": ["Conv"]}
        yield (first, "quantize_dynamic"), "convolutions by calibration, matrices as they come"
    half: Item = {"use": "convert_fp16", "weights_only": True}
    yield (half,), "weights in half precision, computing as before: hardly a loss"
    for bits in (8, 4):
        yield _weights(bits), f"weights of {bits} bits, computing as before: for size"


def _over(known: Known) -> list[str]:
    """The quantisers that gave a model, but one over the budget, where there are layers to choose from."""
    if len(known.facts.layers) < 2:
        return []
    return [name for name in ("quantize_static", "quantize_dynamic") if known.over(known.find(CLEAN, name))]


def _ranked(quantizer: str, known: Known) -> list[str]:
    """Layers, the most sensitive first."""
    found = {layer: known.find(*_alone(quantizer, layer, known.facts)) for layer in known.facts.layers[:MAX_LAYERS]}
    alone = {layer: one.divergence for layer, one in found.items() if one is not None and one.ok}
    return sorted(alone, key=lambda layer: -alone[layer])


def _alone(quantizer: str, layer: str, facts: Facts) -> Steps:
    return _without(quantizer, [name for name in facts.layers if name != layer])


def _without(quantizer: str, layers: Sequence[str]) -> Steps:
    """A quantiser that leaves some layers in float."""
    return CLEAN, {"use": quantizer, "exclude": sorted(layers)}


def _per_tensor(quantizer: str) -> Item:
    return {"use": quantizer, "per_channel": False}


def _weights(bits: int) -> Steps:
    return ({"use": "quantize_weights", "bits": bits},)


def _mixed_widths(average_bits: float, known: Known) -> Iterator[Proposal]:
    """Widths by layer, for models that are quick to run once for each layer and width."""
    if sum(known.facts.weights.values()) <= MIXED_BYTES:
        step: Item = {"use": "quantize_weights", "average_bits": average_bits}
        yield Proposal((CLEAN, step), f"about {average_bits:g} bits a weight, more of them where the outputs need it")

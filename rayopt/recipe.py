"""The recipe `auto`: what to try for a model, from its operators and from what was found so far. Pure functions.

It goes by stages; each looks at the results of those before it, and the first that has something new to try is next.
The same results always lead to the same proposals, so that an interrupted search goes on where it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rayopt.compress.facts import Facts

Item = str | dict[str, Any]
Steps = tuple[Item, ...]

CLEANED = json.dumps(["optimize_graph"])  # the key of the proposal that the quantisers start from
KEEPS = (0.7, 0.5, 0.35, 0.25, 0.18, 0.125)  # shares of channels that are tried first
FIRST_KEEPS = (0.5, 0.25)
PROXY_EPOCHS, EPOCHS, LONG_EPOCHS = 3, 16, 48
HOPELESS = 12  # a short recovery this many budgets (at least this many points) below the baseline ends a branch
MAX_LAYERS = 48  # the largest are probed; the others stay as the quantiser has them
CLOSE = 4  # what is over the budget by up to this factor is worth another attempt


@dataclass(frozen=True)
class Budget:
    """What a search may spend: chains tried, and minutes from its start."""

    trials: int
    minutes: float


@dataclass(frozen=True)
class Tried:
    """What became of a proposal; without `ok` it failed. `cost` is its size times its latency, to the baseline's.

    `divergence` is how far its outputs are from the baseline's.
    """

    ok: bool
    drop: float = math.inf
    size_share: float = 1.0
    cost: float = 1.0
    divergence: float = math.inf


@dataclass(frozen=True)
class Proposal:
    """Steps as a job file would write them, and why they are worth trying.

    A `probe` is no candidate: it is made to learn what one layer does to the outputs.
    """

    steps: Steps
    why: str
    probe: bool = False

    @property
    def key(self) -> str:
        return json.dumps(self.steps, sort_keys=True)


@dataclass(frozen=True)
class Recipe:
    """Proposes chains within an accuracy budget (`max_drop`, in the metric's unit)."""

    facts: Facts
    max_drop: float
    tried: Mapping[str, Tried] = field(default_factory=dict)

    def next(self, tried: Mapping[str, Tried]) -> list[Proposal]:
        """The next proposals, none when everything that seemed worth trying was tried."""
        known = Recipe(self.facts, self.max_drop, tried)
        stages: Sequence[Callable[[], Iterator[Proposal]]] = (
            known._finishers,
            known._repairs,
            known._probes,
            known._mixed,
            known._combined,
            known._short_recoveries,
            known._recoveries,
            known._between,
            known._long_recoveries,
        )
        for stage in stages[:1] if self.facts.generated else stages:
            new = {one.key: one for one in stage() if one.key not in tried}
            if new:
                return list(new.values())
        return []

    # What is done to the ONNX file alone

    def _finishers(self) -> Iterator[Proposal]:
        yield Proposal(("optimize_graph",), "removes what the graph does not need; proven equal")
        for steps, why in _quantizers(self.facts):
            if not self.facts.generated:
                yield Proposal(("optimize_graph", *steps), why)
            elif not any(
                "quantize_static" in json.dumps(step) for step in steps
            ):  # which would want rows to calibrate on
                yield Proposal(("optimize_graph", *steps), f"{why}; to be verified on data")

    def _repairs(self) -> Iterator[Proposal]:
        """Another calibration of what goes over the budget, and other widths of weights."""
        static = self._find("optimize_graph", "quantize_static")
        if static is not None and static.ok and not self._within(static):
            for calibration in ("percentile", "entropy"):
                again: Item = {"use": "quantize_static", "calibration": calibration}
                why = f"static quantisation is over the budget: {calibration} ranges"
                yield Proposal(("optimize_graph", again), why)
        found = self._find("optimize_graph", *_weights(4))
        if found is None or not found.ok:
            return
        if self._within(found):
            yield Proposal(("optimize_graph", *_weights(3)), "weights of 4 bits are within the budget: try 3")
            mixed: Item = {"use": "quantize_weights", "average_bits": 3.2}
            yield Proposal(("optimize_graph", mixed), "about 3 bits a weight, more of them where the outputs need it")
        else:
            yield Proposal(("optimize_graph", *_weights(6)), "weights of 4 bits are over the budget")
            mixed = {"use": "quantize_weights", "average_bits": 4.5}
            yield Proposal(("optimize_graph", mixed), "about 4 bits a weight, more of them where the outputs need it")

    # Mixed precision by layer

    def _probes(self) -> Iterator[Proposal]:
        """One layer quantised at a time, where all together are over the budget: it ranks them, but does not add up."""
        for quantizer in self._over():
            for layer in self.facts.layers[:MAX_LAYERS]:
                rest = [name for name in self.facts.layers if name != layer]
                yield Proposal(_without(quantizer, rest), f"what {layer} alone does to the outputs", probe=True)

    def _mixed(self) -> Iterator[Proposal]:
        """The most sensitive layers stay in float; how many, is bisected on the joint result."""
        for quantizer in self._over():
            ranked = self._ranked(quantizer)
            low, high = 0, len(ranked)  # leaving `low` of them is not enough; leaving all is no quantisation
            for _ in range(max(1, len(ranked)).bit_length()):
                if high - low <= 1:
                    break
                middle = (low + high) // 2
                steps = _without(quantizer, ranked[:middle])
                why = (
                    f"{quantizer} is over the budget: the {middle} most sensitive of {len(ranked)} layers stay in float"
                )
                yield Proposal(steps, why)
                found = self._find(*steps)
                if found is None:
                    break
                low, high = (low, middle) if self._within(found) else (middle, high)

    def _over(self) -> list[str]:
        """The quantisers that gave a model, but one over the budget."""
        found = {name: self._find("optimize_graph", name) for name in ("quantize_static", "quantize_dynamic")}
        many = len(self.facts.layers) > 1
        return [name for name, one in found.items() if many and one is not None and one.ok and not self._within(one)]

    def _ranked(self, quantizer: str) -> list[str]:
        """Layers, the most sensitive first."""
        alone = {}
        for layer in self.facts.layers[:MAX_LAYERS]:
            rest = [name for name in self.facts.layers if name != layer]
            found = self._find(*_without(quantizer, rest))
            if found is not None and found.ok:
                alone[layer] = found.divergence
        return sorted(alone, key=lambda name: -alone[name])

    def _combined(self) -> Iterator[Proposal]:
        """What a quantiser leaves in float, such as embeddings, packed as well."""
        left = self.facts.share("Gather", "GRU", "RNN", "ConvTranspose")
        for steps, _ in _quantizers(self.facts):
            if left > 0.05 and "quantize_dynamic" in steps and self._within(self._find("optimize_graph", *steps)):
                for bits in (8, 6):
                    why = f"embeddings and other float weights ({left:.0%}) in {bits} bits as well"
                    yield Proposal(("optimize_graph", *steps, *_weights(bits)), why)

    # Pruning and recovery

    def _short_recoveries(self) -> Iterator[Proposal]:
        """Two shares of channels first: a model that cannot be pruned need not fail at all of them."""
        if not self.facts.trainable:
            return
        able = any(self._proxy(keep).ok for keep in FIRST_KEEPS)
        for keep in KEEPS if able else FIRST_KEEPS:
            steps = (*_pruned(keep, PROXY_EPOCHS), "export_onnx")
            yield Proposal(steps, f"a short recovery shows what {keep:.3g} of the channels can do")

    def _recoveries(self) -> Iterator[Proposal]:
        if self.facts.trainable:
            for keep in self._distinct(KEEPS, PROXY_EPOCHS, ("export_onnx",)):
                if not self._hopeless(keep):
                    yield from self._finished(keep, EPOCHS, f"{keep:.3g} of the channels, fully recovered")

    def _between(self) -> Iterator[Proposal]:
        """Bisects (twice) between the smallest share that is within the budget and the largest below that is not."""
        if not self.facts.trainable:
            return
        shares = self._distinct(KEEPS, PROXY_EPOCHS, ("export_onnx",))
        for _ in range(2):
            good, bad = self._edge(shares)
            if good is None or bad is None or len(self._distinct(shares)) < len(shares):
                return  # there is nothing between, or widths are rounded to the same
            middle = round(math.sqrt(good * bad), 3)
            shares.append(middle)
            yield from self._finished(middle, EPOCHS, f"between {bad:g} (over the budget) and {good:g} (within it)")
            if self._best_drop(middle, EPOCHS) is None:
                return

    def _long_recoveries(self) -> Iterator[Proposal]:
        """More training where a little is missing, and for the smallest share that is within the budget."""
        if not self.facts.trainable:
            return
        for keep in self._distinct(self._shares()):
            drop = self._best_drop(keep, EPOCHS)
            if drop is not None and self.max_drop < drop <= CLOSE * max(self.max_drop, 0.002):
                yield from self._finished(
                    keep, LONG_EPOCHS, f"{keep:.3g} of the channels misses the budget by little: train longer"
                )

    def stopped(self) -> list[str]:
        """The branches that were given up early, as sentences."""
        if self.facts.problem:
            return [f"no quantiser was tried: {self.facts.problem}"]
        if not self.facts.trainable:
            return []
        return [
            f"keeping {keep:.3g} of the channels was given up after {PROXY_EPOCHS} epochs of recovery: "
            f"{self._proxy(keep).drop:.4g} below the baseline"
            for keep in KEEPS
            if self._proxy(keep).ok and self._hopeless(keep)
        ]

    def _finished(self, keep: float, epochs: int, why: str) -> Iterator[Proposal]:
        """A pruned model, recovered, then as the ONNX file of each of the best finishers."""
        for finisher in self._best_finishers():
            yield Proposal((*_pruned(keep, epochs), *finisher), why)

    def _best_finishers(self) -> list[Steps]:
        """The plain export, and the two finishers within the budget that cost least."""
        plain: Steps = ("optimize_graph",)
        candidates = [("optimize_graph", *steps) for steps, _ in _quantizers(self.facts)]
        good = [(self.tried[_key(steps)].cost, steps) for steps in candidates if self._within(self._find(*steps))]
        return [plain, *(steps for _, steps in sorted(good, key=lambda one: one[0])[:2])]

    def _edge(self, shares: Sequence[float]) -> tuple[float | None, float | None]:
        within = [one for one in shares if (drop := self._best_drop(one, EPOCHS)) is not None and drop <= self.max_drop]
        good = min(within, default=None)
        bad = max((one for one in shares if one not in within and (good is None or one < good)), default=None)
        return good, bad

    def _shares(self) -> list[float]:
        """Every share of channels that was fully recovered."""
        found = set()
        for key in self.tried:
            first = json.loads(key)[0]
            if isinstance(first, dict) and first["use"] == "prune_channels":
                found.add(first["keep"])
        return sorted(found, reverse=True)

    def _distinct(
        self, shares: Sequence[float], epochs: int = EPOCHS, finisher: Steps = ("optimize_graph",)
    ) -> list[float]:
        """Shares of channels without those that rounding makes the same model as a larger one."""
        first: dict[tuple[float, float], float] = {}
        for keep in sorted(shares, reverse=True):
            found = self._find(*_pruned(keep, epochs), *finisher)
            same = (found.size_share, found.drop) if found and found.ok else (keep, math.inf)
            first.setdefault(same, keep)
        return list(first.values())

    def _best_drop(self, keep: float, epochs: int) -> float | None:
        drops = [
            one.drop
            for one in (self._find(*_pruned(keep, epochs), *finish) for finish in self._best_finishers())
            if one and one.ok
        ]
        return min(drops, default=None)

    def _hopeless(self, keep: float) -> bool:
        proxy = self._proxy(keep)
        return not proxy.ok or proxy.drop > HOPELESS * max(self.max_drop, 0.01)

    def _proxy(self, keep: float) -> Tried:
        return self._find(*_pruned(keep, PROXY_EPOCHS), "export_onnx") or Tried(ok=False)

    def _find(self, *steps: Item) -> Tried | None:
        return self.tried.get(_key(steps))

    def _within(self, one: Tried | None) -> bool:
        return one is not None and one.ok and one.drop <= self.max_drop + 1e-12


def _quantizers(facts: Facts) -> Iterator[tuple[Steps, str]]:
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
    yield (
        ({"use": "convert_fp16", "weights_only": True},),
        "weights in half precision, computing as before: hardly a loss",
    )
    for bits in (8, 4):
        yield _weights(bits), f"weights of {bits} bits, computing as before: for size"


def _per_tensor(quantizer: str) -> Item:
    return {"use": quantizer, "per_channel": False}


def _pruned(keep: float, epochs: int) -> Steps:
    return {"use": "prune_channels", "keep": keep}, {"use": "recover", "epochs": epochs}


def _weights(bits: int) -> Steps:
    return ({"use": "quantize_weights", "bits": bits},)


def _without(quantizer: str, layers: Sequence[str]) -> Steps:
    """A quantiser that leaves some layers in float."""
    return "optimize_graph", {"use": quantizer, "exclude": sorted(layers)}


def _key(steps: Sequence[Item]) -> str:
    return json.dumps(list(steps), sort_keys=True)

"""What takes the memory over a step: by kind, and the activations by the layer that made them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from rayopt.memory.predict import Traced
from rayopt.memory.trace import FORWARD, OPTIMIZER, Storage

KINDS = ("weights", "buffers", "gradients", "optimizer", "activations", "temporary", "scratch")
POINTS = 240


@dataclass(frozen=True)
class Snapshot:
    """`at_peak`: bytes by kind when most is alive. `layers`: those of the activations by layer. `curve`: bytes by kind
    over the step, at points of equal numbers of events."""

    peak_bytes: int
    at_peak: Mapping[str, int]
    layers: Mapping[str, int]
    curve: Mapping[str, tuple[int, ...]]


def snapshot(traced: Traced) -> Snapshot:
    """Takes a traced step apart."""
    line = traced.timeline
    peak, at = line.peak_bytes, line.peak_at
    alive = [one for one in traced.trace.storages if one.birth <= at and (one.death is None or one.death > at)]
    by_kind: Counter[str] = Counter()
    layers: Counter[str] = Counter()
    for one in alive:
        kind = _kind(one)
        by_kind[kind] += one.size_bytes
        if kind == "activations":
            layers[one.module or "(model)"] += one.size_bytes
    by_kind["scratch"] = max(0, peak - sum(by_kind.values()))
    return Snapshot(
        peak,
        {kind: by_kind[kind] for kind in KINDS},
        dict(layers.most_common()),
        _curve(traced),
    )


def _kind(one: Storage) -> str:
    if one.kind:
        return one.kind
    if one.phase == FORWARD:
        return "activations"
    return "optimizer" if one.phase == OPTIMIZER and one.death is None else "temporary"


def _curve(traced: Traced) -> dict[str, tuple[int, ...]]:
    """Bytes by kind at POINTS of the second step, whose end is the last event."""
    events = len(traced.trace.events)
    changes = {kind: np.zeros(events + 1, dtype=np.int64) for kind in KINDS}
    for one in traced.trace.storages:
        changes[_kind(one)][one.birth] += one.size_bytes
        if one.death is not None:
            changes[_kind(one)][one.death] -= one.size_bytes
    levels = {kind: np.cumsum(change)[:events] for kind, change in changes.items()}
    line = traced.timeline
    inside = np.zeros(events, dtype=np.int64)
    np.maximum.at(inside, line.origin, np.cumsum(line.deltas).astype(np.int64))
    levels["scratch"] = np.maximum(0, inside - sum(levels[kind] for kind in KINDS if kind != "scratch"))
    start = events // 2
    edges = np.linspace(start, events, min(POINTS, events - start) + 1).astype(int)
    total = inside
    picks = [low + int(total[low:high].argmax()) for low, high in itertools.pairwise(edges) if high > low]
    return {kind: tuple(int(level[pick]) for pick in picks) for kind, level in levels.items()}

"""Values as a Gaussian process likes them: standardised, or the logarithm of how far they are from the best.

The evidence decides which (Snelson, Rasmussen and Ghahramani, 2004): losses with heavy tails get a logarithm.
"""

from __future__ import annotations

import numpy as np

from rayopt.search import gaussian
from rayopt.search.gaussian import Hyper
from rayopt.search.parameters import Array

SHARES = (None, 1.0, 0.1, 0.01)  # of the median gap: added to a gap before its logarithm is taken; None: no logarithm
LOOKED_AT = 72  # of more points so many decide about the shape, and where the fit to all of them starts
POLISH_STEPS = 8
WIDEST = 1e100  # values beyond are taken for this: their squares must be numbers


def warped(values: Array, share: float | None) -> tuple[Array, Array]:
    """(n,) standardised values in the same order, and (n,) the log of their slope against the original ones."""
    values = np.clip(values, -WIDEST, WIDEST)
    gaps = values.max() - values
    if not (gaps > 0).any():
        return np.zeros(len(values)), np.zeros(len(values))
    median = max(float(np.median(gaps[gaps > 0])), float(gaps.max()) * 1e-12)
    gaps = gaps / median
    curved = -gaps if share is None else -np.log(gaps + share)
    slopes = np.zeros(len(values)) if share is None else curved
    deviation = float(curved.std())
    return (curved - curved.mean()) / deviation, slopes - np.log(median) - np.log(deviation)


def fitted(units: Array, values: Array, nominal: Array) -> tuple[Array, Hyper]:
    """The warped values that are most probable under a Gaussian process, and its hyper-parameters."""
    rows = _looked_at(values)
    found = []
    for share in SHARES:
        curved, slopes = warped(values, share)
        hyper, evidence = gaussian.fit(units[rows], curved[rows], nominal)
        found.append((evidence + float(slopes[rows].sum()), curved, hyper))
    _, curved, hyper = max(found, key=lambda one: one[0])
    if len(rows) < len(values):
        hyper, _ = gaussian.fit(units, curved, nominal, first=hyper, steps=POLISH_STEPS)
    return curved, hyper


def _looked_at(values: Array) -> Array:
    """The indices of the best third of those that are looked at, and of others spread over all ranks."""
    order = np.argsort(-values, kind="stable")
    if len(values) <= LOOKED_AT:
        return np.sort(order)
    best = LOOKED_AT // 3
    spread = best + np.linspace(0, len(values) - best - 1, LOOKED_AT - best).round().astype(int)
    return np.sort(order[np.concatenate([np.arange(best), spread])])

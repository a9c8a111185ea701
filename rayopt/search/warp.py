"""Values as a Gaussian process likes them: standardised, or the logarithm of how far they are from the best.

Which of them is decided by the evidence (Snelson, Rasmussen and Ghahramani, 2004): losses with heavy tails get a logarithm.
"""

from __future__ import annotations

import math

import numpy as np

from rayopt.search import gaussian
from rayopt.search.gaussian import Hyper
from rayopt.search.parameters import Array

SHARES = (1.0, 0.1, 0.01)  # of the median gap: what is added to a gap before its logarithm is taken


def warped(values: Array, share: float | None) -> tuple[Array, float]:
    """(n,) standardised values, and the log of the volume by which that changes their density."""
    gaps = values.max() - values
    median = float(np.median(gaps[gaps > 0])) if (gaps > 0).any() else 0.0
    if median == 0.0:
        return np.zeros(len(values)), 0.0
    gaps = gaps / median
    volume = -len(values) * math.log(median)
    curved = -gaps
    if share is not None:
        curved = -np.log(gaps + share)
        volume += float(curved.sum())
    deviation = float(curved.std())
    return (curved - curved.mean()) / deviation, volume - len(values) * math.log(deviation)


def fitted(units: Array, values: Array, nominal: Array) -> tuple[Array, Hyper]:
    """The warped values that are most probable under a Gaussian process, and its hyper-parameters."""
    best: tuple[float, Array, Hyper] | None = None
    for share in (None, *SHARES):
        curved, volume = warped(values, share)
        hyper, evidence = gaussian.fit(units, curved, nominal)
        if best is None or evidence + volume > best[0]:
            best = evidence + volume, curved, hyper
    assert best is not None
    return best[1], best[2]

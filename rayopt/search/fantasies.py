"""What a point is worth trying for while others are being evaluated, whose values are drawn from what is believed.

Expected improvement is averaged over the draws, each of which also moves what has to be improved on (Snoek, Larochelle
and Adams, 2012, section 3.2): a believed mean alone leaves a point right beside one in flight as good as that one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import logsumexp, ndtri

from rayopt.search import acquisition
from rayopt.search.design import sobol
from rayopt.search.gaussian import Posterior
from rayopt.search.parameters import Array

DRAWS = 32


@dataclass(frozen=True)
class Fantasies:
    """A belief and what has to be beaten, for each draw.

    joined: the belief with the points in flight; values (k, n): what was seen and drawn there; best (k,).
    """

    joined: Posterior
    values: Array
    best: Array

    def worth(self, units: Array) -> Array:
        """(m,) log of the expected improvement at units (m, dims)."""
        covariance, variance = self.joined.spread(units)
        means = self._means[:, None] + self._weights @ covariance
        logs = acquisition.log_improvement(means, np.broadcast_to(variance, means.shape), self.best[:, None])
        found: Array = logsumexp(logs, axis=0) - np.log(len(means))
        return found

    def slope(self, unit: Array) -> tuple[float, Array]:
        """The same of one place (dims,), and how it changes with its coordinates."""
        covariance, change, variance, by_variance = self.joined.spread_slope(unit)
        means = self._means + self._weights @ covariance
        logs, to_mean, to_variance = acquisition.log_improvement_slopes(means, np.full(len(means), variance), self.best)
        total = float(logsumexp(logs))
        shares = np.exp(logs - total)
        by_mean = ((shares * to_mean) @ self._weights) @ change
        return total - float(np.log(len(means))), by_mean + float(shares @ to_variance) * by_variance

    @cached_property
    def _means(self) -> Array:
        ones = self.joined.solve(np.ones((1, self.values.shape[1])))[0]
        found: Array = self.values @ ones / ones.sum()
        return found

    @cached_property
    def _weights(self) -> Array:
        return self.joined.solve(self.values - self._means[:, None])


def fantasies(value: Posterior, ahead: Array, best: float, counts: Array, seed: int) -> Fantasies:
    """Draws of what is believed of the points `ahead` (p, dims); of those that count, the best is to be beaten too."""
    normals = ndtri(np.clip(sobol(len(ahead), DRAWS, seed), 1e-9, 1 - 1e-9))
    drawn = value.draws(ahead, normals)
    values = np.hstack([np.tile(value.values, (DRAWS, 1)), drawn])
    beaten = np.where(counts, drawn, -np.inf).max(axis=1)
    return Fantasies(value.joined(ahead, drawn[0]), values, np.maximum(best, beaten))

"""A Gaussian process over the unit cube: Matérn 5/2 with a length scale for each parameter, fitted by its evidence.

Values of a nominal parameter are 0 or 1 apart. Formulas: Rasmussen and Williams (2006), sections 2.7, 4.2 and 5.4.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import lapack, solve_triangular
from scipy.optimize import minimize

from rayopt.search.parameters import Array

ROOT5 = math.sqrt(5)
# Log-normal priors of length scales, of the signal's and of the noise's variance (of standardised values): mean, width.
LENGTH_PRIOR = (0.0, 1.0)
SIGNAL_PRIOR = (0.0, 1.5)
NOISE_PRIOR = (math.log(1e-5), 3.0)
LENGTH_BOUNDS = (math.log(5e-3), math.log(1e2))
SIGNAL_BOUNDS = (math.log(1e-2), math.log(1e3))
NOISE_BOUNDS = (math.log(1e-8), math.log(1.0))
START_LENGTHS = (0.4, 1.5)
MAX_STEPS = 60
FAILED = 1e10  # the objective where the covariance cannot be factored


@dataclass(frozen=True)
class Hyper:
    """(dims,) length scales, and the variances of signal and noise, as logarithms in one vector (dims + 2,)."""

    theta: Array

    @property
    def lengths(self) -> Array:
        lengths: Array = np.exp(self.theta[:-2])
        return lengths

    @property
    def signal(self) -> float:
        return math.exp(self.theta[-2])

    @property
    def noise(self) -> float:
        return math.exp(self.theta[-1])


@dataclass(frozen=True)
class Posterior:
    """What is believed after `values` (n,) were seen at `units` (n, dims)."""

    units: Array
    values: Array
    nominal: Array
    hyper: Hyper

    def predict(self, units: Array) -> tuple[Array, Array]:
        """(m,) mean and (m,) variance, without the noise of an observation."""
        covariance, variance = self.spread(units)
        return self._mean + self._weights @ covariance, variance

    def spread(self, units: Array) -> tuple[Array, Array]:
        """(n, m) covariance of what was seen with units (m, dims), and their (m,) variance."""
        covariance = self._covariance(self.units, units)
        half = self._whitener @ covariance
        return covariance, np.maximum(self.hyper.signal - np.einsum("ij,ij->j", half, half), 1e-14)

    def slope(self, unit: Array) -> tuple[float, float, Array, Array]:
        """Mean and variance at one place (dims,), and how they change with its coordinates (of those not nominal)."""
        covariance, change, variance, by_variance = self.spread_slope(unit)
        return self._mean + float(self._weights @ covariance), variance, self._weights @ change, by_variance

    def spread_slope(self, unit: Array) -> tuple[Array, Array, float, Array]:
        """(n,) covariance with one place and how it changes (n, dims), its variance and how it changes (dims,)."""
        squared = _squared(self.units, unit[None], self.nominal, self.hyper.lengths)[:, 0]
        root = ROOT5 * np.sqrt(squared)
        decay = np.exp(-root)
        covariance = self.hyper.signal * (1 + root + root * root / 3) * decay
        inner = -self.hyper.signal * 5 / 3 * (1 + root) * decay
        change = inner[:, None] * (unit - self.units) / self.hyper.lengths**2
        half = self._whitener @ covariance
        variance = max(self.hyper.signal - float(half @ half), 1e-14)
        return covariance, change, variance, -2 * (half @ self._whitener) @ change

    def solve(self, rows: Array) -> Array:
        """(k, n) rows times the inverse of the covariance."""
        solved: Array = (rows @ self._whitener.T) @ self._whitener
        return solved

    def joined(self, units: Array, values: Array) -> Posterior:
        """The belief after more values, with the same hyper-parameters."""
        return Posterior(np.vstack([self.units, units]), np.append(self.values, values), self.nominal, self.hyper)

    def draws(self, units: Array, normals: Array) -> Array:
        """(k, m) joint draws at `units` (m, dims) from standard normals (k, m)."""
        cross = self._whitener @ self._covariance(self.units, units)
        within = self._covariance(units, units) - cross.T @ cross
        factor, _ = _factor(within + 1e-10 * self.hyper.signal * np.eye(len(units)))
        drawn: Array = self.predict(units)[0] + normals @ factor.T
        return drawn

    def _covariance(self, left: Array, right: Array) -> Array:
        return self.hyper.signal * _matern(_squared(left, right, self.nominal, self.hyper.lengths))

    @cached_property
    def _whitener(self) -> Array:
        """(n, n) the inverse of the covariance's Cholesky factor."""
        covariance = self._covariance(self.units, self.units)
        covariance[np.diag_indices_from(covariance)] += self.hyper.noise
        factor, _ = _factor(covariance)
        inverse: Array = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
        return inverse

    @cached_property
    def _mean(self) -> float:
        """The constant mean that fits best (generalised least squares)."""
        half = self._whitener @ np.stack([self.values, np.ones(len(self.values))], axis=1)
        return float(half[:, 0] @ half[:, 1] / (half[:, 1] @ half[:, 1]))

    @cached_property
    def _weights(self) -> Array:
        weights: Array = self._whitener.T @ (self._whitener @ (self.values - self._mean))
        return weights


def hyper(lengths: Array, signal: float, noise: float) -> Hyper:
    return Hyper(np.log(np.append(lengths, [signal, noise])))


def fit(
    units: Array, values: Array, nominal: Array, first: Hyper | None = None, steps: int = MAX_STEPS
) -> tuple[Hyper, float]:
    """The most probable hyper-parameters after standardised `values` (n,) at `units` (n, dims), and their log evidence.

    `first` is where the climb starts; without it there are several starts.
    """
    squares = differences(units, nominal)
    starts = [first.theta] if first else [guess(units.shape[1], length) for length in START_LENGTHS]
    bounds = [LENGTH_BOUNDS] * units.shape[1] + [SIGNAL_BOUNDS, NOISE_BOUNDS]
    options = {"maxiter": steps, "ftol": 1e-5}
    ends = [
        minimize(objective, start, (squares, values), jac=True, bounds=bounds, method="L-BFGS-B", options=options)
        for start in starts
    ]
    best = min(ends, key=lambda end: float(end.fun))
    return Hyper(best.x), -float(best.fun)


def guess(dims: int, length: float) -> Array:
    return np.array([math.log(length)] * dims + [0.0, math.log(1e-4)])


def differences(units: Array, nominal: Array) -> Array:
    """(dims, n, n) squared distances between points, a parameter at a time."""
    squares: Array = (units.T[:, :, None] - units.T[:, None, :]) ** 2
    squares[nominal] = squares[nominal] > 0
    return squares


def objective(theta: Array, squares: Array, values: Array) -> tuple[float, Array]:
    """The negative log evidence with its priors, and its gradient; squares as `differences` gives them."""
    n, dims = len(values), len(theta) - 2
    weights, signal, noise = np.exp(-2 * theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1])
    flat = squares.reshape(dims, -1)
    root = ROOT5 * np.sqrt(weights @ flat)
    decay = np.exp(-root)
    kernel = (signal * (1 + root + root * root / 3) * decay).reshape(n, n)
    covariance = kernel.copy()
    covariance.flat[:: n + 1] += noise
    factor, info = lapack.dpotrf(covariance, lower=1)
    if info:
        return FAILED, np.zeros(len(theta))
    inverse, _ = lapack.dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    ones = inverse.sum(axis=1)
    residual = values - float(ones @ values) / float(ones.sum())
    alpha = inverse @ residual
    evidence = (
        -0.5 * float(residual @ alpha) - float(np.log(factor.flat[:: n + 1]).sum()) - n / 2 * math.log(2 * math.pi)
    )
    outer = np.outer(alpha, alpha) - inverse
    by_length = (outer.reshape(-1) * ((1 + root) * decay)) @ flat.T * (signal * 5 / 6) * weights
    gradient = np.concatenate([by_length, [0.5 * float((outer * kernel).sum()), 0.5 * noise * float(np.trace(outer))]])
    means, widths = _priors(dims)
    offsets = (theta - means) / widths
    return -(evidence - 0.5 * float(offsets @ offsets)), -(gradient - offsets / widths)


def _priors(dims: int) -> tuple[Array, Array]:
    means = np.array([LENGTH_PRIOR[0]] * dims + [SIGNAL_PRIOR[0], NOISE_PRIOR[0]])
    return means, np.array([LENGTH_PRIOR[1]] * dims + [SIGNAL_PRIOR[1], NOISE_PRIOR[1]])


def _squared(left: Array, right: Array, nominal: Array, lengths: Array) -> Array:
    """(n, m) squared scaled distances between units (n, dims) and (m, dims)."""
    here, there = left[:, ~nominal] / lengths[~nominal], right[:, ~nominal] / lengths[~nominal]
    squared = (here * here).sum(axis=1)[:, None] + (there * there).sum(axis=1)[None, :] - 2 * (here @ there.T)
    found: Array = np.maximum(squared, 0.0)
    for column in np.flatnonzero(nominal):
        found += (left[:, column, None] != right[None, :, column]) / lengths[column] ** 2
    return found


def _matern(squared: Array) -> Array:
    root = ROOT5 * np.sqrt(squared)
    kernel: Array = (1 + root + root * root / 3) * np.exp(-root)
    return kernel


def _factor(covariance: Array) -> tuple[Array, float]:
    """The lower Cholesky factor, and what had to be added to the diagonal for it (a share of it)."""
    scale = float(np.mean(np.diag(covariance)))
    for jitter in (0.0, 1e-10, 1e-8, 1e-6, 1e-4, 1e-2):
        factor, info = lapack.dpotrf(covariance + jitter * scale * np.eye(len(covariance)), lower=1, clean=1)
        if info == 0:
            return factor, jitter
    raise np.linalg.LinAlgError("the covariance has no Cholesky factor")

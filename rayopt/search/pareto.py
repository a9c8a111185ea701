"""Several objectives, more of each is better: the front, the volume that it dominates, random compromises."""

from __future__ import annotations

import numpy as np

from rayopt.search.parameters import Array

LEAN = 0.05  # what the sum of all objectives counts beside the worst one (Knowles, 2006)


def front(points: Array) -> Array:
    """The indices of the points (n, objectives) that no other beats in everything; of equal points the first."""
    kept = []
    for index, point in enumerate(points):
        beaten = ((points >= point).all(axis=1) & (points > point).any(axis=1)).any()
        if not beaten and not (points[:index] == point).all(axis=1).any():
            kept.append(index)
    return np.array(kept, dtype=np.int64)


def hypervolume(points: Array, reference: Array) -> float:
    """The volume of what lies above `reference` (objectives,) and is beaten by one of the points (n, objectives).

    By slices along the last objective: exact, and quick for a few objectives.
    """
    points = np.asarray(points, dtype=float).reshape(-1, len(reference))
    points = points[(points > reference).all(axis=1)]
    if not len(points):
        return 0.0
    if len(reference) == 1:
        return float(points.max() - reference[0])
    points = points[np.argsort(-points[:, -1], kind="stable")]
    floors = [*points[1:, -1], float(reference[-1])]
    return sum(
        (float(point[-1]) - float(floor)) * hypervolume(points[: index + 1, :-1], reference[:-1])
        for index, (point, floor) in enumerate(zip(points, floors, strict=True))
        if point[-1] > floor
    )


def compromise(objectives: Array, generator: np.random.Generator) -> Array:
    """(n,) one value for each row (n, objectives), by random weights: ParEGO's augmented Chebyshev function."""
    low, high = objectives.min(axis=0), objectives.max(axis=0)
    losses = (high - objectives) / np.where(high > low, high - low, 1.0)
    weighted = losses * generator.dirichlet(np.ones(objectives.shape[1]))
    values: Array = -(weighted.max(axis=1) + LEAN * weighted.sum(axis=1))
    return values

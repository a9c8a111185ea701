"""scikit-learn's results as trials: ranked, in values that JSON takes, with what their parameters mattered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rayopt.errors import InputError
from rayopt.records import digest
from rayopt.search.history import Observation
from rayopt.search.importance import importance
from rayopt.search.space import Space

Trial = dict[str, Any]
LEARNT = 100  # candidates of a grid that its parameters' importance is learnt from: the work grows with their cube


def ranked(found: Any, metric: str) -> list[Trial]:
    """scikit-learn's results with its ranks; the one that it chose first (of halving, the best of the last round)."""
    results = found.cv_results_
    trials = []
    for index, params in enumerate(results["params"]):
        score, std = float(results[f"mean_test_{metric}"][index]), float(results[f"std_test_{metric}"][index])
        fitted = float(results["mean_fit_time"][index] + results["mean_score_time"][index]) * found.n_splits_
        is_scored = math.isfinite(score)
        trial = {
            "id": digest([int(results["iter"][index]) + 1 if "iter" in results else 1, plain(params)])[:12],
            "number": index + 1,
            "params": plain(params),
            "score": score if is_scored else None,
            "std": std if math.isfinite(std) else None,
            "rank": int(results[f"rank_test_{metric}"][index]) if is_scored else None,
            "seconds": round(fitted, 4),
            "status": "done" if is_scored else "failed",
        }
        if "n_resources" in results:
            trial["resources"] = int(results["n_resources"][index])
        trials.append((index != getattr(found, "best_index_", -1), trial["rank"] or math.inf, index, trial))
    return [trial for *_, trial in sorted(trials, key=lambda one: one[:3])]


def importance_of_grid(grid: Any, trials: Sequence[Trial]) -> dict[str, float]:
    """How much each parameter of a grid matters; empty for several grids, and for values that are no choices."""
    if not isinstance(grid, Mapping):
        return {}
    several = {name: list(values) for name, values in grid.items() if len(values) > 1}
    numbers = {name for name, values in several.items() if all(type(one) in (int, float) for one in values)}
    written = {
        name: {"choices": sorted(set(values)) if name in numbers else values, "ordered": name in numbers}
        for name, values in several.items()
    }
    try:
        space = Space.from_settings(written)
    except InputError:
        return {}
    step = max(1, len(trials) // LEARNT)
    seen = [Observation({name: one["params"][name] for name in several}, one["score"]) for one in trials[::step]]
    return importance(space, seen)


def grid_count(grid: Any) -> int:
    grids = grid if isinstance(grid, list) else [grid]
    return sum(math.prod(len(values) for values in one.values()) for one in grids)


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON takes them."""
    return {str(name): _plain_value(value) for name, value in params.items()}


def _plain_value(value: Any) -> Any:
    if hasattr(value, "item") and not isinstance(value, list | dict):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)

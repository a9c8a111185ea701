"""scikit-learn's results as trials: ranked, in values that JSON takes, with what their parameters mattered."""

from __future__ import annotations

import json
import math
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Any

from rayopt.errors import WorkError, input_error
from rayopt.records import digest
from rayopt.search.checks import TIMES, metric_names
from rayopt.search.goals import Aim
from rayopt.search.history import Observation, observed
from rayopt.search.importance import importance
from rayopt.search.parameters import Choice
from rayopt.search.space import Space
from rayopt.searching.search import Search

Trial = dict[str, Any]
LEARNT = 100  # candidates of a grid that its parameters' importance is learnt from: the work grows with their cube


class Chosen:
    """As scikit-learn takes for `refit`: which candidate is best by the objectives and bounds of a search.

    Raises WorkError where none is allowed; of those that all have no score the first one stands for them.
    """

    def __init__(self, search: Search) -> None:
        self._search = search

    def __call__(self, results: Mapping[str, Any]) -> int:
        seen = observations(results, self._search)
        best = self._search.aim.best(seen)
        if best is None and not all(one.failed for one in seen):
            raise WorkError(self._search.aim.hopeless(seen))
        return best or 0


def means(results: Mapping[str, Any], search: Search, metric: str) -> Any:
    """The means over the folds by candidate; raises InputError where the scorer gave scores by other names."""
    column = search.column("mean", metric)
    if column not in results:
        problem = f"{search.job['scoring']} gives several scores where one decides"
        raise input_error("scoring", problem, "take a scorer that gives one number")
    return results[column]


def observations(results: Mapping[str, Any], search: Search) -> list[Observation]:
    """scikit-learn's results as what was observed: means over the folds of all metrics and times."""
    names = [*metric_names(search.job["scoring"]), *TIMES]
    columns = {name: means(results, search, name) for name in names}
    goal = search.aim.goals[0]
    return [
        observed(
            params, goal.sign * columns[goal.metric][index], 0.0, {name: one[index] for name, one in columns.items()}
        )
        for index, params in enumerate(results["params"])
    ]


def ranked(found: Any, search: Search) -> list[Trial]:
    """scikit-learn's results with its ranks; the one that it chose first (of halving, the best of the last round).

    Where the job names objectives or bounds they rank instead, and what they do not allow has no rank.
    """
    trials = [_trial(found, search, index) for index in range(len(found.cv_results_["params"]))]
    if search.has_aim:
        _rank(trials, observations(found.cv_results_, search), search.aim)
    best = -1 if search.has_aim else getattr(found, "best_index_", -1)  # without a refit scikit-learn knows no aim
    order = sorted(range(len(trials)), key=lambda index: (index != best, trials[index]["rank"] or math.inf, index))
    return [trials[index] for index in order]


def _trial(found: Any, search: Search, index: int) -> Trial:
    results, metric = found.cv_results_, search.metric
    params = plain(results["params"][index])
    score, std = (float(results[search.column(kind, metric)][index]) for kind in ("mean", "std"))
    rank = results.get(search.column("rank", metric))
    fitted = float(results["mean_fit_time"][index] + results["mean_score_time"][index]) * found.n_splits_
    is_scored = math.isfinite(score)
    trial = {
        "id": digest([int(results["iter"][index]) + 1 if "iter" in results else 1, params])[:12],
        "number": index + 1,
        "params": params,
        "score": score if is_scored else None,
        "std": std if math.isfinite(std) else None,
        "rank": int(rank[index]) if is_scored and rank is not None else None,
        "seconds": round(fitted, 4),
        "status": "done" if is_scored else "failed",
    }
    if "n_resources" in results:
        trial["resources"] = int(results["n_resources"][index])
    return trial


def _rank(trials: Sequence[Trial], seen: Sequence[Observation], aim: Aim) -> None:
    """Ranks by the first objective among what is allowed; equals have the same."""
    allowed = sorted(-one.value for one in seen if aim.allows(one) and one.value is not None)
    for trial, one in zip(trials, seen, strict=True):
        trial["metrics"], trial["allowed"] = dict(one.metrics), aim.allows(one)
        trial["rank"] = 1 + bisect_left(allowed, -(one.value or 0.0)) if trial["allowed"] else None


def fronts(found: Any, search: Search) -> dict[str, Any]:
    """What the summary says of several objectives and of bounds; empty where the job names none."""
    if not search.has_aim:
        return {}
    aim, seen = search.aim, observations(found.cv_results_, search)
    volume = aim.hypervolume(seen)
    return {
        "objectives": [goal.model_dump() for goal in aim.goals],
        "constraints": {name: bound.model_dump(exclude_none=True) for name, bound in aim.bounds.items()},
        "front": [_trial(found, search, index)["id"] for index in aim.front(seen)] if len(aim.goals) > 1 else [],
        "hypervolume": None if volume is None else {"value": volume[0], "above": volume[1]},
    }


def importance_of_grid(grid: Any, trials: Sequence[Trial]) -> dict[str, float]:
    """How much each parameter of a grid matters; empty for several grids."""
    if not isinstance(grid, Mapping):
        return {}
    numbered = {name: _numbered(values) for name, values in grid.items()}
    several = {name: places for name, places in numbered.items() if len(set(places.values())) > 1}
    if not several:
        return {}
    space = Space(
        {
            name: Choice(tuple(range(max(places.values()) + 1)), ordered=all(map(_is_number, grid[name])))
            for name, places in several.items()
        }
    )
    step = max(1, len(trials) // LEARNT)
    seen = [
        Observation({name: places[_text(one["params"][name])] for name, places in several.items()}, one["score"])
        for one in trials[::step]
    ]
    return importance(space, seen)


def _numbered(values: Sequence[Any]) -> dict[str, int]:
    """The place of each value of a grid by its text: numbers in their order, and equal ones at one place."""
    if all(map(_is_number, values)):
        order = {value: place for place, value in enumerate(sorted(set(values)))}
        return {_text(_plain_value(value)): order[value] for value in values}
    texts = dict.fromkeys(_text(_plain_value(value)) for value in values)
    return {text: place for place, text in enumerate(texts)}


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def grid_count(grid: Any) -> int:
    grids = grid if isinstance(grid, list) else [grid]
    return sum(math.prod(len(values) for values in one.values()) for one in grids)


def plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as JSON takes them."""
    return {str(name): _plain_value(value) for name, value in params.items()}


def _plain_value(value: Any) -> Any:
    if hasattr(value, "item") and not isinstance(value, list | Mapping):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return plain(value)
    if isinstance(value, list | tuple):
        return [_plain_value(one) for one in value]
    return value if value is None or isinstance(value, str | bool | int | float) else str(value)

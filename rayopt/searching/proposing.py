"""What a search asks its strategy, and what for: from the fields of the job to an `Asking`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rayopt import strategies
from rayopt.search.asking import Asking
from rayopt.search.goals import Aim, Bound, Goal
from rayopt.search.history import History, Observation, WarmStart
from rayopt.search.hosts import Early
from rayopt.search.rungs import EarlyStop
from rayopt.search.space import Params, Space
from rayopt.search.stopping import Stop


def aim_of(job: Mapping[str, Any]) -> Aim:
    """The objectives and bounds of a search's fields."""
    given = job["objective"]
    goals = [{"metric": given, "direction": job["direction"]}] if isinstance(given, str) else given
    bounds = {name: Bound.model_validate(one) for name, one in job["constraints"].items()}
    return Aim(tuple(Goal.model_validate(goal) for goal in goals), bounds)


def asking_of(job: Mapping[str, Any], space: Space, history: History, aim: Aim, warm: WarmStart) -> Asking:
    """What asks a search's strategy for points."""
    strategy = strategies.find(job["strategy"], "strategy")
    options = strategy.Options.model_validate(options_of(job, strategy.Options.model_fields, aim))
    seed = job["seed"]

    def propose(seen: Sequence[Observation], pending: Sequence[Params]) -> Params | None:
        return strategy.propose(space, seen, pending, seed, options)

    stop = Stop.model_validate(job["stop"])
    early, goal = early_of(job, aim), aim.goals[0]
    carry = early is not None and goal.metric.endswith(early.metric) and early.sign == goal.sign
    return Asking(propose, history, job["n_trials"], stop, goal.sign, warm.observations, carry)


def options_of(job: Mapping[str, Any], known: Mapping[str, Any], aim: Aim) -> dict[str, Any]:
    """The strategy's options, with what it is to know of bounds and further objectives where it can."""
    options = dict(job["options"])
    if aim.bounds and "limits" in known:
        options.setdefault("limits", {name: one.model_dump() for name, one in aim.bounds.items()})
    if len(aim.goals) > 1 and "also" in known:
        options.setdefault("also", {goal.metric: goal.direction for goal in aim.goals[1:]})
    return options


def early_of(job: Mapping[str, Any], aim: Aim) -> Early | None:
    """How trials are ended early, None where they are not."""
    if job["early_stop"] is None:
        return None
    given, goal = EarlyStop.model_validate(job["early_stop"]), aim.goals[0]
    direction = given.direction or goal.direction
    return Early(given, given.metric or goal.metric.rpartition(".")[2], 1 if direction == "max" else -1)

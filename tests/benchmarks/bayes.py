"""Regret of the search strategies and of their peers on problems whose optimum is known.

    python tests/benchmarks/bayes.py --problems branin hartmann6 --who bayes optuna_gp --seeds 20

prints a table and a line of JSON for each problem: the median regret at `--evaluations` (50), initial points (5)
included, with quartiles. `--flying 4` keeps four trials in flight: four are asked before the first is told, and each
told one is replaced at once. `--cpu` times one suggestion at 50 and at 200 observations. Peers need
`pip install rayopt[bench]`. Nothing here decides a test; regret does not depend on the machine's load, the times do.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import json
import math
import statistics
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayopt import strategies
from rayopt.search.history import Observation, observed
from rayopt.search.parameters import Choice, Range
from rayopt.search.space import Space

INITIAL = 5


@dataclass(frozen=True)
class Problem:
    """`loss` of a space's points, to be made small; its least value is known."""

    settings: dict[str, Any]
    loss: Callable[[dict[str, Any]], float]
    least: float = 0.0


def cube(low: float, high: float, dims: int) -> dict[str, Any]:
    return {f"x{index}": {"low": low, "high": high} for index in range(dims)}


def vector(params: dict[str, Any]) -> np.ndarray:
    return np.array([params[f"x{index}"] for index in range(len(params))])


def branin(params: dict[str, Any]) -> float:
    x, y = vector(params)
    wave = y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6
    return float(wave**2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10)


A6 = np.array(
    [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
)
P6 = (
    np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    )
    / 1e4
)


def hartmann6(params: dict[str, Any]) -> float:
    inner = (A6 * (vector(params) - P6) ** 2).sum(axis=1)
    return float(-(np.array([1.0, 1.2, 3.0, 3.2]) * np.exp(-inner)).sum())


def rosenbrock(params: dict[str, Any]) -> float:
    x = vector(params)
    return float((100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum())


def ackley(params: dict[str, Any]) -> float:
    x = vector(params)
    waves = math.exp(np.cos(2 * math.pi * x).mean())
    return float(20 - 20 * math.exp(-0.2 * math.sqrt((x**2).mean())) + math.e - waves)


def levy(params: dict[str, Any]) -> float:
    w = 1 + (vector(params) - 1) / 4
    middle = ((w[:-1] - 1) ** 2 * (1 + 10 * np.sin(math.pi * w[:-1] + 1) ** 2)).sum()
    ends = math.sin(math.pi * w[0]) ** 2 + (w[-1] - 1) ** 2 * (1 + math.sin(2 * math.pi * w[-1]) ** 2)
    return float(middle + ends)


LOGS = {
    "C": {"low": 1e-3, "high": 1e3, "log": True},
    "gamma": {"low": 1e-6, "high": 10, "log": True},
    "tol": {"low": 1e-6, "high": 1e-1, "log": True},
}


def logs(params: dict[str, Any]) -> float:
    """A loss like a kernel machine's: a slanted valley in the logarithms, flat plateaus away from it."""
    c, gamma, tol = (math.log10(params[name]) for name in ("C", "gamma", "tol"))
    valley = ((c - 1.3) + 0.8 * (gamma + 2.4)) ** 2 + 0.2 * (gamma + 2.4) ** 2
    return 1 - math.exp(-0.4 * valley) + 0.02 * (tol + 4.2) ** 2


MIXED = {
    "rate": {"low": 1e-4, "high": 1.0, "log": True},
    "depth": {"low": 2, "high": 12, "int": True},
    "trees": {"low": 8, "high": 1024, "int": True, "log": True},
    "kind": ["linear", "boosted", "dart", "forest"],
    "drop": {"low": 0.0, "high": 0.9, "when": {"kind": "dart"}},
    "share": {"low": 0.1, "high": 1.0, "when": {"kind": ["boosted", "dart"]}},
}


def mixed(params: dict[str, Any]) -> float:
    """A loss like that of tree ensembles: a kind, whole numbers, and parameters that only some kinds have."""
    kind, depth = params["kind"], params["depth"]
    rate, trees = math.log10(params["rate"]), math.log2(params["trees"])
    base = {"linear": 0.6, "forest": 0.35, "boosted": 0.15, "dart": 0.0}[kind]
    best_depth = {"linear": 2, "forest": 11, "boosted": 5, "dart": 7}[kind]
    loss = base + 0.01 * (depth - best_depth) ** 2 + 0.03 * (rate + trees / 3 - 1.0) ** 2 + 0.01 * abs(trees - 9)
    if kind in ("boosted", "dart"):
        loss += 0.5 * (params["share"] - 0.7) ** 2
    if kind == "dart":
        loss += 0.8 * (params["drop"] - 0.25) ** 2
    return loss


PROBLEMS = {
    "branin": Problem({"x0": {"low": -5, "high": 10}, "x1": {"low": 0, "high": 15}}, branin, 0.39788735772973816),
    "hartmann6": Problem(cube(0, 1, 6), hartmann6, -3.322368011391339),
    "rosenbrock4": Problem(cube(-2.048, 2.048, 4), rosenbrock),
    "ackley5": Problem(cube(-15, 30, 5), ackley),
    "levy5": Problem(cube(-10, 10, 5), levy),
    "logs": Problem(LOGS, logs),
    "mixed": Problem(MIXED, mixed),
}
Ask = Callable[[], dict[str, Any]]
Tell = Callable[[dict[str, Any], float], None]


def of_rayopt(name: str) -> Callable[[Space, int], tuple[Ask, Tell]]:
    """One of rayopt's own strategies as two functions: ask and tell (values are losses)."""
    strategy = strategies.find(name, name)

    def begin(space: Space, seed: int) -> tuple[Ask, Tell]:
        history: list[Observation] = []
        pending: list[dict[str, Any]] = []

        def ask() -> dict[str, Any]:
            point = strategy.propose(space, history, pending, seed, strategy.Options())
            assert point is not None
            pending.append(dict(point))
            return dict(point)

        def tell(point: dict[str, Any], loss: float) -> None:
            pending.remove(point)
            history.append(observed(point, -loss))

        return ask, tell

    return begin


def of_optuna(name: str) -> Callable[[Space, int], tuple[Ask, Tell]]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def begin(space: Space, seed: int) -> tuple[Ask, Tell]:
        samplers = {
            "optuna_gp": lambda: optuna.samplers.GPSampler(seed=seed, n_startup_trials=INITIAL),
            "optuna_tpe": lambda: optuna.samplers.TPESampler(seed=seed, n_startup_trials=INITIAL),
        }
        study = optuna.create_study(sampler=samplers[name]())
        trials: list[tuple[dict[str, Any], Any]] = []

        def ask() -> dict[str, Any]:
            trial = study.ask()
            point: dict[str, Any] = {}
            for key, one in space.parameters.items():
                if any(point.get(parent) not in allowed for parent, allowed in one.when.items()):
                    continue
                if isinstance(one, Choice):
                    point[key] = trial.suggest_categorical(key, one.values)
                elif one.integer:
                    point[key] = trial.suggest_int(key, int(one.low), int(one.high), log=one.log)
                else:
                    point[key] = trial.suggest_float(key, one.low, one.high, log=one.log)
            trials.append((point, trial))
            return point

        def tell(point: dict[str, Any], loss: float) -> None:
            place = next(i for i, (one, _) in enumerate(trials) if one == point)
            study.tell(trials.pop(place)[1], loss)

        return ask, tell

    return begin


def of_bayes_opt(space: Space, seed: int) -> tuple[Ask, Tell]:
    """bayes_opt with its defaults. It knows no logarithms, no conditions: it is given all parameters as they are."""
    from bayes_opt import BayesianOptimization

    bounds: dict[str, Any] = {}
    for key, one in space.parameters.items():
        if isinstance(one, Range):
            bounds[key] = (one.low, one.high, int) if one.integer else (one.low, one.high)
        else:
            bounds[key] = tuple(one.values)
    optimizer = BayesianOptimization(None, bounds, random_state=seed, verbose=0, allow_duplicate_points=True)
    first = optimizer.random_sample(INITIAL)
    asked: list[tuple[dict[str, Any], dict[str, Any]]] = []

    def ask() -> dict[str, Any]:
        full = first.pop() if first else optimizer.suggest()
        given = {key: value.item() if isinstance(value, np.generic) else value for key, value in full.items()}
        point = space.params(space.units([given])[0])
        asked.append((point, full))
        return point

    def tell(point: dict[str, Any], loss: float) -> None:
        place = next(i for i, (one, _) in enumerate(asked) if one == point)
        optimizer.register(asked.pop(place)[1], -loss)

    return ask, tell


def searcher(name: str) -> Callable[[Space, int], tuple[Ask, Tell]]:
    if name.startswith("optuna"):
        return of_optuna(name)
    return of_bayes_opt if name == "bayes_opt_defaults" else of_rayopt(name)


def regret(problem: Problem, name: str, seed: int, evaluations: int, flying: int) -> float:
    """How far the best of so many evaluations is from the least loss."""
    ask, tell = searcher(name)(Space.from_settings(problem.settings), seed)
    best, asked = math.inf, 0
    queue: list[dict[str, Any]] = []
    for _ in range(evaluations):
        while len(queue) < flying and asked < evaluations:
            queue.append(ask())
            asked += 1
        point = queue.pop(0)
        loss = problem.loss(point)
        best = min(best, loss)
        tell(point, loss)
    return best - problem.least


def suggestion_s(name: str, settings: dict[str, Any], observations: int, seed: int) -> float:
    """Seconds of CPU for one suggestion after so many observations, of which nine in ten lie near the best."""
    space = Space.from_settings(settings)
    generator = np.random.default_rng(seed)
    target = generator.random(len(space))
    units = np.clip(target + generator.normal(0, 0.15, (observations, len(space))), 0, 1)
    units[::10] = generator.random((len(units[::10]), len(space)))
    points = [space.params(one) for one in space.snap(units)]
    values = -((units - target) ** 2).sum(axis=1) - 0.1 * np.cos(9 * units).sum(axis=1)
    if name in strategies.names():
        strategy = strategies.find(name, name)
        history = [observed(point, value) for point, value in zip(points, values, strict=True)]
        start = time.process_time()
        strategy.propose(space, history, [], seed, strategy.Options())
        return time.process_time() - start
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=seed))
    distributions = {
        key: optuna.distributions.FloatDistribution(one.low, one.high, log=one.log)
        for key, one in space.parameters.items()
        if isinstance(one, Range)
    }
    for point, value in zip(points, values, strict=True):
        study.add_trial(optuna.trial.create_trial(params=point, distributions=distributions, value=-value))
    start = time.process_time()
    study.ask(distributions)
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", nargs="+", default=["branin", "hartmann6", "rosenbrock4"], choices=PROBLEMS)
    parser.add_argument(
        "--who", nargs="+", default=["bayes", "random", "optuna_gp", "optuna_tpe", "bayes_opt_defaults"]
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--flying", type=int, default=1)
    parser.add_argument("--cpu", action="store_true", help="time suggestions instead")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if given.cpu:
        return print_cpu(given.who, given.problems, given.seeds)
    for problem in given.problems:
        for name in given.who:
            start = time.process_time()
            values = sorted(
                regret(PROBLEMS[problem], name, seed, given.evaluations, given.flying)
                for seed in range(given.first_seed, given.first_seed + given.seeds)
            )
            low, _, high = statistics.quantiles(values, n=4) if len(values) > 1 else values * 3
            cpu_s = (time.process_time() - start) / given.seeds
            median = statistics.median(values)
            print(
                f"{problem:12} {name:18} {median:10.3g}  ({low:.3g} to {high:.3g}, n={given.seeds}, "
                f"{given.evaluations} evaluations, {given.flying} in flight, {cpu_s:.1f} s CPU a run)",
                flush=True,
            )
            row = {"problem": problem, "who": name, "flying": given.flying, "evaluations": given.evaluations}
            print(json.dumps({**row, "median": median, "cpu_s": cpu_s, "regrets": values}), flush=True)
    return None


def print_cpu(names: list[str], problems: list[str], rounds: int) -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        for problem in problems:
            for name in names:
                for observations in (50, 200):
                    times = [
                        suggestion_s(name, PROBLEMS[problem].settings, observations, seed) for seed in range(rounds + 1)
                    ][1:]
                    row = {"problem": problem, "who": name, "observations": observations, "n": rounds}
                    median_ms, most_ms = 1e3 * statistics.median(times), 1e3 * max(times)
                    print(f"{problem:12} {name:18} n={observations:3} {median_ms:6.0f} ms (at most {most_ms:.0f})")
                    print(json.dumps({**row, "median_ms": median_ms, "max_ms": most_ms, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()

"""Regret of the search strategies and of their peers on problems whose optimum is known.

    python tests/benchmarks/bayes.py --problems branin hartmann6 --who bayes optuna_gp --seeds 20 --flying 1 4

prints the median regret at `--evaluations` (50), initial points (5) included, with quartiles. `--flying 4` keeps four
trials in flight: four are asked before the first is told, and each told one is replaced at once. Then it says which
targets are reached: no more regret than `optuna_gp`, and at most twice the sequential one with several in flight.
`--cpu` times one suggestion at 50 and at 200 observations, in seconds of CPU. A line of JSON ends each. `--short` is
three seeds of the named problems. Every run is kept in `--results` under what it was made
by, so that an interrupted benchmark goes on. Peers need `pip install rayopt[bench]`. Nothing here decides a test;
regret does not depend on the machine's load.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import functools
import hashlib
import json
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from problems import NAMED, PROBLEMS, Problem

from rayopt import strategies
from rayopt.search.history import Observation, observed
from rayopt.search.parameters import Choice, Range
from rayopt.search.space import Space

INITIAL = 5
SHORT_SEEDS = 3
PEER = "optuna_gp"
IN_FLIGHT_RATIO = 2.0  # regret with several in flight, to that of one
CPU_MS = {50: 100.0, 200: 200.0}  # for one suggestion
RESULTS = Path(__file__).parent.parent.parent / "build" / "bayes.jsonl"
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


def suggestion_s(name: str, settings: dict[str, Any], observations: int, seed: int, flying: int = 1) -> float:
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
        strategy.propose(space, history[flying - 1 :], points[: flying - 1], seed, strategy.Options())
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


def code_of(name: str) -> str:
    """What a run's result depends on: the problems, and rayopt's own sources or the versions of a peer."""
    libraries = ["numpy", "scipy", "optuna" if name.startswith("optuna") else "bayesian-optimization"]
    total = hashlib.sha256(json.dumps([version(one) for one in libraries]).encode())
    total.update((Path(__file__).parent / "problems.py").read_bytes())
    if name in strategies.names():
        for path in sources(name):
            total.update(path.read_bytes())
    return total.hexdigest()[:12]


@functools.cache
def sources(name: str) -> list[Path]:
    """The files of rayopt that a suggestion is made by: those of `search` that it imports, and the strategy."""
    import rayopt.search.suggest  # noqa: F401

    own = [file for at, one in sys.modules.items() if at.startswith("rayopt.search.") and (file := one.__file__)]
    return [*map(Path, sorted(own)), Path(strategies.__file__).parent / f"{name}.py"]


class Kept:
    """Regrets of runs in a file of JSON lines; what is there is not run again."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        lines = path.read_text().splitlines() if path.is_file() else []
        self._known = {json.dumps(one["run"]): one for one in map(json.loads, lines)}

    def run(self, problem: str, name: str, seed: int, evaluations: int, flying: int) -> dict[str, Any]:
        run = {"problem": problem, "who": name, "seed": seed, "evaluations": evaluations, "flying": flying}
        run |= {"code": code_of(name)}
        key = json.dumps(run)
        if key not in self._known:
            start = time.process_time()
            found = regret(PROBLEMS[problem], name, seed, evaluations, flying)
            self._known[key] = {"run": run, "regret": found, "cpu_s": round(time.process_time() - start, 3)}
            with self._path.open("a") as file:
                file.write(json.dumps(self._known[key]) + "\n")
        return self._known[key]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=PROBLEMS)
    parser.add_argument(
        "--who",
        nargs="+",
        default=["bayes", "optuna_gp", "optuna_tpe", "random"],
        help="also bayes_opt, and bayes_opt_defaults, which takes long",
    )
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--evaluations", type=int, default=50)
    parser.add_argument("--flying", type=int, nargs="+", default=[1])
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--cpu", action="store_true", help="time suggestions instead")
    parser.add_argument("--short", action="store_true", help=f"{SHORT_SEEDS} seeds of the named problems")
    given = parser.parse_args()
    if given.short:
        given.seeds, given.problems = SHORT_SEEDS, list(NAMED)
    warnings.simplefilter("ignore")
    if given.cpu:
        return print_cpu(given.who, given.problems, given.seeds, given.flying[0])
    kept = Kept(given.results)
    seeds = range(given.first_seed, given.first_seed + given.seeds)
    rows = []
    for flying in given.flying:
        for problem in given.problems:
            for name in given.who:
                runs = [kept.run(problem, name, seed, given.evaluations, flying) for seed in seeds]
                rows.append(print_row(problem, name, given.evaluations, flying, runs))
    targets = [*beside_peer(rows), *beside_one(rows)]
    for one in targets:
        said = "reached" if one["ratio"] <= one["target"] else "MISSED"
        print(f"{one['problem']:14} {one['what']:36} {one['ratio']:8.3g} (at most {one['target']:g})  {said}")
    print(json.dumps({"load": os.getloadavg()[0], "regret": rows, "targets": targets}))
    return None


def beside_peer(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The regret of `bayes` as a ratio to the peer's, one in flight."""
    alone = {(row["problem"], row["who"]): row["median"] for row in rows if row["flying"] == 1}
    return [
        {"problem": problem, "what": f"bayes to {PEER}", "ratio": ratio(median, alone[problem, PEER]), "target": 1.0}
        for (problem, who), median in alone.items()
        if who == "bayes" and (problem, PEER) in alone
    ]


def beside_one(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The regret of `bayes` with several in flight as a ratio to that with one."""
    own = {(row["problem"], row["flying"]): row["median"] for row in rows if row["who"] == "bayes"}
    return [
        {
            "problem": problem,
            "what": f"{flying} in flight to 1",
            "ratio": ratio(median, own[problem, 1]),
            "target": IN_FLIGHT_RATIO,
        }
        for (problem, flying), median in own.items()
        if flying > 1 and (problem, 1) in own
    ]


def ratio(one: float, other: float) -> float:
    return one / other if other else math.inf if one else 1.0


def print_row(problem: str, name: str, evaluations: int, flying: int, runs: list[dict[str, Any]]) -> dict[str, Any]:
    values = sorted(one["regret"] for one in runs)
    low, median, high = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    cpu_s = statistics.fmean(one["cpu_s"] for one in runs)
    named = " (named)" if problem in NAMED else ""
    print(
        f"{problem + named:20} {name:18} {median:10.3g}  ({low:.3g} to {high:.3g}, n={len(runs)}, {evaluations} "
        f"evaluations, {flying} in flight, {cpu_s:.1f} s CPU a run)",
        flush=True,
    )
    told = {"problem": problem, "who": name, "flying": flying, "evaluations": evaluations, "n": len(runs)}
    return {**told, "median": median, "low": low, "high": high, "cpu_s": cpu_s}


def print_cpu(names: list[str], problems: list[str], rounds: int, flying: int) -> None:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1):
        for problem in problems:
            for name in names:
                for observations in CPU_MS:
                    times = [
                        suggestion_s(name, PROBLEMS[problem].settings, observations, seed, flying)
                        for seed in range(rounds + 1)
                    ][1:]
                    row = {"problem": problem, "who": name, "observations": observations, "n": rounds}
                    median_ms, most_ms = 1e3 * statistics.median(times), 1e3 * max(times)
                    target_ms = CPU_MS[observations]
                    said = "reached" if median_ms <= target_ms else "MISSED"
                    told = f"{median_ms:6.0f} ms ({most_ms:.0f} the slowest; asked: {target_ms:.0f}) {said}"
                    print(f"{problem:12} {name:18} n={observations:3} {told}")
                    print(json.dumps({**row, "median_ms": median_ms, "max_ms": most_ms, "load": os.getloadavg()[0]}))


if __name__ == "__main__":
    main()

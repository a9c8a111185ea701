"""Functions with a known least value for the benchmark of searches: named ones, and losses like those of learners."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


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


def styblinski(params: dict[str, Any]) -> float:
    """2^5 local minima (Styblinski and Tang, 1990)."""
    x = vector(params)
    return float((x**4 - 16 * x**2 + 5 * x).sum() / 2)


PENALTIES = {
    "rate": {"low": 1e-5, "high": 1.0, "log": True},
    "decay": {"low": 1e-8, "high": 1e-1, "log": True},
    "weight": {"low": 1e-2, "high": 1e2, "log": True},
    "floor": {"low": 1e-9, "high": 1e-3, "log": True},
}


def penalties(params: dict[str, Any]) -> float:
    """A loss like that of a network over its rate and penalties: steep where the rate is too high, slow elsewhere."""
    rate, decay, weight, floor = (math.log10(params[name]) for name in ("rate", "decay", "weight", "floor"))
    off = rate + 2.3
    loss = (0.9 if off > 0 else 0.15) * off**2 + 0.08 * (decay + 4.1 - 0.7 * off) ** 2
    return loss + 0.2 * math.log1p(3 * (weight - 0.6 + 0.2 * (decay + 4.1)) ** 2) + 0.004 * (floor + 6.5) ** 2


NETWORK = {
    "optimizer": ["sgd", "adam", "lion"],
    "activation": ["relu", "gelu", "tanh", "silu"],
    "layers": {"low": 1, "high": 8, "int": True},
    "width": {"low": 16, "high": 2048, "int": True, "log": True},
    "rate": {"low": 1e-5, "high": 1.0, "log": True},
    "dropout": {"low": 0.0, "high": 0.7},
    "momentum": {"low": 0.0, "high": 0.99, "when": {"optimizer": "sgd"}},
}


def network(params: dict[str, Any]) -> float:
    """A loss like that of a small network: two choices, whole numbers, a rate whose best depends on the optimizer."""
    optimizer, rate, width = params["optimizer"], math.log10(params["rate"]), math.log2(params["width"])
    best_rate = {"sgd": -1.0, "adam": -2.8, "lion": -3.6}[optimizer]
    loss = {"sgd": 0.05, "adam": 0.0, "lion": 0.08}[optimizer]
    loss += {"relu": 0.04, "gelu": 0.0, "tanh": 0.12, "silu": 0.02}[params["activation"]]
    loss += 0.06 * (rate - best_rate) ** 2 + 0.015 * (params["layers"] - 4) ** 2 + 0.012 * abs(width - 9) ** 1.5
    loss += 0.6 * (params["dropout"] - 0.2 - 0.02 * (params["layers"] - 4)) ** 2
    return loss + (0.1 * (params["momentum"] - 0.9) ** 2 if optimizer == "sgd" else 0.0)


PROBLEMS = {
    "branin": Problem({"x0": {"low": -5, "high": 10}, "x1": {"low": 0, "high": 15}}, branin, 0.39788735772973816),
    "hartmann6": Problem(cube(0, 1, 6), hartmann6, -3.322368011391339),
    "rosenbrock4": Problem(cube(-2.048, 2.048, 4), rosenbrock),
    "ackley5": Problem(cube(-15, 30, 5), ackley),
    "levy5": Problem(cube(-10, 10, 5), levy),
    "logs": Problem(LOGS, logs),
    "mixed": Problem(MIXED, mixed),
    "styblinski5": Problem(cube(-5, 5, 5), styblinski, -39.16616570377142 * 5),
    "penalties": Problem(PENALTIES, penalties),
    "network": Problem(NETWORK, network),
}
NAMED = ("branin", "hartmann6", "rosenbrock4")  # what the search was asked to be good at
CHOSEN_ON = ("levy5", "mixed", "logs", "ackley5")  # decisions about the search were taken on these
FRESH = ("styblinski5", "penalties", "network")  # no decision was ever taken on these

"""When a training no longer gets better, for metrics that are to be high and those that are to be low."""

from __future__ import annotations

import pytest

from rayopt.measure.metrics import BUILT_IN
from rayopt.training.settings import EarlyStopSettings
from rayopt.training.stopping import has_stalled


@pytest.mark.parametrize(
    ("metric", "values", "patience", "min_delta", "stalled"),
    [
        ("accuracy", [0.5, 0.6, 0.7], 1, 0.0, False),
        ("accuracy", [0.5, 0.6, 0.6], 1, 0.0, True),  # as good is not better
        ("accuracy", [0.7, 0.6, 0.65], 2, 0.0, True),  # better than the last, not than the best
        ("accuracy", [0.7, 0.6, 0.65], 3, 0.0, False),
        ("accuracy", [0.5, 0.505, 0.509], 2, 0.01, True),
        ("accuracy", [0.5, 0.505, 0.511], 2, 0.01, False),  # little by little counts
        ("rmse", [3.0, 2.0, 1.0], 1, 0.0, False),
        ("rmse", [1.0, 2.0, 3.0], 2, 0.0, True),
        ("accuracy", [float("nan"), 0.1], 1, 0.0, False),
        ("accuracy", [], 1, 0.0, False),
    ],
)
def test_early_stopping(metric: str, values: list[float], patience: int, min_delta: float, stalled: bool) -> None:
    curve = [{"epoch": number, metric: value} for number, value in enumerate(values, start=1)]
    settings = EarlyStopSettings(patience=patience, min_delta=min_delta)
    assert has_stalled(curve, BUILT_IN[metric], settings) is stalled
    assert not has_stalled(curve, BUILT_IN[metric], None)

"""Adds the edges of its inputs, and branches that none reaches, to what a model is compared on.

Each is a step of its own: some take the process down.
"""

from __future__ import annotations

import contextlib
from functools import partial

from rayopt.errors import StepError
from rayopt.graph.proof import Reference
from rayopt.graph.steps import Steps


def widen(steps: Steps, reference: Reference, cpu_s: float) -> None:
    for index, probe in enumerate(reference.probes_of_edges()):
        with contextlib.suppress(StepError):
            steps.do(f"original at {probe.edge} {index}", cpu_s, partial(reference.add, probe), False)
    for switch, way in reference.unreached():
        with contextlib.suppress(StepError):
            steps.do(f"original with {switch.name} {way}", cpu_s, partial(reference.force, switch, way), False)

"""The recipe `auto`: stages, of which the first that has something new to try is next.

Each stage looks at the results of those before it. The same results always lead to the same proposals, so that an
interrupted search goes on where it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from rayopt.compress.facts import Facts
from rayopt.recipe import pruning, quantizing
from rayopt.recipe.proposals import Known, Proposal, Tried

FILE_STAGES = (
    quantizing.finishers,
    quantizing.repairs,
    quantizing.probes,
    quantizing.mixed,
    quantizing.combined,
)
TRAINING_STAGES = (
    pruning.short_recoveries,
    pruning.recoveries,
    pruning.between,
    pruning.long_recoveries,
)


@dataclass(frozen=True)
class Recipe:
    """Proposes chains within an accuracy budget (`max_drop`, in the metric's unit)."""

    facts: Facts
    max_drop: float

    def next(self, tried: Mapping[str, Tried]) -> list[Proposal]:
        """The next proposals, none when everything that seemed worth trying was tried."""
        known = Known(self.facts, self.max_drop, tried)
        stages = (*FILE_STAGES, *(TRAINING_STAGES if self.facts.trainable else ()))
        for stage in stages[:1] if self.facts.generated else stages:
            new = {one.key: one for one in stage(known) if one.key not in tried}
            if new:
                return list(new.values())
        return []

    def stopped(self, tried: Mapping[str, Tried]) -> list[str]:
        """What was given up early or not tried at all, as sentences."""
        if self.facts.problem:
            return [f"no quantiser was tried: {self.facts.problem}"]
        return pruning.given_up(Known(self.facts, self.max_drop, tried)) if self.facts.trainable else []

"""The branches of one original that are compared with their conditions set by hand, since no input reaches them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph import forcing
from rayopt.graph.difference import difference
from rayopt.graph.forcing import Switch
from rayopt.graph.inputs import Array, Probe
from rayopt.graph.sessions import Outputs, open_session, run

Seen = Mapping[str, set[int]]  # which ways each conditional went


@dataclass(frozen=True)
class Forced:
    """A branch that was run with its condition set by hand, all switches as in `settings`."""

    switch: Switch
    way: bool
    settings: Mapping[str, bool]
    probe: Probe
    outputs: Outputs


class ForcedBranches:
    """`fed` gives the inputs of a probe. `compared`: (label, way) of what the latest check has compared."""

    def __init__(self, original: Any, fed: Callable[[Probe], dict[str, Any]]) -> None:
        self._original, self._fed = original, fed
        self._forced: list[Forced] = []
        self.compared: set[tuple[str, bool]] = set()

    def unreached(self, seen: Seen) -> list[tuple[Switch, bool]]:
        """The branches that were not seen, and that may be forced."""
        return list(forcing.missing(forcing.switches(self._original), seen))

    def add(self, switch: Switch, way: bool, seen: Seen, probes: Iterable[Probe]) -> bool:
        """Compares one more branch from now on, if the original runs so on one of the probes."""
        found = forcing.switches(self._original)
        settings = forcing.settings(found, switch, way, seen)
        running = open_session(forcing.opened(self._original, found)[0].SerializeToString())
        for probe in probes:
            try:
                outputs = run(running, self._fed(probe) | _set(settings))
            except StepError:
                continue
            self._forced.append(Forced(switch, way, settings, probe, outputs))
            return True
        return False

    def check(self, model: Any, names: Collection[str]) -> None:
        """Raises StepError where a candidate with inputs of these names differs; what it has not is not compared."""
        self.compared = set()
        if not self._forced:
            return
        copy, there = forcing.opened(model, forcing.switches(self._original))
        running = open_session(copy.SerializeToString())
        for one in self._forced:
            if not {one.switch.name, *(name for name, _ in one.switch.around)} <= there:
                continue
            fed = {name: value for name, value in self._fed(one.probe).items() if name in names}
            given = {name: way for name, way in one.settings.items() if name in there}
            try:
                for before, after in zip(one.outputs, run(running, fed | _set(given)), strict=True):
                    difference(before, after)
            except StepError as error:
                raise StepError(f"in a branch that no input reaches: {error}") from error
            self.compared |= {(label, one.way) for label in one.switch.labels}


def _set(settings: Mapping[str, bool]) -> dict[str, Array]:
    return {name: np.array(way) for name, way in settings.items()}

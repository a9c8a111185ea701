"""Proof by running: a candidate gives the original's outputs on the same inputs, graph optimisation off on both sides.

At least two shapes where axes are dynamic, several seeds, both branches of conditionals where inputs reach them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph import branches, chance
from rayopt.graph.certificate import samples
from rayopt.graph.difference import (
    ATOL_SHARE,
    HALF,
    LEAST_EDGE_SCALE,
    LEAST_SCALE,
    RTOL,
    difference,
    moderate_parts,
)  # fmt: skip
from rayopt.graph.edges import EMPTY, LOW, LOWEST, OFF, SPECIAL, all_beside, edges
from rayopt.graph.forced import ForcedBranches
from rayopt.graph.forcing import Switch
from rayopt.graph.inputs import Array, Probe, assignments, emptied, feed, inputs_of, resized
from rayopt.graph.sessions import Outputs, open_session, run
from rayopt.graph.verdicts import Refused

TRIES = 600
SEEDS = 3
BRANCH_TRIES = 24
MOST_OF_LARGE = 3  # edges: each goes through all weights


@dataclass(frozen=True)
class Condition:
    """What the probes have seen of one conditional: `node` may be run in its `then`, its `else`, or in both.

    `forced`: those of `seen` that no input reaches and that were compared with the condition set by hand.
    """

    node: str
    seen: tuple[str, ...]
    forced: tuple[str, ...] = ()


class Reference:
    """The original's outputs on probes that it takes; raises Refused where it does not run on any.

    The edges of its inputs are added one by one (`probes_of_edges`, `add`): some take the whole process down.
    """

    def __init__(
        self, model: Any, defaults: Mapping[str, Array], seed: int = 0, weights: frozenset[str] = frozenset()
    ) -> None:
        self.original = chance.of(model)
        running = self._opened()
        self.names = [one.name for one in running.get_outputs()][: len(self.original.cut.graph.output)]
        self.inputs = tuple(
            one for one in inputs_of(running, model, defaults, weights) if one.name not in self.original.drawn
        )
        self.probes: list[Probe] = []
        self.edges: list[Probe] = []
        self._edge_outputs: list[Outputs] = []
        self._forced = ForcedBranches(self.original.cut, self._fed)
        self.outputs: list[Outputs] = []
        self._ways: list[list[Any]] = []
        self._running: Any = running  # until it is compared with something
        self._find(running, seed)
        self._reach_branches(running, seed)

    def _opened(self) -> Any:
        """A session of the original that also tells which branches it takes, where the runtime takes such a one."""
        model, self._watched = branches.watched(self.original.cut)
        if self._watched:
            with contextlib.suppress(Refused):
                return open_session(model.SerializeToString())
        self._watched = ()
        return open_session(self.original.cut.SerializeToString())

    def _find(self, running: Any, seed: int) -> None:
        dynamic = any(isinstance(dim, str) for one in self.inputs for dim in one.shape)
        error, tries = "", 0
        shapes: list[Mapping[str, int]] = []
        for dims in assignments(self.inputs):
            for probe in self._variants(seed, dims):
                tries += 1
                try:
                    self._take(running, probe)
                except StepError as failure:
                    error = error or str(failure)
                    continue
                shapes.append(dims)
                for more in range(1, self._seeds(len(shapes))):
                    self._try(running, Probe(probe.seed + more, dims, probe.picks, probe.high))
                break
            if len(shapes) >= (2 if dynamic else 1) or tries > TRIES:
                break
        if not shapes:
            raise Refused("does_not_run", f"it runs on no input that was tried: {error}")

    def _seeds(self, shapes_count: int) -> int:
        """With how many seeds a shape is run: more with the first; less where each run goes through a large model."""
        return (2 if self._is_large() else SEEDS) if shapes_count == 1 else (1 if self._is_large() else 2)

    def _is_large(self) -> bool:
        return any(one.weight for one in self.inputs)

    def _variants(self, seed: int, dims: Mapping[str, int]) -> Iterator[Probe]:
        whole = any(one.high is None and not one.pool and one.dtype.startswith(("int", "uint")) for one in self.inputs)
        picks = min(4, max((len(one.pool) for one in self.inputs), default=1) or 1)
        for high in (10, 2) if whole else (10,):
            for pick in range(picks):
                yield Probe(seed, dims, pick, high)

    def _try(self, running: Any, probe: Probe) -> bool:
        try:
            self._take(running, probe)
        except StepError:
            return False
        return True

    def _take(self, running: Any, probe: Probe) -> None:
        found = run(running, self._fed(probe))
        self.probes.append(probe)
        self.outputs.append(found[: len(self.names)])
        self._ways.append(found[len(self.names) :])

    def probes_of_edges(self) -> list[Probe]:
        """What is worth comparing beside likely values, at the smallest sizes that were found."""
        base = min(self.probes, key=lambda one: sum(one.dims.values()))
        found = [replace(base, edge=edge) for edge in edges(self.inputs)]
        if self._is_large():
            found = [one for one in found if one.edge.startswith((OFF, SPECIAL, LOWEST))][:MOST_OF_LARGE]
        return found + [replace(base, dims=dims, edge=EMPTY) for dims in emptied(self.inputs, base.dims)]

    def add(self, probe: Probe) -> bool:
        """Compares on one more probe from now on, if the original takes it."""
        self._running = self._running or self._opened()
        try:
            found = run(self._running, self._fed(probe))
        except StepError:
            return False
        if probe.edge.startswith(LOWEST) and not self._is_steady(probe, found):
            return False
        self.edges.append(probe)
        self._edge_outputs.append(found[: len(self.names)])
        return True

    def _is_steady(self, probe: Probe, lowest: Outputs) -> bool:
        """Whether numbers a little less low give the same; else what overflows decides, by the order of sums."""
        less = replace(probe, edge=probe.edge.replace(LOWEST, LOW, 1))
        try:
            for one, other in zip(lowest, run(self._running, self._fed(less)), strict=False):
                difference(*moderate_parts(one, other))
        except StepError:
            return False
        return True

    def unreached(self) -> list[tuple[Switch, bool]]:
        """The branches that no probe has come to, and that may be forced."""
        return self._forced.unreached(self._told()) if self._watched else []

    def force(self, switch: Switch, way: bool) -> bool:
        """Compares a branch with its condition set by hand from now on, if the original runs so on some probe."""
        sizes = (replace(self.probes[0], dims=dims) for dims in islice(resized(self.inputs, self.probes[0].dims), 8))
        return self._forced.add(switch, way, self._told(), (*self.probes, *sizes))

    def _fed(self, probe: Probe) -> dict[str, Any]:
        return self.original.fed(feed(self.inputs, probe), probe.seed)

    def _reach_branches(self, running: Any, seed: int) -> None:
        """Looks for inputs that take the branches which the probes have not taken."""
        before = len(self._missing())
        for probe in self._attempts(seed + 10) if before else ():
            if self._try(running, probe):
                after = len(self._missing())
                if after == before:
                    for kept in (self.probes, self.outputs, self._ways):
                        kept.pop()
                else:  # what was reached is compared with other values as well
                    self._try(running, replace(probe, seed=probe.seed + 1000, picks=probe.picks - 1000))
                before = after
            if not before:
                return

    def _attempts(self, seed: int) -> Iterator[Probe]:
        """Other seeds, then every number of the pools with each likely size: branches may take sizes of their own."""
        for attempt in range(BRANCH_TRIES):
            base = self.probes[attempt % len(self.probes)]
            yield Probe(seed + attempt, base.dims, base.picks + attempt, base.high)
        numbers, base = max((len(one.pool) for one in self.inputs), default=0), self.probes[0]
        for attempt, dims in enumerate(resized(self.inputs, base.dims)):
            for pick in range(numbers):  # the seed counts as well for which one it is
                yield Probe(seed + attempt, dims, pick - seed - attempt, base.high)
        for edge in all_beside(self.inputs):
            yield replace(base, edge=edge)

    def _missing(self) -> list[tuple[int, int]]:
        return [(index, way) for index, ways in enumerate(self._seen()) for way in (1, 0) if way not in ways]

    def _seen(self) -> list[set[int]]:
        """Which ways each conditional went, over all probes."""
        return [{int(np.asarray(one).ravel()[0]) for one in told} for told in zip(*self._ways, strict=True)]

    def conditions(self, model: Any) -> tuple[Condition, ...]:
        """Which branches were compared; inside loops and functions that is not seen."""
        told = self._told()
        words = {0: "else", 1: "then"}
        found = []
        for label in branches.conditionals(model):
            ways = told.get(label)
            seen = ("not observed",) if ways is None else tuple(words[way] for way in sorted(ways) if way in words)
            forced = tuple(words[way] for way in words if (label, bool(way)) in self._forced.compared)
            found.append(Condition(label, (*seen, *forced), forced))
        return tuple(found)

    def _told(self) -> dict[str, set[int]]:
        """Which ways each conditional went, by what it is called."""
        return {one.label: ways for one, ways in zip(self._watched, self._seen(), strict=True)}

    def is_of_one_size(self) -> bool:
        """Whether axes may have any size by what the model says, and it ran with one alone."""
        dynamic = any(isinstance(dim, str) for one in self.inputs for dim in one.shape)
        return dynamic and len({tuple(sorted(one.dims.items())) for one in self.probes}) == 1

    def ranks(self) -> list[list[tuple[int, ...]]]:
        """The shapes that each output had, by output."""
        return [[np.shape(one) for one in outputs] for outputs in zip(*self.outputs, strict=True)]

    def check(self, model: Any) -> float:
        """The largest difference of a candidate's outputs over all probes; raises StepError for more than rounding."""
        self._running = None
        cut = self.original.matched(model)
        running = open_session(cut.SerializeToString())
        if [one.name for one in running.get_outputs()] != self.names:
            raise StepError("the outputs changed their names or order")
        names = {one.name for one in (*running.get_inputs(), *running.get_overridable_initializers())}
        wanted = {one.name for one in self.inputs} | set(self.original.drawn)
        if not names <= wanted or {one.name for one in self.inputs if not one.weight} - names:
            raise StepError("the inputs changed their names")
        worst = 0.0
        every = (*self.probes, *self.edges), (*self.outputs, *self._edge_outputs)
        for probe, outputs in zip(*every, strict=True):
            fed = self._fed(probe)
            found = run(running, {name: value for name, value in fed.items() if name in names})
            for before, after in zip(outputs, found, strict=True):
                if probe.edge.startswith(LOWEST):
                    before, after = moderate_parts(before, after)
                error = difference(before, after, LEAST_EDGE_SCALE if probe.edge else LEAST_SCALE)
                worst = worst if probe.edge else max(worst, error)
        self._forced.check(cut, names)
        return worst

    def told(self) -> dict[str, Any]:
        """The probes, tolerances and some of the outputs, as the certificate has them."""
        inputs = [
            {name: getattr(one, name) for name in ("name", "dtype", "shape", "high", "pool", "near", "weight")}
            for one in self.inputs
        ]
        return {
            "probes": [asdict(one) for one in (*self.probes, *self.edges)],
            "rtol": RTOL,
            "atol_share": ATOL_SHARE,
            "inputs": inputs,
            "outputs": samples((*self.outputs, *self._edge_outputs)),
            "half": HALF,
            "one_size": self.is_of_one_size(),
            "drawn": [one.name for one in self.original.places],
        }

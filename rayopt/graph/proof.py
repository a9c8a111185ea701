"""Proof by running: a candidate gives the original's outputs on the same inputs, graph optimisation off on both sides.

At least two shapes where axes are dynamic, several seeds, both branches of conditionals where inputs reach them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from rayopt.errors import StepError
from rayopt.graph import branches, chance
from rayopt.graph.certificate import samples
from rayopt.graph.inputs import Array, Probe, assignments, feed, inputs_of, resized
from rayopt.graph.sessions import Outputs, open_session, run
from rayopt.graph.verdicts import Refused

RTOL = 1e-3
ATOL_SHARE = 1e-5  # of the largest finite value of the output
HALF = {"float16": (1e-2, 2e-3)}
TRIES = 600
SEEDS = 3
BRANCH_TRIES = 24


@dataclass(frozen=True)
class Condition:
    """What the probes have seen of one conditional: `node` may be run in its `then`, its `else`, or in both."""

    node: str
    seen: tuple[str, ...]


class Reference:
    """The original's outputs on probes that it takes; raises Refused where it does not run on any."""

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
        self.outputs: list[Outputs] = []
        self._ways: list[list[Any]] = []
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
        is_large = any(one.weight for one in self.inputs)
        return (2 if is_large else SEEDS) if shapes_count == 1 else (1 if is_large else 2)

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
        found = run(running, self.original.fed(feed(self.inputs, probe), probe.seed))
        self.probes.append(probe)
        self.outputs.append(found[: len(self.names)])
        self._ways.append(found[len(self.names) :])

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

    def _missing(self) -> list[tuple[int, int]]:
        return [(index, way) for index, ways in enumerate(self._seen()) for way in (1, 0) if way not in ways]

    def _seen(self) -> list[set[int]]:
        """Which ways each conditional went, over all probes."""
        return [{int(np.asarray(one).ravel()[0]) for one in told} for told in zip(*self._ways, strict=True)]

    def conditions(self, model: Any) -> tuple[Condition, ...]:
        """Which branches were compared; inside loops and functions that is not seen."""
        told = {one.label: ways for one, ways in zip(self._watched, self._seen(), strict=True)}
        words = {0: "else", 1: "then"}
        found = []
        for label in branches.conditionals(model):
            ways = told.get(label)
            seen = ("not observed",) if ways is None else tuple(words[way] for way in sorted(ways) if way in words)
            found.append(Condition(label, seen))
        return tuple(found)

    def ranks(self) -> list[list[tuple[int, ...]]]:
        """The shapes that each output had, by output."""
        return [[np.shape(one) for one in outputs] for outputs in zip(*self.outputs, strict=True)]

    def check(self, model: Any) -> float:
        """The largest difference of a candidate's outputs over all probes; raises StepError for more than rounding."""
        cut = self.original.matched(model)
        running = open_session(cut.SerializeToString())
        if [one.name for one in running.get_outputs()] != self.names:
            raise StepError("the outputs changed their names or order")
        names = {one.name for one in (*running.get_inputs(), *running.get_overridable_initializers())}
        wanted = {one.name for one in self.inputs} | set(self.original.drawn)
        if not names <= wanted or {one.name for one in self.inputs if not one.weight} - names:
            raise StepError("the inputs changed their names")
        worst = 0.0
        for probe, outputs in zip(self.probes, self.outputs, strict=True):
            fed = self.original.fed(feed(self.inputs, probe), probe.seed)
            found = run(running, {name: value for name, value in fed.items() if name in names})
            for before, after in zip(outputs, found, strict=True):
                worst = max(worst, difference(before, after))
        return worst

    def told(self) -> dict[str, Any]:
        """The probes, tolerances and some of the outputs, as the certificate has them."""
        inputs = [
            {name: getattr(one, name) for name in ("name", "dtype", "shape", "high", "pool", "weight")}
            for one in self.inputs
        ]
        return {
            "probes": [asdict(one) for one in self.probes],
            "rtol": RTOL,
            "atol_share": ATOL_SHARE,
            "inputs": inputs,
            "outputs": samples(self.outputs),
            "drawn": [one.name for one in self.original.places],
        }


def difference(wanted: Any, got: Any) -> float:
    """The largest absolute difference; raises StepError for another type or shape, or more than rounding."""
    if type(wanted) is not type(got):
        raise StepError(f"an output is {type(got).__name__} instead of {type(wanted).__name__}")
    if isinstance(wanted, list):
        if len(wanted) != len(got):
            raise StepError(f"an output has {len(got)} parts instead of {len(wanted)}")
        return max((difference(*pair) for pair in zip(wanted, got, strict=True)), default=0.0)
    if isinstance(wanted, dict):
        if list(wanted) != list(got):
            raise StepError("an output has other keys")
        return max((difference(np.asarray(wanted[key]), np.asarray(got[key])) for key in wanted), default=0.0)
    if not isinstance(wanted, np.ndarray):
        if wanted != got:
            raise StepError("an output has another value")
        return 0.0
    return _array_difference(wanted, got)


def _array_difference(wanted: Array, got: Array) -> float:
    if wanted.dtype != got.dtype:
        raise StepError(f"outputs are {got.dtype} instead of {wanted.dtype}")
    if wanted.shape != got.shape:
        raise StepError(f"outputs have shape {got.shape} instead of {wanted.shape}")
    if wanted.dtype.kind != "f":
        if not np.array_equal(wanted, got):
            raise StepError("outputs that are no real numbers differ")
        return 0.0
    left, right = wanted.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(left)
    if not np.array_equal(left[~finite], right[~finite], equal_nan=True):
        raise StepError("outputs that are not finite differ")
    left, right = left[finite], right[finite]
    if not np.isfinite(right).all():
        raise StepError("outputs that were finite are not")
    error = np.abs(left - right)
    scale = float(np.abs(left).max(initial=0))
    rtol, share = HALF.get(str(wanted.dtype), (RTOL, ATOL_SHARE))
    worst = float(error.max(initial=0))
    if (error > rtol * np.abs(left) + share * max(scale, 1e-6)).any():
        raise StepError(f"outputs differ by up to {worst:.3g}, of values up to {scale:.3g}")
    return worst

"""Tools one after another in many orders: a tree of chains whose beginnings are shared, searched by its best few.

What a tool gives is taken up only once it is proven equal; what was caught instead is a line in the record.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rayopt.errors import StepError
from rayopt.graph.proof import Reference
from rayopt.graph.skeleton import LARGE_BYTES
from rayopt.graph.steps import Steps
from rayopt.graph.structure import graphs_of
from rayopt.graph.suspects import suspects
from rayopt.graph.tools import Setting, own_names, run

FOLDING_WITHOUT_LIMIT = ("onnxslim", "onnxsim", "ort_basic")
MANY_NODES = 5_000  # tools need a time that grows with the square of them
MUCH_FOLDING_BYTES = 64 << 20


@dataclass(frozen=True)
class State:
    """A model on the way: its bytes lie in the work's folder under its hash. `chain`: the tools that made it."""

    sha256: str
    nodes_count: int
    size_bytes: int
    kind: tuple[Any, ...] = field(repr=False)  # the same for models that differ in names alone
    chain: tuple[str, ...] = ()
    max_error: float = 0.0

    too_large: bool = False

    @property
    def cost(self) -> tuple[bool, int, int]:
        return self.too_large, self.nodes_count, self.size_bytes


@dataclass
class Portfolio:
    """Searches from a verified state on; `record` has a line for each tool that failed or was caught."""

    steps: Steps
    reference: Reference
    setting: Setting
    tools: Sequence[str]
    max_bytes: float
    width: int = 2
    depth: int = 5
    weights_bytes: int = 0  # of a skeleton: what its weights have, which are not in it
    record: list[dict[str, Any]] = field(default_factory=list)
    tried_count: int = 0
    parents: dict[str, State] = field(default_factory=dict)  # what each state was made of, by hash
    _known: set[Any] = field(default_factory=set)  # kinds of which one is verified
    _tried: set[str] = field(default_factory=set)  # hashes

    def search(self, start: State) -> list[State]:
        """Every verified state, those of the fewest nodes first; the start among them."""
        found, frontier = [start], [start]
        self._known, self._tried = {start.kind}, {start.sha256}
        for level in range(self.depth):
            children: list[State] = []
            for state in frontier:
                for tool in self.tools:
                    if tool not in state.chain[-1:]:
                        children += self._child(state, tool)
            best = min(one.cost for one in found)
            frontier = self._verified(sorted(children, key=lambda one: one.cost))
            found += frontier
            if not frontier or (level and min(one.cost for one in frontier) >= best):
                break
        return sorted(found, key=lambda one: one.cost)

    def _child(self, state: State, tool: str) -> list[State]:
        self.tried_count += 1
        try:
            made = self._made(state, tool, self.setting)
        except StepError as error:
            self._note(state, tool, "failed", str(error))
            return self._without_suspects(state, tool)
        if made.kind in self._known or made.sha256 in self._tried:
            return []
        self._tried.add(made.sha256)
        return [made]

    def _made(self, state: State, tool: str, setting: Setting) -> State:
        """What a tool makes of a state, not proven yet."""
        key = f"{state.sha256[:16]} > {' without '.join((tool, *setting.without))}"
        sha256 = self.steps.do(key, self._cpu_s(state), lambda: self._apply(state, tool, setting))
        made = load(self.steps, sha256, (*state.chain, tool))
        self.parents[made.sha256] = state
        return replace(made, too_large=made.size_bytes > self.max_bytes)

    def _apply(self, state: State, tool: str, setting: Setting) -> str:
        return store(self.steps, run(tool, (self.steps.folder / state.sha256).read_bytes(), setting))

    def _without_suspects(self, state: State, tool: str) -> list[State]:
        """The proven result of the own passes without those that are to blame; they stay left out from now on."""
        names = [name for name in own_names() if name not in self.setting.without]
        blamed = suspects(names, lambda some: self._only(state, some) is not None) if tool == "own" else None
        if blamed is None:
            return []
        found = self._only(state, [name for name in names if name not in blamed])
        self._note(state, tool, "failed", f"{', '.join(blamed)} left out: what the other passes give is equal")
        self.setting = replace(self.setting, without=(*self.setting.without, *blamed))
        return [] if found is None or found.kind == state.kind else [found]

    def _only(self, state: State, names: Sequence[str]) -> State | None:
        """The proven result of these own passes; None where it is wrong."""
        try:
            without = tuple(name for name in own_names() if name not in names)
            return self._proven(self._made(state, "own", replace(self.setting, without=without)))
        except StepError:
            return None

    def _proven(self, state: State) -> State:
        """The state with its largest error; raises StepError where it is wrong."""
        error = self.steps.do(f"verify {state.sha256[:16]}", self._cpu_s(state), partial(self._error, state))
        return replace(state, max_error=error)

    def _verified(self, children: Sequence[State]) -> list[State]:
        """The best few that are right, one of each kind: a wrong one does not hide another of its kind."""
        kept: list[State] = []
        for child in children:
            if len(kept) >= self.width:
                break
            if child.kind in self._known:
                continue
            for state in self._right(child):
                if state.kind not in self._known:
                    self._known.add(state.kind)
                    kept.append(state)
        return kept

    def _right(self, child: State) -> list[State]:
        """The child if it is proven, else what its tool gives without what is to blame."""
        try:
            return [self._proven(child)]
        except StepError as failure:
            tool = child.chain[-1]
            self._note(child, tool, "wrong", str(failure))
            return self._without_suspects(self.parents[child.sha256], tool)

    def _error(self, state: State) -> float:
        return self.reference.check(read(self.steps, state.sha256))

    def _note(self, state: State, tool: str, what: str, reason: str) -> None:
        chain = list(state.chain) if what == "wrong" else [*state.chain, tool]
        self.record.append({"tool": tool, "chain": chain, "what": what, "reason": reason})

    def _cpu_s(self, state: State) -> float:
        return cpu_s(state.nodes_count, state.size_bytes + self.weights_bytes)


def cpu_s(nodes_count: int, size_bytes: int) -> float:
    """Seconds of CPU that a step on such a model may take: tools that need more have lost their way in it."""
    return 3 + nodes_count / 40 + size_bytes / (2 << 20)


def usable(tools: Sequence[str], nodes_count: int, fold_bytes: int, size_bytes: int = 0) -> list[str]:
    """The tools that suit a model: of many nodes or bytes, or of constants that fold to much, those made for it."""
    if nodes_count > MANY_NODES or size_bytes > LARGE_BYTES:
        return [name for name in tools if name == "own"]
    if fold_bytes > MUCH_FOLDING_BYTES:
        return [name for name in tools if name not in FOLDING_WITHOUT_LIMIT]
    return list(tools)


def store(steps: Steps, content: bytes) -> str:
    """Keeps a model in the work's folder and gives its hash."""
    sha256 = hashlib.sha256(content).hexdigest()
    path = steps.folder / sha256
    if not path.exists():
        aside = path.with_suffix(".new")
        aside.write_bytes(content)
        aside.replace(path)
    return sha256


def read(steps: Steps, sha256: str) -> Any:
    import onnx

    return onnx.ModelProto.FromString((steps.folder / sha256).read_bytes())


def load(steps: Steps, sha256: str, chain: tuple[str, ...]) -> State:
    """The state of a model in the work's folder."""
    model = read(steps, sha256)
    size = (steps.folder / sha256).stat().st_size
    return State(sha256, nodes_count(model), size, _kind(model), chain)


def nodes_count(model: Any) -> int:
    """All nodes with those of nested graphs, functions written out, without Constant nodes."""
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    return sum(node.op_type != "Constant" for graph in graphs_of(model) for node in graph.node)


def is_part_of(candidate: Any, original: Any) -> bool:
    """Whether a graph has less than half of the nodes of another and no operator that that has not as often."""
    found, wanted = _operators(candidate), _operators(original)
    return 2 * found.total() < wanted.total() and found <= wanted


def _kind(model: Any) -> tuple[Any, ...]:
    operators = _operators(model)
    weights = sum(len(one.raw_data) for one in model.graph.initializer)
    versions = tuple(sorted((one.domain, one.version) for one in model.opset_import))
    return (tuple(sorted(operators.items())), weights, versions)


def _operators(model: Any) -> Counter[tuple[str, str]]:
    return Counter((node.domain, node.op_type) for graph in graphs_of(model) for node in graph.node)

"""The work on one model, in a child process that may be killed at any time: gate, normalise, search, choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rayopt.errors import StepError
from rayopt.graph import face as faces
from rayopt.graph.fused import Fusing
from rayopt.graph.gate import Admitted, admit
from rayopt.graph.large import Large
from rayopt.graph.normalize import RUNTIME_OPSET, normalized, opset_of, readable
from rayopt.graph.nursery import Tell
from rayopt.graph.order import AGAIN, Order
from rayopt.graph.portfolio import (
    MANY_NODES,
    Portfolio,
    State,
    cpu_s,
    is_part_of,
    load,
    nodes_count,
    read,
    store,
    usable,
)
from rayopt.graph.proof import Reference
from rayopt.graph.skeleton import LARGE_BYTES, WHOLE_BYTES
from rayopt.graph.steps import Steps
from rayopt.graph.timing import compare
from rayopt.graph.tools import Setting, installed
from rayopt.graph.verdicts import Refused
from rayopt.graph.widening import widen
from rayopt.runs.files import file_sha256

MAX_GROWTH = 1.01
FINISHED = 6  # candidates that are tried at most ...
QUICKER_S = 1.0  # so much less CPU time than for a step: nothing else comes of an original that does not end
TIMED = 3  # ... and timed, before the original is kept
OUT = "model.onnx"


def optimize(argument: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The verdict on a model file and all about it; the optimised model is written into the work's folder."""
    order = Order(**{**argument["order"], "tools": tuple(argument["order"]["tools"])})
    steps = Steps(Path(order.folder), argument["known"], tell)
    try:
        return Work(order, steps).run()
    except Refused as refusal:
        return {"verdict": refusal.verdict, "reason": str(refusal)}
    except StepError as error:
        return {"verdict": "not_comparable", "reason": str(error)}


class Work:
    def __init__(self, order: Order, steps: Steps) -> None:
        self._order, self._steps = order, steps

    def run(self) -> dict[str, Any]:
        order, steps = self._order, self._steps
        path = Path(order.path)
        size = path.stat().st_size if path.is_file() else 0
        admitted: Admitted = steps.do(
            "gate", cpu_s(0, size), lambda: _Value(admit(path, order.fold_bytes)), False
        ).value
        self._admitted = admitted
        if admitted.size_bytes > LARGE_BYTES:
            try:
                return Large(order, steps, admitted).run()
            except StepError as error:
                if admitted.size_bytes > WHOLE_BYTES:
                    raise Refused("not_comparable", f"too large to be run whole, and its skeleton: {error}") from error
        if admitted.size_bytes > 2 * order.size_bytes + (1 << 20):
            return {"verdict": AGAIN, "reason": "", "size_bytes": admitted.size_bytes}
        model = whole(admitted)
        opened, self._face = faces.take_off(model)
        work = partial(_kept, readable, opened)
        self._opened = steps.do("original", cpu_s(0, admitted.size_bytes), work, False).value
        self._before = nodes_count(model)
        self._cpu_s = cpu_s(self._before, admitted.size_bytes)
        found = steps.do("original", self._cpu_s - QUICKER_S, lambda: _Value(self._referenced()), False)
        self._reference: Reference = found.value
        widen(steps, self._reference, self._cpu_s)
        if self._before <= 1:
            return {**self._told(None), "verdict": "unchanged", "reason": "there is nothing to remove"}
        start = self._start()
        setting = Setting(order.target_opset, max(1 << 12, admitted.size_bytes // 200))
        tools = [
            name
            for name in usable(order.tools, self._before, admitted.fold_bytes, admitted.size_bytes)
            if ":" in name or name in installed()
        ]
        portfolio = Portfolio(steps, self._reference, setting, tools, MAX_GROWTH * admitted.size_bytes)
        states = portfolio.search(start)
        told = self._told(portfolio)
        for state, choice in self._choices(states, portfolio.record):
            more = {"fused": self._fused(choice["sha256"], portfolio.record)} if order.fused else {}
            return {**told, **choice, **more, "verdict": "optimized", "reason": "", "chain": list(state.chain)}
        return {**told, "verdict": "unchanged", "reason": self._why(portfolio.record)}

    def _referenced(self) -> Reference:
        from onnx import numpy_helper

        defaults = {one.name: numpy_helper.to_array(one) for one in self._face.overridable}
        return Reference(self._opened, defaults, self._order.seed)

    def _start(self) -> State:
        """The model as the tools get it, proven equal to the one in the file."""
        reason = ""
        for index, form in enumerate(normalized(self._opened, self._reference.ranks())):
            sha256 = store(self._steps, form.SerializeToString(deterministic=True))
            try:
                if form.graph.node != self._opened.graph.node:  # else only what it says of shapes has changed
                    self._steps.do(f"normalize {index}", self._cpu_s, partial(self._reference.check, form))
            except StepError as error:
                reason = str(error)
                continue
            return load(self._steps, sha256, ())
        raise Refused("not_comparable", f"it does not give the same outputs twice: {reason}")

    def _choices(self, found: Sequence[State], record: list[dict[str, Any]]) -> Any:
        """What may be shipped, the best first: portable, no larger, still equal with its face on, and not slower."""
        able = [state for state in found if state.nodes_count < self._before and state.chain]
        timed = 0
        for state in able[:FINISHED]:
            try:
                work = partial(self._finish, state)
                choice = self._steps.do(f"finish {state.sha256[:16]}", 4 * self._cpu_s, work)
                timed += 1
                latency = choice["latency"]
                if not latency.get("slower"):
                    yield state, choice
                    return
                which = "session_ratio" if latency["slower"] == "to load" else "ratio"
                reason = f"slower {latency['slower']}: {latency[which]:.3f} of the original's time"
            except StepError as error:
                reason = str(error)
            record.append({"tool": state.chain[-1], "chain": list(state.chain), "what": "left", "reason": reason})
            if timed == TIMED:
                return

    def _finish(self, state: State) -> dict[str, Any]:
        import onnx

        closed = faces.put_on(read(self._steps, state.sha256), self._face, self._reference.ranks())
        content = closed.SerializeToString(deterministic=True)
        size = self._admitted.size_bytes
        if len(content) > MAX_GROWTH * size:
            raise StepError(f"larger: {len(content):,} bytes of {size:,}")
        onnx.checker.check_model(closed)
        error = self._reference.check(closed)
        latency = self._latency(closed, content)
        sha256 = store(self._steps, content)
        return {
            "sha256": sha256, "nodes_after": state.nodes_count, "size_after": len(content),
            "max_error": error, "latency": latency,
            "conditions": [asdict(one) for one in self._reference.conditions(self._opened)],
        }  # fmt: skip

    def _fused(self, sha256: str, record: list[dict[str, Any]]) -> dict[str, Any] | None:
        fusing = Fusing(self._steps, self._reference, self._face, record)
        return fusing.fused(sha256, self._cpu_s, 0 if self._is_untimed() else self._order.timing_s)

    def _latency(self, closed: Any, content: bytes) -> dict[str, Any]:
        if not self._order.timing_s or self._is_untimed():
            return {}
        if self._before > MANY_NODES and is_part_of(closed, self._opened):
            return {}  # to load so many nodes takes longer than all else, only to see that fewer are not slower
        return compare(self._order.path, content, self._reference, self._order.timing_s)

    def _is_untimed(self) -> bool:
        """What is drawn differs from run to run, and so does its time; what does not load has none."""
        return bool(self._reference.original.places) or opset_of(self._face.model) < RUNTIME_OPSET

    def _told(self, portfolio: Portfolio | None) -> dict[str, Any]:
        reference = self._reference
        record, tried = (portfolio.record, portfolio.tried_count) if portfolio else ([], 0)
        return {
            "nodes_before": self._before, "size_before": self._admitted.size_bytes,
            "nodes_after": self._before, "size_after": self._admitted.size_bytes, "max_error": 0.0, "latency": {},
            "chain": [], "record": record, "tried_count": tried, "versions": dict(installed()),
            "external": external(self._admitted, hashed=True), "proof": reference.told(),
            "conditions": [asdict(one) for one in reference.conditions(self._opened)],
        }  # fmt: skip

    def _why(self, record: Sequence[dict[str, Any]]) -> str:
        left = next((line["reason"] for line in record if line["what"] == "left"), "")
        if left:
            return f"the best candidate was not taken: {left}"
        return "no tool removed a node"


@dataclass(frozen=True)
class _Value:
    """Wraps what stays in this process."""

    value: Any


def _kept(work: Callable[[Any], Any], given: Any) -> _Value:
    return _Value(work(given))


def whole(admitted: Admitted) -> Any:
    """The model with its external data inside."""
    if not admitted.pieces:
        return admitted.model
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(admitted.model)
    onnx.load_external_data_for_model(model, str(admitted.path.parent))
    return model


def external(admitted: Admitted, hashed: bool) -> list[dict[str, Any]]:
    """The external files that a model uses: what its result depends on beyond its own bytes."""
    found = []
    for location in sorted({one.location for one in admitted.pieces}):
        path = admitted.path.parent / location
        sha256 = file_sha256(path) if hashed else None
        found.append({"location": location, "size_bytes": path.stat().st_size, "sha256": sha256})
    return found

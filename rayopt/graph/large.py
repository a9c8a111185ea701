"""The work on a large model, in a child: its skeleton is optimised, the data stays where it is until it is copied."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import onnx

from rayopt.errors import StepError
from rayopt.graph import face as faces
from rayopt.graph.portfolio import Portfolio, load, nodes_count, read, store
from rayopt.graph.skeleton import Skeleton, Twin, skeleton, twin, whole_again
from rayopt.graph.steps import Steps
from rayopt.graph.tools import Setting, installed
from rayopt.graph.widening import widen

if TYPE_CHECKING:
    from rayopt.graph.gate import Admitted
    from rayopt.graph.order import Order


class Large:
    """Like `Work`, on the skeleton, by the passes of our own alone: tools fold what they can get hold of."""

    def __init__(self, order: Order, steps: Steps, admitted: Admitted) -> None:
        self._order, self._steps, self._admitted = order, steps, admitted

    def run(self) -> dict[str, Any]:
        """The verdict and all about it; raises Refused where nothing can be proven."""
        opened, self._face = faces.take_off(self._admitted.model)
        bones: Skeleton = skeleton(opened)
        self._bones = bones.model
        before = nodes_count(bones.model)
        self._twin: Twin = self._steps.do("twin", 20, lambda: _Value(twin(bones, self._order.seed)), False).value
        widen(self._steps, self._twin.reference, 20)
        ranks = self._twin.reference.ranks()
        faces.hide_shapes(bones.model, [[] for _ in ranks])
        start = load(self._steps, store(self._steps, bones.model.SerializeToString(deterministic=True)), ())
        setting = Setting(self._order.target_opset, 1 << 16)
        portfolio = Portfolio(self._steps, self._twin, setting, ["own"], 1.01 * start.size_bytes, width=1, depth=1)
        told = self._told(portfolio, before)
        for state in portfolio.search(start):
            if not state.chain or state.nodes_count >= before:
                break
            try:
                return {**told, **self._finish(read(self._steps, state.sha256), bones, state.nodes_count),
                        "max_error": state.max_error, "chain": list(state.chain)}  # fmt: skip
            except StepError as error:
                portfolio.record.append(
                    {"tool": "own", "chain": list(state.chain), "what": "left", "reason": str(error)}
                )
        return {**told, "verdict": "unchanged", "reason": "no pass removed a node"}

    def _finish(self, model: Any, bones: Skeleton, nodes: int) -> dict[str, Any]:
        closed = faces.put_on(whole_again(model, bones.held), self._face, [[] for _ in self._face.outputs])
        content = closed.SerializeToString(deterministic=True)
        size = len(content) + self._admitted.size_bytes - self._admitted.file_bytes
        if size > 1.01 * self._admitted.size_bytes:
            raise StepError(f"larger: {size:,} bytes of {self._admitted.size_bytes:,}")
        if not self._admitted.pieces:
            onnx.checker.check_model(closed)
        return {"verdict": "optimized", "reason": "", "sha256": store(self._steps, content), "nodes_after": nodes,
                "size_after": size, "copied": sorted({one.location for one in self._admitted.pieces})}  # fmt: skip

    def _told(self, portfolio: Portfolio, before: int) -> dict[str, Any]:
        from rayopt.graph.working import external

        admitted, reference = self._admitted, self._twin.reference
        return {
            "nodes_before": before, "size_before": admitted.size_bytes, "nodes_after": before,
            "size_after": admitted.size_bytes, "max_error": 0.0, "latency": {}, "chain": [],
            "record": portfolio.record, "tried_count": 1, "versions": dict(installed()),
            "external": external(admitted, hashed=False),
            "conditions": [asdict(one) for one in reference.conditions(self._bones)],
            "proof": {**reference.told(), "axes": {str(one): size for one, size in self._twin.sizes.items()}},
        }  # fmt: skip


class _Value:
    """Wraps what stays in this process."""

    def __init__(self, value: Any) -> None:
        self.value = value

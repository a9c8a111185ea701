"""The work on a large model, in a child: its skeleton is optimised, the data stays where it is until it is copied."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import onnx

from rayopt.errors import StepError
from rayopt.graph import face as faces
from rayopt.graph.order import AGAIN
from rayopt.graph.portfolio import Portfolio, cpu_s, load, nodes_count, read, store
from rayopt.graph.skeleton import Skeleton, skeleton
from rayopt.graph.steps import Steps
from rayopt.graph.tools import Setting, installed
from rayopt.graph.weight_numbers import buffers_bytes
from rayopt.graph.widening import widen

if TYPE_CHECKING:
    from rayopt.graph.gate import Admitted
    from rayopt.graph.order import Order
    from rayopt.graph.proof import Reference

SPARE_BYTES = 96 << 20  # what the limits leave for numbers in place of weights ...
TIMES = 16  # ... and this for each byte of the size that they suit


class Large:
    """Like `Work`, on the skeleton, by the passes of our own alone: tools fold what they can get hold of."""

    def __init__(self, order: Order, steps: Steps, admitted: Admitted) -> None:
        self._order, self._steps, self._admitted = order, steps, admitted

    def run(self) -> dict[str, Any]:
        """The verdict and all about it; raises StepError where nothing can be proven."""
        opened, self._face = faces.take_off(self._admitted.model)
        bones = skeleton(opened, self._admitted.path.parent)
        wanted = buffers_bytes(bones.held)
        if wanted > SPARE_BYTES + TIMES * self._order.size_bytes:
            return {"verdict": AGAIN, "reason": "", "size_bytes": wanted // TIMES}
        seconds = cpu_s(nodes_count(bones.model), self._admitted.size_bytes)
        referenced = partial(_referenced, bones, self._order.seed)
        self._reference: Reference = self._steps.do("skeleton", seconds, referenced, False).value
        widen(self._steps, self._reference, seconds)
        told = self._told(bones)
        faces.hide_shapes(bones.model, self._reference.ranks())
        start = load(self._steps, store(self._steps, bones.model.SerializeToString(deterministic=True)), ())
        setting = Setting(self._order.target_opset, 1 << 16)
        most = start.size_bytes + 0.01 * self._admitted.size_bytes
        portfolio = Portfolio(
            self._steps, self._reference, setting, ["own"], most, width=1, depth=1,
            weights_bytes=self._admitted.size_bytes, record=told["record"],
        )  # fmt: skip
        for state in portfolio.search(start):
            if not state.chain or state.nodes_count >= told["nodes_before"]:
                break
            try:
                made = self._finish(read(self._steps, state.sha256), bones)
            except StepError as error:
                told["record"].append({"tool": "own", "chain": list(state.chain), "what": "left", "reason": str(error)})
                continue
            return {**told, **made, "verdict": "optimized", "reason": "", "nodes_after": state.nodes_count,
                    "max_error": state.max_error, "chain": list(state.chain)}  # fmt: skip
        left = next((line["reason"] for line in told["record"]), "")
        reason = f"the best candidate was not taken: {left}" if left else "no pass removed a node"
        return {**told, "verdict": "unchanged", "reason": reason}

    def _finish(self, model: Any, bones: Skeleton) -> dict[str, Any]:
        closed = faces.put_on(bones.whole(model), self._face, self._reference.ranks())
        content = closed.SerializeToString(deterministic=True)
        size = len(content) + self._admitted.size_bytes - self._admitted.file_bytes
        if size > 1.01 * self._admitted.size_bytes:
            raise StepError(f"larger: {size:,} bytes of {self._admitted.size_bytes:,}")
        if not self._admitted.pieces:
            onnx.checker.check_model(closed)
        copied = sorted({one.location for one in self._admitted.pieces})
        return {"sha256": store(self._steps, content), "size_after": size, "copied": copied}

    def _told(self, bones: Skeleton) -> dict[str, Any]:
        from rayopt.graph.working import external

        admitted, before = self._admitted, nodes_count(bones.model)
        return {
            "nodes_before": before, "size_before": admitted.size_bytes, "nodes_after": before,
            "size_after": admitted.size_bytes, "max_error": 0.0, "latency": {}, "chain": [],
            "record": [], "tried_count": 1, "versions": dict(installed()),
            "external": external(admitted, hashed=False),
            "conditions": [asdict(one) for one in self._reference.conditions(bones.model)],
            "proof": {**self._reference.told(), "skeleton": True},
        }  # fmt: skip


class _Value:
    """Wraps what stays in this process."""

    def __init__(self, value: Any) -> None:
        self.value = value


def _referenced(bones: Skeleton, seed: int) -> _Value:
    return _Value(bones.reference(seed))

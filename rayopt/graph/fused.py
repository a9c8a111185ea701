"""A second model for this machine alone, in operators of the runtime's own: never taken for the portable one.

What the runtime makes of the portable model at its full level, with and without onnxruntime.transformers before it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rayopt.errors import StepError
from rayopt.graph import face as faces
from rayopt.graph.portfolio import load, store
from rayopt.graph.proof import Reference
from rayopt.graph.sessions import open_session
from rayopt.graph.steps import Steps
from rayopt.graph.structure import graphs_of
from rayopt.graph.timing import compare
from rayopt.graph.tools import installed

MARK = "rayopt.fused_for"  # the metadata that says it


def by_runtime(content: bytes) -> bytes:
    """The model as ONNX Runtime has optimized it for this processor."""
    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        path = Path(folder) / "fused.onnx"
        open_session(content, optimize=True, written_to=path)
        return path.read_bytes()


def by_transformers(content: bytes) -> bytes:
    """The same after onnxruntime.transformers has looked for attention, embeddings and normalizations."""
    from onnxruntime.transformers import optimizer
    from onnxruntime.transformers.fusion_options import FusionOptions

    with tempfile.TemporaryDirectory(prefix="rayopt-") as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        found = optimizer.optimize_model(
            str(path), "bert", num_heads=0, hidden_size=0, opt_level=0, optimization_options=FusionOptions("bert")
        )
        return by_runtime(bytes(found.model.SerializeToString(deterministic=True)))


WAYS: dict[str, Callable[[bytes], bytes]] = {"runtime": by_runtime, "transformers": by_transformers}


class Fusing:
    """Makes the second model of one portable one; what failed, was wrong or slower is a line in `record`."""

    def __init__(self, steps: Steps, reference: Reference, face: faces.Face, record: list[dict[str, Any]]) -> None:
        self._steps, self._reference, self._face, self._record = steps, reference, face, record

    def fused(self, sha256: str, cpu_s: float, timing_s: float) -> dict[str, Any] | None:
        """All about it, None where nothing of the runtime's own came of it; `ratio` is to the portable model."""
        found = [one for way in WAYS if (one := self._made(way, sha256, cpu_s)) is not None]
        for one in sorted(found, key=lambda one: (one["nodes"], one["size_bytes"])):
            work = partial(self._ratio, sha256, one["sha256"], timing_s)
            latency = self._steps.do(f"time fused {one['sha256'][:16]}", 4 * cpu_s, work) if timing_s else {}
            if not latency.get("slower"):
                return {**one, "ratio": latency.get("ratio")}
            self._note(one["way"], "left", f"slower {latency['slower']} than the portable model")
        return None

    def _made(self, way: str, sha256: str, cpu_s: float) -> dict[str, Any] | None:
        try:
            return dict(self._steps.do(f"fuse {way}", 2 * cpu_s, lambda: self._make(way, sha256)))
        except StepError as error:
            self._note(way, "failed", str(error))
            return None

    def _make(self, way: str, sha256: str) -> dict[str, Any]:
        import onnx

        made = onnx.ModelProto.FromString(WAYS[way]((self._steps.folder / sha256).read_bytes()))
        closed = faces.put_on(made, self._face, self._reference.ranks(), portable=False)
        closed.metadata_props.add(key=MARK, value=f"onnxruntime {installed()['ort_basic']} on this processor")
        own = {node.domain for graph in graphs_of(closed) for node in graph.node} - self._face.domains
        if not own:
            raise StepError("there is nothing to fuse")
        error = self._reference.check(closed)
        content = closed.SerializeToString(deterministic=True)
        state = load(self._steps, store(self._steps, content), ())
        return {
            "way": way, "sha256": state.sha256, "nodes": state.nodes_count, "size_bytes": state.size_bytes,
            "max_error": error, "domains": sorted(own),
        }  # fmt: skip

    def _ratio(self, portable: str, fused: str, timing_s: float) -> dict[str, Any]:
        before, after = ((self._steps.folder / one).read_bytes() for one in (portable, fused))
        return compare(before, after, self._reference, timing_s)

    def _note(self, way: str, what: str, reason: str) -> None:
        if reason != "there is nothing to fuse":
            self._record.append(
                {"tool": f"fused by {way}", "chain": [f"fused by {way}"], "what": what, "reason": reason}
            )

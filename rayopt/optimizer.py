"""`ModelOptimizer`: the graph of one ONNX file made smaller from Python, as jobs of kind `graph` do it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rayopt.errors import WorkError, input_error
from rayopt.graph.order import Order
from rayopt.graph.run_model import ALL_TOOLS, Outcome, limits_for, optimize_file
from rayopt.graph.verdicts import REFUSALS
from rayopt.runs.files import copy_file, file_sha256, write_bytes

if TYPE_CHECKING:
    from onnx import ModelProto


class ModelOptimizer:
    """One model file. `optimize_graph` leaves what it did in `outcome`: verdict, reason, nodes, chain, proof."""

    def __init__(self, model_path: str | Path) -> None:
        self.path = Path(model_path)
        self.outcome: Outcome | None = None

    def optimize_graph(
        self,
        tools: Sequence[str] = ALL_TOOLS,
        target_opset: int = 23,
        timing_s: float = 0.1,
        seed: int = 0,
        memory_bytes: int = 0,
    ) -> ModelProto:
        """The model with fewer nodes, proven equal, no larger and no slower; the model as it was where nothing wins.

        It has its weights in it; `save` writes models of any size without loading theirs.

        tools: those to try, in any order that helps. target_opset: the newest operators that may be written.
        timing_s: how long candidates are timed beside the original, 0: not at all. memory_bytes: what the tools may
        take, 0: what suits the file. Raises InputError for a file that is refused, WorkError where the work failed.
        """
        order = Order("", "", tuple(tools), seed=seed, target_opset=target_opset, timing_s=timing_s)
        size = self.path.stat().st_size if self.path.is_file() else 0
        limits = limits_for(size)
        limits = replace(limits, memory_bytes=memory_bytes) if memory_bytes else limits
        found = self.outcome = optimize_file(self.path, order, limits)
        if found.verdict in ("crashed", "out_of_time", "out_of_memory"):
            raise WorkError(f"{self.path}: {found.reason}")
        if found.verdict in REFUSALS:
            raise input_error(str(self.path), f"is refused ({found.verdict}): {found.reason}")
        return self._model(found)

    def save(self, path: str | Path) -> None:
        """Writes the optimised model with its external data, and beside it what was done and proven as `NAME.json`.

        Raises InputError where other data lies under the name that the model's own has.
        """
        if self.outcome is None:
            raise WorkError("call optimize_graph first")
        path = Path(path)
        copies = self._copies(self.outcome, path)
        for source, target in copies.items():
            copy_file(source, target)
        write_bytes(path, self._content(self.outcome))
        told = {"verdict": self.outcome.verdict, "reason": self.outcome.reason, **self.outcome.told}
        write_bytes(path.with_suffix(".json"), (json.dumps(told, indent=2) + "\n").encode())

    def _copies(self, found: Outcome, path: Path) -> dict[Path, Path]:
        """Which external files go where; those that are there already are left out."""
        told = found.told.get("copied", ()) if found.files else [one["location"] for one in found.told["external"]]
        copies = {self.path.parent / name: path.parent / name for name in told}
        for source, target in copies.items():
            if target.exists() and not _is_same(source, target):
                problem = f"the data of {path.name} belongs here, and another file is there already"
                raise input_error(str(target), problem, "save into a folder of its own")
        return {source: target for source, target in copies.items() if not target.exists()}

    def _content(self, found: Outcome) -> bytes:
        return found.files["model.onnx"] if found.files else self.path.read_bytes()

    def _model(self, found: Outcome) -> ModelProto:
        import onnx

        model: ModelProto = onnx.ModelProto.FromString(self._content(found))
        onnx.load_external_data_for_model(model, str(self.path.parent))
        return model


def _is_same(source: Path, target: Path) -> bool:
    if source.samefile(target):
        return True
    return source.stat().st_size == target.stat().st_size and file_sha256(source) == file_sha256(target)

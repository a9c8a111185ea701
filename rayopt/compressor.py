"""`ModelCompressor`: pruning and quantisation of a torch model from Python, on the same functions as the jobs."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rayopt.compress import onnx_weights, torch_weights
from rayopt.compress.prune import prune_channels
from rayopt.compress.sparsify import Rule, prune_weights
from rayopt.compress.weights import Codes, Plan
from rayopt.data.dataset import Array, Dataset, build
from rayopt.data.settings import SplitSettings
from rayopt.errors import StepError, WorkError
from rayopt.graph.export import export
from rayopt.measure.metrics import BUILT_IN, BY_TASK, score
from rayopt.models.onnx_model import MODEL, predict, session
from rayopt.records import Artifact, Scores
from rayopt.runs.files import write_bytes
from rayopt.training.recovery import follow
from rayopt.training.settings import RecoverySettings

EXPORTERS = ("torchscript", "dynamo")
OPSET = 17


@dataclass(frozen=True)
class Search:
    """What `compress` tries: shares of the channels to keep, each with each number of bits, within a budget.

    max_accuracy_drop: how much worse on the selection rows, in accuracy (R² for quantities).
    """

    max_accuracy_drop: float = 0.01
    keep: Sequence[float] = (1.0, 0.5)
    bits: Sequence[int] = (8, 6, 5, 4, 3)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    seed: int = 0


@dataclass(frozen=True)
class Compressed:
    """The smallest model within the budget as an ONNX file, or the exported original where nothing is; and a report."""

    artifact: Artifact
    report: Mapping[str, Any]

    @property
    def size_bytes(self) -> int:
        return self.artifact.size_bytes

    def save(self, path: str | Path) -> None:
        """Writes the ONNX file."""
        write_bytes(Path(path), self.artifact.files[MODEL])


class ModelCompressor:
    """Compresses one torch model. `quantize_weights` and `prune_weights` change it in place and return it.

    `report` holds what the last call of each achieved. Quantise last: pruning or training afterwards changes weights,
    and `save` refuses what is no longer what was quantised.
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.report: dict[str, Any] = {}
        self._codes: dict[str, Codes] = {}

    def quantize_weights(
        self,
        bits: int = 8,
        per_channel: bool = True,
        symmetric: bool = True,
        layers: Mapping[str, int] | None = None,
        min_size: int = 1,
    ) -> nn.Module:
        """Rounds every weight to one of `2 ** bits` values; `save` then packs it in that many bits."""
        plan = Plan(bits, per_channel, symmetric, layers or {}, min_size)
        self._codes = torch_weights.quantize_weights(self.model, plan)
        self.report["quantization"] = {"bits": {name: codes.bits for name, codes in self._codes.items()}}
        return self.model

    def prune_weights(
        self, threshold: float | None = 0.01, share: float | None = None, pattern: str | None = None
    ) -> nn.Module:
        """Sets weights below `threshold` to zero; or a `share` of all, or all but n of m by `pattern` (`2:4`).

        They stay zero when the model is trained by rayopt. Raises StepError where no weight becomes zero.
        """
        if pattern is not None or share is not None:
            threshold = None
        self.report["pruning"] = prune_weights(self.model, Rule(share or 0.0, "global", threshold, pattern))
        self._codes = {}
        return self.model

    @property
    def size_bytes(self) -> int:
        """The bytes of the file that `save` writes."""
        return len(torch_weights.pack(self.model, self._codes))

    def save(self, path: str | Path) -> None:
        """Writes all tensors as safetensors, quantised ones packed in their bits; `load_state` reads it."""
        write_bytes(Path(path), torch_weights.pack(self.model, self._codes))

    @staticmethod
    def load_state(path: str | Path) -> dict[str, Tensor]:
        """The state_dict of a file that `save` wrote, for `model.load_state_dict`; raises InputError."""
        return torch_weights.unpack(Path(path).read_bytes(), str(path))

    def compress(self, x: Array, y: Array, search: Search | None = None) -> Compressed:
        """Prunes channels, recovers, exports and packs weights; gives the smallest file within the budget.

        x, y: rows and targets, split as a job's data are: selection chooses, test reports. The model itself is left as
        it is. What fails is a line of the report; raises WorkError when the model cannot even be exported.
        """
        search = search or Search()
        data = build("x, y", x, y, "auto", SplitSettings(), search.seed, "x, y")
        original = copy.deepcopy(self.model).cpu().eval()
        try:
            baseline = self._export(original, data, search.seed)
            base = _score(baseline, data, "selection")
        except StepError as error:
            raise WorkError(f"the model cannot be exported and run: {error}") from error
        tried: list[dict[str, Any]] = []
        best, best_row = baseline, None
        for keep in search.keep:
            for row, artifact in self._candidates(original, keep, data, search):
                tried.append(row)
                if artifact is None:
                    continue
                row["within_budget"] = base.value - row["accuracy"] <= search.max_accuracy_drop
                if row["within_budget"] and artifact.size_bytes < best.size_bytes:
                    best, best_row = artifact, row
        final = {"baseline": _score(baseline, data, "test"), "chosen": _score(best, data, "test")}
        report = {
            "metric": base.metric,
            "baseline": {"size_bytes": baseline.size_bytes, "accuracy": base.value},
            "chosen": best_row,
            "test": {name: {"accuracy": one.value, "low": one.low, "high": one.high} for name, one in final.items()},
            "test_n": final["chosen"].n,
            "tried": tried,
        }
        return Compressed(best, report)

    def _candidates(
        self, original: nn.Module, keep: float, data: Dataset, search: Search
    ) -> Sequence[tuple[dict[str, Any], Artifact | None]]:
        """Each number of bits for the model with that share of its channels: its row of the report, and the model."""
        train = data["train"]
        module = copy.deepcopy(original)
        try:
            if keep < 1:
                prune_channels(module, torch.tensor(train.x[:2]), keep, {}, 8)
                x, y = torch.tensor(train.x), torch.tensor(train.y)
                follow(module, original, x, y, search.recovery, search.seed)
            exported = self._export(module, data, search.seed)
        except StepError as error:
            return [({"keep": keep, "bits": 32, "reason": str(error)}, None)]
        found: list[tuple[dict[str, Any], Artifact | None]] = []
        for bits in (32, *search.bits) if keep < 1 else search.bits:
            row: dict[str, Any] = {"keep": keep, "bits": bits}
            try:
                artifact = exported if bits == 32 else onnx_weights.quantize_weights(exported, Plan(bits))
                value = _score(artifact, data, "selection").value
            except StepError as error:
                found.append(({**row, "reason": str(error)}, None))
                continue
            found.append(({**row, "size_bytes": artifact.size_bytes, "accuracy": value}, artifact))
        return found

    def _export(self, module: nn.Module, data: Dataset, seed: int) -> Artifact:
        return export(module, data["calibration"].x, EXPORTERS, OPSET, seed)


def _score(model: Artifact, data: Dataset, split: str) -> Scores:
    rows = data[split]
    if rows.y is None:
        raise StepError("there are no labels to score by")
    return score(BUILT_IN[BY_TASK[data.task][0]], data.task, rows.y, predict(session(model), rows.x))


__all__ = ["Compressed", "ModelCompressor", "Search"]

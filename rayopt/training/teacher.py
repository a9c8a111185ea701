"""A teacher and its answers: asked once for each row and view, kept as .npy files that all who train by them map."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from rayopt.errors import StepError
from rayopt.models.settings import ModelSource
from rayopt.records import Artifact, digest
from rayopt.training.layers import heard
from rayopt.training.seat import best_device
from rayopt.training.source import seen

Array = np.ndarray[Any, Any]
OUTPUTS = "outputs"
BATCH = 256
INLINE_BYTES = 64 << 20  # smaller files travel along, larger ones must be where the same path leads


@dataclass(frozen=True)
class Teacher:
    """A model to be asked, torch (built by its source) or ONNX, and layers whose outputs are wanted as well.

    `code` is a hash of the sources of a torch model's own factory.
    """

    artifact: Artifact
    source: ModelSource | None = None
    code: str = ""
    layers: tuple[str, ...] = ()
    weight: float = 1.0
    name: str = "teacher"

    @cached_property
    def sha256(self) -> str:
        """All that decides its answers."""
        settings = self.source.settings.model_dump(mode="json") if self.source else None
        return digest([self.artifact.sha256, settings and [settings["factory"], settings["args"]], self.code])

    def ask(self, x: Array) -> dict[str, Array]:
        """Its outputs `(rows, ...)` under OUTPUTS, and each layer's under the layer's name; raises StepError."""
        found = _onnx_answers(self, x) if self.artifact.format == "onnx" else _torch_answers(self, x)
        for name, array in found.items():
            if len(array) != len(x):
                raise StepError(f"the teacher's {name!r} has {len(array)} rows for {len(x)}")
            if not np.isfinite(array).all():
                raise StepError(f"the teacher's {name!r} is NaN or infinite for some rows")
        return found


@dataclass(frozen=True)
class Stored:
    """An array in a .npy file that is mapped into memory, not read; every process of a machine shares its pages.

    Travels with its content where that is small, else by its path.
    """

    path: Path
    content: Array | None = field(default=None, compare=False, repr=False)

    @cached_property
    def array(self) -> Array:
        """The whole array; raises StepError where neither the file nor its content arrived."""
        if self.path.is_file():
            mapped: Array = np.load(self.path, mmap_mode="c", allow_pickle=False)
            return mapped.view(np.ndarray)
        if self.content is None:
            raise StepError(f"{self.path} is not there: let RAYOPT_CACHE name a folder that all machines see")
        return self.content

    @cached_property
    def tensor(self) -> Tensor:
        """The same memory as a tensor that nobody writes to. It has its data even where it is first asked for by a
        step that is traced without any."""
        with _disable_current_modes():
            return seen(self.array)

    def __len__(self) -> int:
        return len(self.array)

    def __deepcopy__(self, memo: Any) -> Stored:
        return self  # nothing changes it, and a copy would read all of it

    def __getstate__(self) -> dict[str, Any]:
        small = self.array.nbytes <= INLINE_BYTES
        return {"path": self.path, "content": np.ascontiguousarray(self.array) if small else None}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)


@dataclass(frozen=True)
class Answers:
    """What a teacher said of all rows of all views, by name (OUTPUTS, layers).

    `period`: after so many rows the answers begin again, where views are given the answers to the clean rows.
    """

    stored: Mapping[str, Stored]
    weight: float = 1.0
    period: int | None = None

    def at(self, rows: Tensor, name: str = OUTPUTS) -> Tensor:
        """The answers to rows by their numbers, where the numbers are."""
        numbers = rows.cpu() if self.period is None else rows.cpu() % self.period
        return self.stored[name].tensor.index_select(0, numbers).to(rows.device)


def merge(parts: Iterable[tuple[slice, Mapping[str, Array]]], rows: int, folder: Path) -> dict[str, Path]:
    """Writes blocks of answers into one .npy file for each name; no more than a block is in memory."""
    files: dict[str, tuple[Path, Any]] = {}
    for at, block in parts:
        for number, (name, array) in enumerate(block.items()):
            if name not in files:
                path = folder / file_name(number)
                shape = (rows, *array.shape[1:])
                files[name] = path, np.lib.format.open_memmap(path, mode="w+", dtype=array.dtype, shape=shape)
            files[name][1][at] = array
    for _, mapped in files.values():
        mapped.flush()
    return {name: path for name, (path, _) in files.items()}


def file_name(number: int) -> str:
    """The file of the answers' number-th name."""
    return f"{number}.npy"


def _torch_answers(teacher: Teacher, x: Array) -> dict[str, Array]:
    device = best_device()
    module = _module(teacher).to(device)
    parts: dict[str, list[Array]] = {}
    with heard(module, teacher.layers) as seen, torch.no_grad():  # inference_mode's tensors are no targets to train by
        for start in range(0, len(x), BATCH):
            outputs = module(torch.tensor(x[start : start + BATCH], device=device))
            for name, tensor in {OUTPUTS: outputs, **seen}.items():
                parts.setdefault(name, []).append(tensor.float().cpu().numpy())
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _onnx_answers(teacher: Teacher, x: Array) -> dict[str, Array]:
    from rayopt.models.onnx_model import predict_all

    running = _session(teacher)
    names = [one.name for one in running.get_outputs()]
    outputs = dict(zip(names, predict_all(running, x), strict=True))
    return {OUTPUTS: outputs[names[0]].astype(np.float32), **{name: outputs[name] for name in teacher.layers}}


def _module(teacher: Teacher) -> nn.Module:
    from rayopt.models.torch_model import from_artifact

    if teacher.source is None:
        raise StepError("a torch teacher needs the factory that builds it")
    if teacher.sha256 not in _ready:
        _remember(teacher.sha256, from_artifact(teacher.artifact, teacher.source, 0))
    return cast(nn.Module, _ready[teacher.sha256])


def _session(teacher: Teacher) -> Any:
    from rayopt.models.onnx_model import session

    key = digest([teacher.sha256, list(teacher.layers)])
    if key not in _ready:
        _remember(key, session(_with_outputs(teacher.artifact, teacher.layers) if teacher.layers else teacher.artifact))
    return _ready[key]


def _with_outputs(artifact: Artifact, names: Sequence[str]) -> Artifact:
    """The model with tensors of its graph as further outputs; raises StepError for names that the graph has not."""
    import onnx

    from rayopt.errors import did_you_mean
    from rayopt.models.onnx_model import from_proto, to_proto

    model = onnx.shape_inference.infer_shapes(to_proto(artifact))
    known = {one.name: one for one in model.graph.value_info}
    there = {one.name for one in model.graph.output}
    for name in names:
        if name not in known and name not in there:
            raise StepError(f"the model has no tensor {name!r}; {did_you_mean(name, list(known))}")
        if name not in there:
            model.graph.output.append(known[name])
    return from_proto(model)


_ready: dict[str, Any] = {}


def _remember(key: str, model: Any) -> None:
    """A process keeps the last two models that it asked: a teacher is asked about one block after another."""
    while len(_ready) >= 2:
        del _ready[next(iter(_ready))]
    _ready[key] = model

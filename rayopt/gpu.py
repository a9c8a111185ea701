"""`GPUOptimizer`: memory and mixed precision of a training loop of your own, on a GPU or a CPU."""

from __future__ import annotations

import gc
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from rayopt.errors import InputError, StepError, input_error
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Step, Variant, Watch
from rayopt.memory.snapshot import Snapshot, snapshot
from rayopt.training.learner import statistics_kept
from rayopt.training.losses import task_loss
from rayopt.training.seat import best_device


@dataclass(frozen=True)
class MemoryReport:
    """What takes the memory over a step: bytes at the peak by kind, and the activations by layer."""

    peak_bytes: int
    at_peak: Mapping[str, int]
    layers: Mapping[str, int]
    snapshot: Snapshot

    @property
    def table(self) -> str:
        """Kinds and layers with their bytes, largest first."""
        rows = sorted(self.at_peak.items(), key=lambda one: -one[1])
        lines = [f"{'peak':<24}{self.peak_bytes:>16,}", *(f"{kind:<24}{size:>16,}" for kind, size in rows if size)]
        return "\n".join([*lines, *(f"  {name:<22}{size:>16,}" for name, size in self.layers.items())])

    def write(self, path: str | Path) -> None:
        """Writes the plot and the table as one HTML page that needs nothing from outside."""
        from dataclasses import asdict

        from rayopt.report.page import render

        summary = {"kind": "memory", "name": "step", "status": "done", "memory": asdict(self.snapshot)}
        Path(path).write_text(render(summary, {}), encoding="utf-8")


class GPUOptimizer:
    """Takes care of a model's memory on `device`: the first GPU where torch sees one, else the CPU.

    The model is moved there. `precision` is bf16 where the device computes in it, float16 with a scaled loss on other
    GPUs, else float32.
    """

    def __init__(self, model: nn.Module, device: str | torch.device | None = None) -> None:
        try:
            self.device = torch.device(device) if device is not None else best_device()
            self.model = model.to(self.device)
        except (RuntimeError, AssertionError) as error:
            raise input_error("device", f"{device!r}: {error}", "give cpu, cuda or cuda:0, as torch has it") from error
        self.precision = _precision(self.device)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self._last: tuple[Shaped, Shaped, torch.optim.Optimizer] | None = None

    def optimize_memory(self, fixed_shapes: bool = False) -> dict[str, Any]:
        """Gives back what is cached and not used: between phases, such as after training and before evaluation.

        Not in a loop, where the next step would have to ask for it again. fixed_shapes: all batches are of one shape,
        so that cuDNN may time its algorithms once; not done where torch is asked to be deterministic. Where nothing is
        said of shapes, cuDNN's setting stays as you have it.
        """
        gc.collect()
        before = _reserved_bytes(self.device)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
            torch.cuda.empty_cache()
        deterministic = torch.are_deterministic_algorithms_enabled() or torch.backends.cudnn.deterministic
        if fixed_shapes:
            torch.backends.cudnn.benchmark = not deterministic
        return {
            "freed_bytes": before - _reserved_bytes(self.device),
            "reserved_bytes": _reserved_bytes(self.device),
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        }

    def mixed_precision_step(self, inputs: Tensor, targets: Tensor, optimizer: torch.optim.Optimizer) -> float:
        """Forward, loss, backward and update in the device's precision; gives the loss.

        Class numbers are learned by cross entropy, quantities by squared error. Raises InputError for targets that do
        not go with the outputs, StepError where the loss is not finite; the model is then as it was.
        """
        for name, one in (("inputs", inputs), ("targets", targets)):
            if not isinstance(one, Tensor):
                raise input_error(name, f"is no tensor but a {type(one).__name__}", "give one tensor of rows")
        x, y = inputs.to(self.device), targets.to(self.device)
        with statistics_kept(self.model):
            loss = _step(self.model, x, y, optimizer, self._scaler, self.precision)
            if not math.isfinite(loss):
                raise StepError(f"the loss became {loss}; a lower learning rate may help")
        self._last = (Shaped.of(inputs), Shaped.of(targets), optimizer)
        return loss

    def report(
        self,
        inputs: Tensor | None = None,
        targets: Tensor | None = None,
        optimizer: torch.optim.Optimizer | None = None,
    ) -> MemoryReport:
        """What takes the memory over a step, traced without running it; of the last step where nothing is given.

        Raises InputError where there was none, or where the step cannot be traced.
        """
        last = self._last or (None, None, None)
        x = last[0] if inputs is None else Shaped.of(inputs)
        y = last[1] if targets is None else Shaped.of(targets)
        optimizer = last[2] if optimizer is None else optimizer
        if x is None or y is None or optimizer is None:
            raise input_error("report", "no step was taken yet", "give inputs, targets and optimizer")
        own = _OwnStep(self.model, (x, y), optimizer, self.precision, self.device)
        predictor = Predictor(own, self.device, "model")
        try:
            found = snapshot(predictor.trace(x.shape[0], Variant()))
        except InputError:
            raise
        except Exception as error:
            problem = f"a step cannot be traced: {type(error).__name__}: {error}"
            raise input_error("model", problem, "what it does must not depend on the values of its data") from error
        return MemoryReport(found.peak_bytes, found.at_peak, found.layers, found)


@dataclass(frozen=True)
class Shaped:
    """What a report has to know of a batch, which itself is not kept: it may be most of what a GPU holds."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, batch: Tensor) -> Shaped:
        return cls(tuple(batch.shape), batch.dtype)


@dataclass(frozen=True)
class _OwnStep:
    """A step as `mixed_precision_step` takes it, for the tracer."""

    module: nn.Module
    given: tuple[Shaped, Shaped]
    optimizer: torch.optim.Optimizer
    precision: str
    device: torch.device
    row_bytes: int = 0

    def open(self, module: nn.Module, rows: int, variant: Variant, watch: Watch) -> Step:
        optimizer = _like(self.optimizer, self.module, module)
        watch(module, optimizer)
        scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

        def step() -> None:
            x, y = (torch.zeros((rows, *one.shape[1:]), dtype=one.dtype, device=self.device) for one in self.given)
            _step(module, x, y, optimizer, scaler, self.precision)

        return step


def _step(
    model: nn.Module, x: Tensor, y: Tensor, optimizer: torch.optim.Optimizer, scaler: Any, precision: str
) -> float:
    """Scale, backward, unscale, step, update: in this order."""
    model.train()
    optimizer.zero_grad(set_to_none=True)
    kind = torch.float16 if precision == "fp16" else torch.bfloat16
    with torch.autocast(x.device.type, kind, enabled=precision != "fp32"):
        outputs = model(x)
    if not isinstance(outputs, Tensor):
        raise input_error("model", f"gives a {type(outputs).__name__} instead of a tensor", "wrap it in one that does")
    try:
        loss = task_loss(outputs.float(), y)
    except (StepError, IndexError) as error:
        raise input_error("targets", str(error), "give targets that go with the model's outputs") from error
    value = float(loss.detach())
    if math.isfinite(value):
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    return value


def _like(optimizer: torch.optim.Optimizer, module: nn.Module, copied: nn.Module) -> torch.optim.Optimizer:
    """An optimizer of the same class and groups over the copy's parameters."""
    own = {id(one): name for name, one in module.named_parameters()}
    names = dict(copied.named_parameters())
    groups = [
        {**group, "params": [names[own[id(one)]] for one in group["params"] if id(one) in own]}
        for group in optimizer.param_groups
    ]
    made: torch.optim.Optimizer = type(optimizer)(groups, **{"lr": groups[0]["lr"]})
    return made


def _precision(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp16"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16" if fast else "fp32"


def _reserved_bytes(device: torch.device) -> int:
    return torch.cuda.memory_reserved(device) if device.type == "cuda" else 0


__all__ = ["GPUOptimizer", "MemoryReport"]

"""The numbers that a training computes in: what a precision means on a device, and which one is measured to be best."""

from __future__ import annotations

import contextlib
import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from rayopt.errors import StepError
from rayopt.training.settings import Layout, Precision, TrainSettings

TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
BLOCK = 16  # channels that AVX-512 takes at once
WORTH = 0.95  # of the plain step's time: what is not faster than that is not worth a change
CLOSE = 0.1  # how far, relatively, the losses of a few steps may be from the plain ones
WARM, TIMED, ENOUGH_S, MOST = 2, 4, 0.5, 40  # steps of a probe: at least, and until so many seconds or steps


@dataclass(frozen=True)
class Numerics:
    """A precision and the layout of images in memory."""

    precision: Precision
    layout: Layout

    def autocast(self, device: torch.device) -> Callable[[], contextlib.AbstractContextManager[Any]]:
        if self.precision == "fp32":
            return contextlib.nullcontext
        kind = TYPES[self.precision]
        return lambda: torch.autocast(device.type, kind)

    def scaler(self, device: torch.device) -> torch.amp.GradScaler | None:
        """float16 loses small gradients, unless the loss is scaled up."""
        return torch.amp.GradScaler(device.type) if self.precision == "fp16" else None

    def laid_out(self, x: Tensor) -> Tensor:
        """Rows of images in this layout; others as they are."""
        return x.to(memory_format=torch.channels_last) if self.layout == "channels_last" and x.ndim == 4 else x

    def lay_out(self, module: nn.Module) -> None:
        if self.layout == "channels_last":
            module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            for one in filter(_writes_beyond, module.modules() if self.precision == "fp32" else ()):
                one.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
                if _as_contiguous not in one._forward_pre_hooks.values():
                    one.register_forward_pre_hook(_as_contiguous)


def _writes_beyond(module: nn.Module) -> bool:
    """Whether it is a convolution whose weights' gradient oneDNN (of torch 2.13, `jit_1x1:avx512_core`) writes beyond
    its memory: kernel 1, strided, of fewer than 16 channels, channels last, float32, on several threads."""
    if not isinstance(module, nn.Conv2d) or module.weight.device.type != "cpu":
        return False
    is_strided = module.kernel_size == (1, 1) and module.stride != (1, 1)
    return is_strided and module.in_channels // module.groups < BLOCK


def _as_contiguous(module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


PLAIN = Numerics("fp32", "contiguous")


@dataclass(frozen=True)
class Probed:
    """What a probe measured: seconds a step, and how far the losses were from the plain ones, relatively."""

    numerics: Numerics
    seconds: float
    off: float


Steps = Callable[[nn.Module, Numerics], Callable[[], float]]  # a model to train -> a step that gives its loss


def candidates(settings: TrainSettings, device: torch.device, x: Tensor) -> list[Numerics]:
    """What the settings leave open; the plain one first, where they allow it."""
    automatic: list[Precision] = ["fp32", "bf16"]
    if device.type == "cuda" and not torch.cuda.is_bf16_supported():
        automatic = ["fp32", "fp16"]
    precisions = automatic if settings.precision == "auto" else [settings.precision]
    layouts: list[Layout] = ["contiguous", "channels_last"] if settings.layout == "auto" else [settings.layout]
    if x.ndim != 4:
        layouts = ["contiguous"]
    return [Numerics(precision, layout) for precision in precisions for layout in layouts]


def probe(module: nn.Module, among: Sequence[Numerics], steps: Steps) -> tuple[Numerics, list[Probed]]:
    """The fastest of several numerics whose losses are those of the first; the first where none is faster by much.

    Each trains a copy of the model for a few steps, in turns: what slows the machine down meanwhile slows all.
    """
    if len(among) < 2:
        return among[0], []
    first = among[0]
    running = {one: steps(copy.deepcopy(module), one) for one in among}
    losses: dict[Numerics, list[float]] = {one: [] for one in among}
    times: dict[Numerics, list[float]] = {one: [] for one in among}
    began = time.perf_counter()
    for turn in range(MOST):
        if turn >= WARM + TIMED and time.perf_counter() - began > ENOUGH_S:
            break
        for one, step in running.items():
            start = time.perf_counter()
            losses[one].append(step() if one is first else _tried(step))
            if turn >= WARM:
                times[one].append(time.perf_counter() - start)
    measured = [Probed(one, min(times[one]), _apart(losses[one], losses[first])) for one in among]
    fit = [one for one in measured[1:] if one.off <= CLOSE and one.seconds < WORTH * measured[0].seconds]
    best = min(fit, key=lambda one: one.seconds, default=measured[0])
    return best.numerics, measured


def _tried(step: Callable[[], float]) -> float:
    """A step's loss; NaN where the model cannot compute in these numerics, or runs out of them."""
    try:
        return step()
    except (StepError, RuntimeError, NotImplementedError):
        return math.nan


def _apart(losses: Sequence[float], wanted: Sequence[float]) -> float:
    """The largest difference, relative to the largest loss; infinite for what is not finite."""
    if not all(map(math.isfinite, losses)):
        return math.inf
    scale = max(map(abs, wanted), default=0.0) or 1.0
    return max(abs(one - other) for one, other in zip(losses, wanted, strict=True)) / scale

"""A model and what it is trained for as one module: what data parallelism wraps."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.utils.checkpoint import checkpoint

from rayopt.errors import StepError
from rayopt.plugins import locate

Autocast = Callable[[], contextlib.AbstractContextManager[Any]]


class Learner(nn.Module):
    """`learner(x, y, rows)` is the mean loss of rows x.

    objective: called `(outputs, targets, rows)` with the rows' numbers; its own parameters are trained as well. Where
    it has `attach`, that is called with the model once; where its `reduction` is `sum`, it is the sum instead of the
    mean over the rows. The loss is computed in float32 whatever `autocast` does.
    """

    def __init__(
        self,
        module: nn.Module,
        objective: nn.Module,
        autocast: Autocast = contextlib.nullcontext,
        thrifty: bool = False,
    ) -> None:
        super().__init__()
        self.module, self.objective = module, objective
        self.has_unused = False  # parameters that get no gradient
        self._autocast = autocast
        attach = getattr(objective, "attach", None)
        if attach is not None:
            attach(module)
        if thrifty:
            forget_activations(module)

    def forward(self, x: Tensor, y: Tensor, rows: Tensor) -> Tensor:
        with self._autocast():
            outputs = self.module(x)
        if outputs.dtype in (torch.bfloat16, torch.float16):
            outputs = outputs.float()
        loss: Tensor = self.objective(outputs, y, rows)
        return loss


class TaskObjective(nn.Module):
    """The task's own loss, class numbers smoothed by `label_smoothing` (Szegedy et al., 2016, section 7).

    gaps: some places have no class.
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        super().__init__()
        self._smoothing = label_smoothing
        self.gaps = False

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        from rayopt.training.losses import task_loss

        return task_loss(outputs, targets, self._smoothing, self.gaps)


class OwnObjective(nn.Module):
    """A loss of the user's own, `package.module:function`, called `(outputs, targets)`: the mean over the rows."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        loss = locate(self.path, "loss")(outputs, targets)
        if not isinstance(loss, Tensor) or loss.ndim:
            raise StepError(f"the loss {self.path} gave {_named(loss)} instead of a tensor of one number")
        return loss


@contextlib.contextmanager
def statistics_kept(module: nn.Module) -> Iterator[None]:
    """Puts back what batch normalisation has noted of a batch that ends in an error."""
    norms = (one for one in module.modules() if isinstance(one, _NormBase))
    before = [(buffer, buffer.clone()) for one in norms for buffer in one.buffers(recurse=False)]
    try:
        yield
    except BaseException:
        with torch.no_grad():
            for buffer, noted in before:
                buffer.copy_(noted)
        raise


def objective_of(loss: str, label_smoothing: float) -> nn.Module:
    """That of a job's `loss:`, `auto` for the task's own."""
    return TaskObjective(label_smoothing) if loss == "auto" else OwnObjective(loss)


def _named(value: Any) -> str:
    return f"a tensor of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__


def forget_activations(module: nn.Module) -> None:
    """Has each block of the model compute its activations again when they are needed (Chen et al., 2016).

    Blocks are the children of the longest sequence of modules, or the model's own children where it has none.
    """
    lists = [one for one in module.modules() if isinstance(one, nn.Sequential | nn.ModuleList) and len(one) > 1]
    blocks = list(max(lists, key=len)) if lists else list(module.children())
    for block in blocks:
        if any(True for _ in block.parameters()):
            block.forward = _Again(block, block.forward)


class _Again:
    """A block's forward that keeps its inputs alone; batch statistics are taken note of the first time only."""

    def __init__(self, block: nn.Module, forward: Callable[..., Any]) -> None:
        self._forward = forward
        self._all = [one for one in block.modules() if isinstance(one, _NormBase) and one.track_running_stats]

    def __call__(self, *args: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return self._forward(*args, **named)
        return checkpoint(self._forward, *args, use_reentrant=False, context_fn=self._contexts, **named)

    def _contexts(self) -> tuple[Any, Any]:
        return contextlib.nullcontext(), self._again()

    @contextlib.contextmanager
    def _again(self) -> Iterator[None]:
        norms = [one for one in self._all if one.training]  # the others take note of nothing
        momenta = [one.momentum for one in norms]
        for one in norms:
            one.momentum = 0.0
        try:
            yield
        finally:
            for one, momentum in zip(norms, momenta, strict=True):
                one.momentum = momentum
                if one.num_batches_tracked is not None:
                    one.num_batches_tracked.sub_(1)

"""One step of training after another: precision, accumulation, clipping, schedule, average."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from rayopt.errors import StepError
from rayopt.models.masks import Zeros
from rayopt.training.average import Average
from rayopt.training.learner import Learner
from rayopt.training.optimizers import lr_factor, optimizer_of
from rayopt.training.precision import Numerics
from rayopt.training.settings import TrainSettings
from rayopt.training.sharded import is_sharded, like_all, optimizer_like, whole

Part = tuple[Tensor, Tensor, Tensor, float]  # x, y, row numbers, and the share of the step's loss


@dataclass(frozen=True)
class Means:
    """Where and how steps are computed; `wrap` makes the learner parallel."""

    numerics: Numerics
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    wrap: Callable[[Learner], nn.Module] = lambda learner: learner


class StepEngine:
    """Trains `module` in place for `steps` steps of the optimizer.

    `count` is how many were asked for, `taken` how many changed the weights: a step whose float16 gradients overflow
    is left out, and then the schedule and the average stand still too. Pruned weights stay zero.
    """

    def __init__(
        self, module: nn.Module, objective: nn.Module, settings: TrainSettings, steps: int, means: Means
    ) -> None:
        self.module, self.settings, self.steps, self.means = module, settings, steps, means
        module.to(means.device).train()
        means.numerics.lay_out(module)
        learner = Learner(
            module, objective.to(means.device), means.numerics.autocast(means.device), settings.activation_checkpointing
        )
        self._learner = learner
        self._wrapped = means.wrap(learner)
        self._called: Callable[..., Tensor] = torch.compile(self._wrapped) if settings.compile else self._wrapped
        self.scaler = means.numerics.scaler(means.device)
        self.is_sharded = is_sharded(module)
        self.optimizer = optimizer_of(self._wrapped.parameters(), settings.optimizer, self._is_fusible())
        self._peaks = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.average = Average(module, settings.ema) if settings.ema else None
        self._zeros = Zeros(module)
        self._apart: Callable[[], Any] = getattr(self._wrapped, "no_sync", contextlib.nullcontext)
        self.count = self.taken = 0

    def _is_fusible(self) -> bool:
        """GPUs take all parameters at once as it is; a scaler, sparse gradients and parts want steps of their own."""
        sparse = any(getattr(one, "sparse", False) for one in self._wrapped.modules())
        return self.means.device.type == "cpu" and self.scaler is None and not (sparse or self.is_sharded)

    @property
    def lr(self) -> float:
        """The first group's learning rate of the step to come."""
        return self._peaks[0] * lr_factor(self.settings.schedule, self.taken, self.steps)

    def step(self, parts: Sequence[Part]) -> float:
        """One step of the optimizer on the sum of its parts' shares; gives the loss of this worker's part.

        Raises StepError where the loss is not finite; the weights are then those of the step before.
        """
        self.optimizer.zero_grad(set_to_none=True)
        total: Tensor | float = 0.0
        for number, part in enumerate(parts, start=1):
            if number == len(parts):  # gradients are exchanged between workers with the last part alone
                loss = self._backward(*part)
            else:
                with self._apart():
                    loss = self._backward(*part)
            total = total + loss if number > 1 else loss
        value = float(total)
        if not abs(value) < float("inf"):
            raise StepError(
                f"the loss became {value}; a lower learning rate than {self.settings.optimizer.peak_lr:g} may help"
            )
        self._update()
        self.count += 1
        return value

    def _backward(self, x: Tensor, y: Tensor, rows: Tensor, share: float) -> Tensor:
        loss = self._called(x, y, rows)
        if share != 1:
            loss = loss * share
        torch.autograd.backward(loss if self.scaler is None else self.scaler.scale(loss))
        return loss.detach()

    def _update(self) -> None:
        factor = lr_factor(self.settings.schedule, self.taken, self.steps)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = peak * factor
        if self.settings.clip_norm is not None:
            if self.scaler is not None:
                self.scaler.unscale_(self.optimizer)
            nn.utils.clip_grad_norm_(self._wrapped.parameters(), self.settings.clip_norm)
        if self.scaler is None:
            self.optimizer.step()
        else:
            before = self.scaler.get_scale()
            self.scaler.step(self.optimizer)
            self.scaler.update()
            if self.scaler.get_scale() < before:  # the gradients overflowed: nothing was changed
                return
        self.taken += 1
        self._zeros.restore()
        if self.average is not None:
            self.average.follow()

    @contextlib.contextmanager
    def evaluating(self) -> Iterator[nn.Module]:
        """The model as it would be shipped now: the average where there is one, in evaluation mode."""
        self.module.eval()
        swapped = self.average.swapped() if self.average else contextlib.nullcontext()
        with swapped, torch.no_grad(), self.means.numerics.autocast(self.means.device)():
            yield self.module
        self.module.train()

    def state(self) -> dict[str, Any]:
        """All that the steps to come depend on, as nested dicts and lists of tensors and plain values.

        All workers must ask for it where the model is split among them.
        """
        average = self.average.state() if self.average else None
        state = {
            "module": self.module.state_dict(),
            "objective": self._learner.objective.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict() if self.scaler else None,
            "average": {"kept": average[0], "count": average[1]} if average else None,
            "count": self.count,
            "taken": self.taken,
        }
        return whole(state) if self.is_sharded else state

    def load(self, state: dict[str, Any]) -> None:
        """Goes on from `state`."""
        self.module.load_state_dict(like_all(self.module.state_dict(), state["module"]))
        objective = self._learner.objective
        objective.load_state_dict(like_all(objective.state_dict(), state["objective"]))
        self.optimizer.load_state_dict(optimizer_like(self.optimizer.param_groups, state["optimizer"]))
        self._lay_out_moments()
        if self.scaler is not None:
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None:
            self.average.load(state["average"]["kept"], state["average"]["count"])
        self.count, self.taken = state["count"], state["taken"]

    def _lay_out_moments(self) -> None:
        """The optimizer's tensors lie in memory as their parameters do: fused steps go through both by address."""
        for parameter, state in self.optimizer.state.items():
            for name, one in state.items():
                if isinstance(one, Tensor) and one.shape == parameter.shape and one.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=one.dtype).copy_(one)

"""An exponential moving average of a model's state (Polyak and Juditsky, 1992; as in Tarvainen and Valpola, 2017)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rayopt.training.sharded import like


def unbounded(module: nn.Module) -> set[str]:
    """Buffers that hold infinity or NaN, as masks do: nothing that is learned."""
    buffers = ((name, one) for name, one in module.named_buffers() if one.is_floating_point())
    return {name for name, one in buffers if not bool(torch.isfinite(one).all())}


class Average:
    """Follows the floating point state of a module; whole numbers, such as counts of batches, and what is not finite
    are the module's own."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._decay = decay
        state, fixed = module.state_dict(keep_vars=True), unbounded(module)
        self._own = {name: one.detach() for name, one in state.items() if one.is_floating_point() and name not in fixed}
        self._kept = {name: one.clone() for name, one in self._own.items()}
        self._alike = list[tuple[list[Tensor], list[Tensor]]]()  # what can be taken at once: whole tensors, and parts
        for kind in {type(one) for one in self._own.values()}:
            names = [name for name, one in self._own.items() if type(one) is kind]
            self._alike.append(([self._kept[name] for name in names], [self._own[name] for name in names]))
        self._count = 0

    def follow(self) -> None:
        """To be called after each step; early on it follows faster, as there is little to average yet."""
        self._count += 1
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        with torch.no_grad():
            for kept, own in self._alike:
                torch._foreach_lerp_(kept, own, 1 - decay)

    @contextlib.contextmanager
    def swapped(self) -> Iterator[None]:
        """The average in the module's place."""
        mine = {name: one.clone() for name, one in self._own.items()}
        self._fill(self._kept)
        try:
            yield
        finally:
            self._fill(mine)

    def _fill(self, state: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in state.items():
                self._own[name].copy_(tensor)

    def state(self) -> tuple[dict[str, Tensor], int]:
        return dict(self._kept), self._count

    def load(self, kept: dict[str, Tensor], count: int) -> None:
        with torch.no_grad():
            for name, tensor in kept.items():
                self._kept[name].copy_(like(self._kept[name], tensor))
        self._count = count

"""Weights that were pruned to zero and stay zero: a module remembers the tensors' names, training restores them."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NAMES = "_rayopt_masked"


def mask(module: nn.Module, names: Iterable[str]) -> None:
    """Declares that what is zero in those parameters is to stay zero; adds to what was declared before."""
    known = dict(module.named_parameters(remove_duplicate=False))
    wanted = {*masked(module), *names}
    unknown = sorted(wanted - set(known))
    if unknown:
        raise ValueError(f"the model has no parameter {unknown[0]!r}")
    setattr(module, NAMES, tuple(name for name in known if name in wanted))


def masked(module: nn.Module) -> tuple[str, ...]:
    """The parameters whose zeros stay, in the module's order."""
    return tuple(getattr(module, NAMES, ()))


class Zeros:
    """Where a module's masked parameters are zero now."""

    def __init__(self, module: nn.Module) -> None:
        parameters = dict(module.named_parameters(remove_duplicate=False))
        self._zeros: list[tuple[Tensor, Tensor]] = [
            (parameters[name], parameters[name].detach() == 0) for name in masked(module)
        ]

    def restore(self) -> None:
        """Sets them to zero again: to be called after each step of an optimizer, whose momentum moves them."""
        with torch.no_grad():
            for parameter, zero in self._zeros:
                parameter.masked_fill_(zero, 0.0)

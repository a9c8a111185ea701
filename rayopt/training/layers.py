"""The outputs of layers inside a model, heard as it runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from rayopt.errors import StepError, did_you_mean


class Heard:
    """A hook that keeps what a layer gave under the layer's name, gradients and all."""

    def __init__(self, seen: dict[str, Tensor], name: str) -> None:
        self._seen, self._name = seen, name

    def __call__(self, layer: nn.Module, inputs: Any, output: Tensor) -> None:
        self._seen[self._name] = output.clone()  # the next layer may work in place


def layer_of(module: nn.Module, name: str) -> nn.Module:
    """A layer by its name; raises StepError that names those there are."""
    layers: dict[str, nn.Module] = {key: layer for key, layer in module.named_modules() if key}
    if name not in layers:
        raise StepError(f"the model has no layer {name!r}; {did_you_mean(name, list(layers))}")
    return layers[name]


@contextmanager
def heard(module: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """What the named layers gave in the model's last run, for as long as the context lasts; raises StepError."""
    seen: dict[str, Tensor] = {}
    hooks = [layer_of(module, name).register_forward_hook(Heard(seen, name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()

"""Unstructured pruning: the smallest weights become zero and stay zero (Han et al., 2015), also as N:M patterns."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from rayopt.compress.torch_weights import usable
from rayopt.errors import StepError
from rayopt.models.masks import mask


@dataclass(frozen=True)
class Rule:
    """Which weights become zero: the `share` of least magnitude, over all layers or in each; or by one of the others.

    threshold: those whose magnitude is below it. pattern: `n:m` keeps the n largest of every m along a layer's inputs
    (Mishra et al., 2021; 2:4 is what sparse tensor cores take); layers whose inputs are no multiple of m stay whole.
    """

    share: float = 0.5
    scope: Literal["global", "layer"] = "global"
    threshold: float | None = None
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.pattern is not None and self.threshold is not None:
            raise StepError("give either a threshold or a pattern, not both")
        if not 0 <= self.share <= 1:
            raise StepError(f"the share to prune lies between 0 and 1, got {self.share}")
        if self.pattern is not None:
            n_of_m(self.pattern)


def prune_weights(module: nn.Module, rule: Rule) -> dict[str, Any]:
    """Sets weights of `module` to zero in place and declares that they stay zero in training; tied ones stay tied.

    Weights of convolutions, linear, attention and recurrent layers only. Gives the achieved sparsity by layer and in
    all; raises StepError when there is nothing to prune, or for NaN and infinite weights.
    """
    layers = prunable(module)
    if not layers:
        raise StepError("no weights were pruned: the model has no convolution, linear or recurrent layer")
    sizes = {name: torch.from_numpy(usable(name, tensor)).abs() for name, (tensor, _) in layers.items()}
    if rule.pattern is not None:
        n, m = n_of_m(rule.pattern)
        fits = {name: axis for name, (tensor, axis) in layers.items() if tensor.shape[axis] % m == 0 and tensor.numel()}
        zeros = {name: _beyond_n_of_m(sizes[name], axis, n, m) for name, axis in fits.items()}
    elif rule.threshold is not None:
        zeros = {name: size < rule.threshold for name, size in sizes.items()}
    elif rule.scope == "layer":
        zeros = {name: _least(size.flatten(), rule.share).view(size.shape) for name, size in sizes.items()}
    else:
        least = _least(torch.cat([size.flatten() for size in sizes.values()]), rule.share)
        parts = torch.split(least, [size.numel() for size in sizes.values()])
        zeros = {name: part.view(sizes[name].shape) for name, part in zip(sizes, parts, strict=True)}
    touched = [name for name, zero in zeros.items() if bool(zero.any())]
    if not touched:
        raise StepError(f"no weights were pruned: {_why_none(rule, sizes)}")
    with torch.no_grad():
        for name in touched:
            tensor = layers[name][0]
            tensor.masked_fill_(zeros[name].to(tensor.device), 0.0)
    mask(module, touched)
    return _account({name: tensor for name, (tensor, _) in layers.items()})


def prunable(module: nn.Module) -> dict[str, tuple[Tensor, int]]:
    """Weights by parameter name, tied ones once, each with the axis of the layer's inputs."""
    found: dict[str, tuple[Tensor, int]] = {}
    seen: set[int] = set()
    for layer_name, layer in module.named_modules():
        for name, tensor in layer.named_parameters(recurse=False):
            if id(tensor) in seen or not tensor.is_floating_point() or not _is_weight(layer, name, tensor):
                continue
            seen.add(id(tensor))
            axis = 0 if isinstance(layer, _ConvTransposeNd) else 1
            found[f"{layer_name}.{name}" if layer_name else name] = (tensor, axis)
    return found


def n_of_m(pattern: str) -> tuple[int, int]:
    """The two numbers of `2:4`; raises StepError for what is none."""
    match = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", pattern)
    if match is None or int(match[1]) >= int(match[2]):
        raise StepError(f"a pattern is n:m with n below m, such as 2:4, got {pattern!r}")
    return int(match[1]), int(match[2])


def _is_weight(layer: nn.Module, name: str, tensor: Tensor) -> bool:
    kinds = (_ConvNd, nn.Linear, nn.Bilinear, nn.RNNBase, nn.RNNCellBase, nn.MultiheadAttention)
    return isinstance(layer, kinds) and "weight" in name and tensor.ndim >= 2


def _least(sizes: Tensor, share: float) -> Tensor:
    """Which of `(n,)` magnitudes are the least, exactly `share` of them; of equal ones the first."""
    chosen = torch.zeros(len(sizes), dtype=torch.bool)
    chosen[sizes.argsort(stable=True)[: round(share * len(sizes))]] = True
    return chosen


def _beyond_n_of_m(size: Tensor, axis: int, n: int, m: int) -> Tensor:
    """Which weights are not among the n largest of their m neighbours along `axis`."""
    last = size.movedim(axis, -1)
    groups = last.reshape(*last.shape[:-1], -1, m)
    order = groups.argsort(dim=-1, descending=True, stable=True)
    beyond = torch.ones_like(groups, dtype=torch.bool).scatter_(-1, order[..., :n], False)
    return beyond.reshape(last.shape).movedim(-1, axis)


def _account(layers: dict[str, Tensor]) -> dict[str, Any]:
    counts = {name: (int((tensor == 0).sum()), tensor.numel()) for name, tensor in layers.items()}
    zeros, total = (sum(pair[index] for pair in counts.values()) for index in (0, 1))
    return {
        "sparsity": zeros / total,
        "sparsity_by_layer": {name: zero / max(1, count) for name, (zero, count) in counts.items()},
        "unpruned": [name for name, (zero, _) in counts.items() if not zero],
        "emptied": [name for name, (zero, count) in counts.items() if count and zero == count],
        "weights_count": total,
    }


def _why_none(rule: Rule, sizes: dict[str, Tensor]) -> str:
    if rule.pattern is not None:
        return f"no layer has a multiple of {n_of_m(rule.pattern)[1]} inputs"
    if rule.threshold is not None:
        least = min((float(size.min()) for size in sizes.values() if size.numel()), default=0.0)
        return f"none is below {rule.threshold:g} (the least is {least:.3g})"
    return f"{rule.share:g} of {sum(size.numel() for size in sizes.values())} weights is none"

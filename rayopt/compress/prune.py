"""Structured pruning: whole channels leave, with everything that depends on them (Fang et al., 2023, DepGraph)."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rayopt.errors import StepError


def prune_channels(
    module: nn.Module, example: Tensor, keep: float, widths: Mapping[str, int], round_to: int, outputs: int
) -> dict[str, Any]:
    """Prunes `module` in place to `keep` of its channels, or the layers of `widths` to what is given for each.

    The layers with the least L2 norm over their dependency group go first. Widths are multiples of `round_to` where a
    layer has that many. Gives the achieved widths, parameters and multiply-accumulates; raises StepError when nothing
    was pruned or the model cannot be traced.
    """
    import torch_pruning

    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _ConvNd | nn.Linear)}
    ratios = {layers[name]: 1 - width / _width(layers[name]) for name, width in _matched(widths, layers).items()}
    with torch.no_grad():
        last, shape = _last_called(module, layers.values(), example), module(example).shape
    heads = [layer for layer in layers.values() if isinstance(layer, nn.Linear) and layer.out_features == outputs]
    ignored = [*heads, *last, *(layer for layer in layers.values() if widths and layer not in ratios)]
    before = _account(torch_pruning, module, example)
    old = {name: _width(layer) for name, layer in layers.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of every parameter that it does not know
            pruner = torch_pruning.pruner.MagnitudePruner(
                module, example, importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=0.0 if widths else 1 - keep, pruning_ratio_dict=ratios, ignored_layers=ignored,
                round_to=round_to,
            )  # fmt: skip
            pruner.step()
            with torch.no_grad():
                after_shape = module(example).shape
    except Exception as error:
        raise StepError(cannot_be_pruned(module, error)) from error
    if after_shape != shape:
        raise StepError(f"pruning would change the outputs from {tuple(shape)} to {tuple(after_shape)}")
    achieved = {name: _width(layer) for name, layer in layers.items()}
    if achieved == old:
        hard = describe_layers(module)
        reason = f"rounding to multiples of {round_to} leaves every width as it is"
        raise StepError(f"no layer was pruned: {reason}" + (f"; {hard}" if hard else ""))
    after = _account(torch_pruning, module, example)
    return {
        "widths": {name: [old[name], achieved[name]] for name in layers if old[name] != achieved[name]},
        "unpruned": [name for name in layers if old[name] == achieved[name]],
        "macs_share": after[0] / before[0],
        "parameters_before": before[1],
        "parameters_after": after[1],
    }


def cannot_be_pruned(module: nn.Module, error: Exception) -> str:
    """Why pruning failed, for people: the kinds of layers that resist it, then what the library said."""
    reasons = [describe_layers(module), f"{type(error).__name__}: {error}".splitlines()[0]]
    return "the model cannot be pruned: " + "; ".join(reason for reason in reasons if reason)


def describe_layers(module: nn.Module) -> str:
    """The kinds of layers that are known to resist pruning, or nothing."""
    hard = (nn.RNNBase, nn.MultiheadAttention, nn.PixelShuffle, nn.Fold, nn.Unfold)
    found = sorted({type(layer).__name__ for layer in module.modules() if isinstance(layer, hard)})
    return f"it has layers that resist: {', '.join(found)}" if found else ""


def _last_called(module: nn.Module, layers: Iterable[nn.Module], example: Tensor) -> list[nn.Module]:
    """The layer that runs last: it makes the outputs, whose number must stay."""
    called: list[nn.Module] = []
    hooks = [layer.register_forward_hook(lambda one, _, __: called.append(one)) for layer in layers]
    try:
        module(example)
    finally:
        for hook in hooks:
            hook.remove()
    return called[-1:]


def _matched(widths: Mapping[str, int], layers: Mapping[str, nn.Module]) -> dict[str, int]:
    """Widths by layer name; names may be patterns such as `blocks.*.first.0`."""
    found: dict[str, int] = {}
    for pattern, width in widths.items():
        names = [name for name in layers if fnmatch.fnmatchcase(name, pattern)]
        if not names:
            raise StepError(f"no layer is named {pattern!r}; layers: {', '.join(list(layers)[:12])}")
        for name in names:
            if width > _width(layers[name]):
                raise StepError(f"layer {name} has {_width(layers[name])} channels and cannot be pruned to {width}")
            found[name] = width
    return found


def _width(layer: nn.Module) -> int:
    return int(layer.out_channels if isinstance(layer, _ConvNd) else layer.out_features)  # type: ignore[arg-type]


def _account(torch_pruning: Any, module: nn.Module, example: Tensor) -> tuple[float, int]:
    macs, parameters = torch_pruning.utils.count_ops_and_params(module, example[:1])
    return float(macs), int(parameters)

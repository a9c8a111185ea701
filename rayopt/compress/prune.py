"""Structured pruning: whole channels leave, with everything that depends on them (Fang et al., 2023, DepGraph)."""

from __future__ import annotations

import fnmatch
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from rayopt.errors import StepError

HARD = (nn.RNNBase, nn.MultiheadAttention, nn.PixelShuffle, nn.PixelUnshuffle, nn.Fold, nn.Unfold, nn.Unflatten)


def prune_channels(
    module: nn.Module, example: Tensor, keep: float, widths: Mapping[str, int], round_to: int
) -> dict[str, Any]:
    """Prunes `module` in place to `keep` of its channels, or the layers of `widths` to what is given for each.

    The channels with the least L2 norm over their dependency group go first. Widths are multiples of `round_to` where a
    layer has that many; the outputs keep their shape. Gives the achieved widths, parameters and multiply-accumulates,
    and the layers that stay whole, with those among them that only the rounding left so; raises StepError when nothing
    was pruned or the model cannot be traced.
    """
    import torch_pruning

    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, _ConvNd | nn.Linear)}
    wanted: dict[nn.Module, int] = {layers[name]: width for name, width in _matched(widths, layers).items()}
    old = {name: _width(layer) for name, layer in layers.items()}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the library warns of every parameter that it does not know
            before = _account(torch_pruning, module, example)
            shape, last = _run(module, layers.values(), example)
            graph = torch_pruning.DependencyGraph().build_dependency(module, example, verbose=False)
            stuck: list[nn.Module] = []
            chosen = list(_chosen(torch_pruning, graph, last, keep, wanted, round_to, stuck))
            for root, handler, channels in chosen:
                group = graph.get_pruning_group(root, handler, channels)
                if graph.check_pruning_group(group):  # every layer of it keeps some channels
                    group.prune()
            after_shape, _ = _run(module, layers.values(), example)
    except Exception as error:
        raise StepError(cannot_be_pruned(module, error)) from error
    if after_shape != shape:
        raise StepError(f"pruning would change the outputs from {tuple(shape)} to {tuple(after_shape)}")
    achieved = {name: _width(layer) for name, layer in layers.items()}
    if achieved == old:
        raise StepError(f"no layer was pruned: {_why_none(module, len(layers), len(chosen), round_to)}")
    after = _account(torch_pruning, module, example)
    return {
        "widths": {name: [old[name], achieved[name]] for name in layers if old[name] != achieved[name]},
        "unpruned": [name for name in layers if old[name] == achieved[name]],
        "unpruned_by_rounding": [name for name, layer in layers.items() if layer in stuck],
        "macs_share": after[0] / before[0],
        "parameters_before": before[1],
        "parameters_after": after[1],
    }


def cannot_be_pruned(module: nn.Module, error: Exception) -> str:
    """Why pruning failed, for people: the kinds of layers that resist it, then what the library said."""
    return f"the model cannot be pruned: {_resisting(module)}; {type(error).__name__}: {error}".splitlines()[0]


def _chosen(
    torch_pruning: Any,
    graph: Any,
    last: nn.Module | None,
    keep: float,
    wanted: Mapping[nn.Module, int],
    round_to: int,
    stuck: list[nn.Module],
) -> Iterator[tuple[nn.Module, Any, list[int]]]:
    """The channels to prune by the first layer of their group, with the library's handle; all as weighed beforehand.

    Layers that would lose some but for `round_to` are added to `stuck`.
    """
    importance = torch_pruning.importance.GroupMagnitudeImportance(p=2)
    for group in graph.get_all_groups(root_module_types=[_ConvNd, nn.Linear]):
        makers = [dep.target.module for dep, _ in group if graph.is_out_channel_pruning_fn(dep.handler)]
        if last in makers or any(dep.target.type == torch_pruning.ops.OPTYPE.OUTPUT for dep, _ in group):
            continue  # these are the outputs
        given = [wanted[layer] for layer in makers if layer in wanted]
        if wanted and not given:
            continue
        root, handler = group[0].dep.target.module, group[0].dep.handler
        parts = _parts(graph, group)
        target = min(given) if given else _width(root) * keep
        width = _rounded(target, round_to, parts)
        if not 0 < width < _width(root) and 0 < _rounded(target, 1, parts) < _width(root):
            stuck += makers
        if 0 < width < _width(root) and _width(root) % parts == 0:
            # (parts, channels of one): each part loses the same ones
            order = importance(group).view(parts, -1).mean(dim=0).argsort()
            lost = order[: (_width(root) - width) // parts]
            channels = (torch.arange(parts)[:, None] * len(order) + lost).flatten()
            yield root, handler, sorted(channels.tolist())


def _parts(graph: Any, group: Any) -> int:
    """Into how many equal parts a group's channels are divided: by grouped convolutions and GroupNorm."""
    counts = [1]
    for dep, _ in group:
        layer = dep.target.module
        if isinstance(layer, _ConvNd) and layer.groups != layer.out_channels:  # depthwise ones lose groups instead
            counts.append(layer.groups)
        elif isinstance(layer, nn.GroupNorm):
            counts.append(layer.num_groups)
        elif isinstance(layer, nn.MultiheadAttention):
            counts.append(layer.num_heads)
    return math.lcm(*counts)


def _rounded(width: float, round_to: int, parts: int) -> int:
    """The largest multiple of both that is not above `width`, but one of them at least: a layer is not left whole."""
    step = math.lcm(round_to, parts)
    return max(step, int(width + 1e-9) // step * step)


def _run(module: nn.Module, layers: Iterable[nn.Module], example: Tensor) -> tuple[torch.Size, nn.Module | None]:
    """The shape of the outputs, and the layer that runs last: it makes them."""
    called: list[nn.Module] = []
    hooks = [layer.register_forward_hook(lambda one, _, __: called.append(one)) for layer in layers]
    try:
        with torch.no_grad():
            shape = module(example).shape
    finally:
        for hook in hooks:
            hook.remove()
    return shape, called[-1] if called else None


def _why_none(module: nn.Module, layers_count: int, chosen_count: int, round_to: int) -> str:
    if layers_count < 2:
        return "it has no convolution or linear layer besides the one that makes the outputs"
    if chosen_count:
        return f"what depends on its layers cannot lose as many channels; {_resisting(module)}"
    return f"rounding to multiples of {round_to} leaves every width as it is"


def _resisting(module: nn.Module) -> str:
    """The kinds of layers that are known to resist pruning, or what else it may be."""
    found = sorted({type(layer).__name__ for layer in module.modules() if isinstance(layer, HARD)})
    return f"it has layers that resist: {', '.join(found)}" if found else "a shape in its code may be fixed"


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

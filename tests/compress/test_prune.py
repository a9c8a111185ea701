"""Structured pruning: widths are rounded and told, and what rounding leaves whole is named."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from rayopt.compress.prune import prune_channels
from rayopt.errors import StepError

X = torch.randn(2, 12, generator=torch.Generator().manual_seed(0))


def network(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in zip((12, *widths), (*widths, 3), strict=True):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@pytest.mark.parametrize(("keep", "width"), [(0.7, 40), (0.5, 32), (0.3, 16), (0.1, 8), (0.01, 8)])
def test_widths_are_multiples_and_never_none(keep: float, width: int) -> None:
    module = network(64)
    notes = prune_channels(module, X, keep, {}, 8)
    assert module[0].out_features == module[2].in_features == width
    assert notes["widths"] == {"0": [64, width]}
    assert notes["parameters_after"] == sum(one.numel() for one in module.parameters())
    assert notes["macs_share"] == pytest.approx(width / 64, rel=0.05)
    assert module(X).shape == (2, 3)


def test_a_layer_that_rounding_leaves_whole_is_named() -> None:
    module = network(8, 64)
    notes = prune_channels(module, X, 0.5, {}, 8)
    assert notes["widths"] == {"2": [64, 32]}
    assert notes["unpruned_by_rounding"] == ["0"]
    assert notes["unpruned"] == ["0", "4"]  # the last one makes the outputs


def test_a_network_that_rounding_leaves_whole_is_no_result() -> None:
    with pytest.raises(StepError, match="rounding to multiples of 8 leaves every width as it is"):
        prune_channels(network(8), X, 0.5, {}, 8)


def test_the_channels_of_least_norm_go() -> None:
    module = network(16)
    with torch.no_grad():
        module[0].weight[3:11] *= 1e-6
        module[0].bias[3:11] = 0
        module[2].weight[:, 3:11] *= 1e-6
    kept = torch.cat([module[0].weight[:3], module[0].weight[11:]])
    before = module(X)
    prune_channels(module, X, 0.5, {}, 8)
    assert torch.equal(module[0].weight, kept)
    torch.testing.assert_close(module(X), before, atol=1e-4, rtol=0)

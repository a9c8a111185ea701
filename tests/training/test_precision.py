"""Layouts in memory: what is laid out how, and what must not be."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from rayopt.models.zoo import resnet
from rayopt.training.precision import Numerics


def seen_by(module: nn.Module, x: Tensor) -> dict[nn.Conv2d, Tensor]:
    """What each convolution computes with."""
    found: dict[nn.Conv2d, Tensor] = {}
    for one in module.modules():
        if isinstance(one, nn.Conv2d):
            one.register_forward_hook(lambda conv, inputs, _: found.__setitem__(conv, inputs[0]))
    module(x)
    return found


def is_last(x: Tensor) -> bool:
    return x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()


@pytest.mark.parametrize("times", [1, 2])
def test_strided_convolutions_of_few_channels_stay_as_they_were(times: int) -> None:
    """oneDNN writes beyond its memory in their weights' gradient: training crashed, in every other run."""
    numerics, x = Numerics("fp32", "channels_last"), torch.randn(3, 3, 8, 10)
    model = resnet(3, 2, [8, 16, 24])
    plain = copy.deepcopy(model)
    for _ in range(times):
        numerics.lay_out(model)
    seen = seen_by(model, numerics.laid_out(x))
    strided = [conv for conv in seen if conv.kernel_size == (1, 1)]
    assert [conv.in_channels for conv in strided] == [8, 16]
    assert [is_last(seen[conv]) for conv in strided] == [False, True]
    assert all(is_last(found) for conv, found in seen.items() if conv not in strided)
    assert len(strided[0]._forward_pre_hooks) == 1
    torch.testing.assert_close(model(numerics.laid_out(x)), plain(x))

"""Weights of torch models: which are touched, how small the file is, and that it comes back exactly."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import pytest
import torch
from torch import nn

from rayopt.compress.torch_weights import pack, quantize_weights, unpack
from rayopt.compress.weights import Plan
from rayopt.errors import InputError, StepError
from rayopt.models.zoo import resnet

ALL = {"min_size": 1}


class Tied(nn.Module):
    """Words in, words out, by the same matrix; and tensors of all other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Embedding(40, 16), nn.Linear(16, 40)
        self.out.weight = self.embed.weight
        self.norm, self.lstm, self.up = nn.BatchNorm1d(16), nn.LSTM(16, 8), nn.ConvTranspose1d(4, 6, 3)
        self.scalar = nn.Parameter(torch.tensor(1.5))
        self.register_buffer("table", torch.arange(12).view(3, 4))
        self.register_buffer("seen", torch.tensor([[True, False]]))


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return set(left) == set(right) and all(
        left[name].dtype == right[name].dtype and torch.equal(left[name], right[name]) for name in left
    )


@pytest.mark.parametrize("bits", [2, 3, 5, 8, 11, 16])
@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_file_has_the_bits_and_comes_back_exactly(bits: int, per_channel: bool, symmetric: bool) -> None:
    module = resnet(widths=(16, 16, 32))
    count = sum(p.numel() for p in module.parameters() if p.ndim > 1)
    rest = sum(t.numel() * t.element_size() for t in module.state_dict().values() if t.ndim < 2)
    codes = quantize_weights(module, Plan(bits, per_channel, symmetric, **ALL))
    content = pack(module, codes)
    assert same(unpack(content), module.state_dict())
    assert pack(module, codes) == content
    scales = sum(one.scale.size * (4 if symmetric else 6) for one in codes.values())
    assert count * bits / 8 < len(content) < count * bits / 8 + rest + scales + 13_000  # the header names every tensor
    for name in codes:
        tensor = module.get_parameter(name).detach()
        assert all(len(row.unique()) <= 2**bits for row in (tensor if per_channel else [tensor]))


def test_bytes_fall_with_the_bits() -> None:
    sizes = []
    for bits in range(2, 17):
        module = resnet(widths=(16, 32, 32))
        sizes.append(len(pack(module, quantize_weights(module, Plan(bits)))))
    assert sizes == sorted(sizes)
    count = sum(p.numel() for p in resnet(widths=(16, 32, 32)).parameters() if p.ndim > 1)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert all(abs(step - count / 8) < 600 for step in steps)


def test_weights_alone_are_touched_and_tied_ones_stay_tied() -> None:
    module = Tied()
    before = copy.deepcopy(module.state_dict())
    codes = quantize_weights(module, Plan(3, **ALL))
    assert set(codes) == {"embed.weight", "lstm.weight_ih_l0", "lstm.weight_hh_l0", "up.weight"}
    changed = {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed == {*codes, "out.weight"}
    assert module.out.weight is module.embed.weight
    assert codes["up.weight"].scale.shape == (1, 6, 1)  # a transposed convolution's outputs come second
    content = pack(module, codes)
    assert same(unpack(content), module.state_dict())
    assert content.count(b"out.weight") == 1  # as tied to the other, not as a tensor


def test_a_state_dict_is_quantised_as_well() -> None:
    state = {name: tensor.clone() for name, tensor in Tied().state_dict().items()}
    state["out.weight"] = state["embed.weight"]
    codes = quantize_weights(state, Plan(4, **ALL))
    assert "table" not in codes
    assert "out.weight" not in codes
    assert same(unpack(pack(state, codes)), state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floating_types_keep_their_type(dtype: torch.dtype) -> None:
    module = nn.Linear(30, 20).to(dtype)
    before = module.weight.detach().clone()
    codes = quantize_weights(module, Plan(8, **ALL))
    assert module.weight.dtype == dtype
    assert (module.weight - before).abs().max() < 0.01 * before.abs().max()
    assert same(unpack(pack(module, codes)), module.state_dict())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_weight_is_named_and_nothing_is_changed(value: float) -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    with torch.no_grad():
        module[1].weight[0, 0] = value
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(StepError, match=r"1\.weight has 1 NaN or infinite weights of 64"):
        quantize_weights(module, Plan(8, **ALL))
    assert torch.equal(module[0].weight, before["0.weight"])


def test_zero_and_empty_tensors_stay_what_they_are() -> None:
    module = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 4))
    nn.init.zeros_(module[0].weight)
    module[1].empty = nn.Parameter(torch.zeros(0, 8))
    codes = quantize_weights(module, Plan(2, **ALL))
    assert not module[0].weight.any()
    assert "1.empty" not in codes
    assert same(unpack(pack(module, codes)), module.state_dict())


@pytest.mark.parametrize(
    ("module", "says"),
    [
        (nn.Sequential(nn.ReLU()), "no weights of floating type"),
        (nn.BatchNorm1d(4), "no weights of floating type"),
        (nn.Linear(4, 4), "the largest of 1 has 16"),
        (nn.Linear(4, 4, device="meta"), "weight lies on the `meta` device"),
    ],
)
def test_nothing_to_quantise_is_told(module: nn.Module, says: str) -> None:
    with pytest.raises(StepError, match=says):
        quantize_weights(module, Plan(8))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_module_on_a_gpu_stays_there() -> None:
    module = nn.Linear(64, 64).cuda()
    codes = quantize_weights(module, Plan(4))
    assert module.weight.is_cuda
    assert torch.equal(unpack(pack(module, codes))["weight"], module.weight.cpu())


def test_the_mode_of_the_module_stays() -> None:
    module = resnet(widths=(8, 8, 8)).train()
    module.blocks[0].eval()
    before = {name: layer.training for name, layer in module.named_modules()}
    quantize_weights(module, Plan(8))
    assert {name: layer.training for name, layer in module.named_modules()} == before


def test_weights_that_changed_later_are_not_saved_as_they_were() -> None:
    module = nn.Linear(32, 32)
    codes = quantize_weights(module, Plan(4))
    with torch.no_grad():
        module.weight[0, 0] += 1
    with pytest.raises(StepError, match="weight has changed since it was quantised"):
        pack(module, codes)


@pytest.mark.parametrize(
    "spoil", [lambda c: c[:-9], lambda c: b"", lambda c: c[:8] + b"x" + c[9:], lambda c: b"\xff" * 64]
)
def test_a_spoilt_file_is_refused(spoil: Any) -> None:
    module = nn.Linear(32, 32)
    content = pack(module, quantize_weights(module, Plan(4)))
    with pytest.raises(InputError, match="is no whole file of packed weights"):
        unpack(spoil(content))

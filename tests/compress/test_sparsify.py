"""Which weights become zero, exactly; and that they stay zero while the model learns."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from rayopt.compress.sparsify import Rule, prunable, prune_weights
from rayopt.data.dataset import build as build_data
from rayopt.data.settings import SplitSettings
from rayopt.errors import StepError
from rayopt.models.masks import masked
from rayopt.models.settings import ModelSettings, ModelSource
from rayopt.models.torch_model import build, from_artifact, to_artifact
from rayopt.models.zoo import resnet
from rayopt.spec import Document
from rayopt.training.fit import fit
from rayopt.training.losses import task_loss
from rayopt.training.settings import FitSettings
from rayopt.tree import Chain, TreeReader
from rayopt.work import Bench, run_step


class Mixed(nn.Module):
    """Layers of all prunable kinds, tied ones, and tensors that are to be left alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.up = nn.Conv2d(8, 12, 3), nn.ConvTranspose1d(12, 6, 3)
        self.first, self.second = nn.Linear(8, 8), nn.Linear(8, 8)
        self.second.weight = self.first.weight
        self.gru, self.embed, self.norm = nn.GRU(8, 5), nn.Embedding(9, 8), nn.BatchNorm2d(12)
        self.attention = nn.MultiheadAttention(8, 2)


def zeros(module: nn.Module) -> dict[str, float]:
    return {name: float((tensor == 0).double().mean()) for name, (tensor, _) in prunable(module).items()}


def test_the_least_weights_of_all_layers_leave_and_exactly_so_many() -> None:
    module = resnet(widths=(8, 8, 16))
    before = {name: tensor.detach().clone() for name, (tensor, _) in prunable(module).items()}
    notes = prune_weights(module, Rule(share=0.7))
    count = sum(tensor.numel() for tensor in before.values())
    assert notes["weights_count"] == count
    assert notes["sparsity"] == round(0.7 * count) / count
    assert notes["sparsity_by_layer"] == zeros(module)
    gone = torch.cat([before[name][tensor == 0].abs() for name, (tensor, _) in prunable(module).items()])
    stay = torch.cat([before[name][tensor != 0].abs() for name, (tensor, _) in prunable(module).items()])
    assert gone.max() <= stay.min()
    assert len(set(notes["sparsity_by_layer"].values())) > 3


def test_a_share_of_each_layer_is_the_same_in_all() -> None:
    module = Mixed()
    notes = prune_weights(module, Rule(share=0.25, scope="layer"))
    assert set(notes["sparsity_by_layer"]) == {
        "conv.weight", "up.weight", "first.weight", "gru.weight_ih_l0", "gru.weight_hh_l0", "attention.in_proj_weight",
        "attention.out_proj.weight",
    }  # fmt: skip
    assert all(value == pytest.approx(0.25, abs=0.01) for value in zeros(module).values())
    assert module.second.weight is module.first.weight
    assert module.embed.weight.all()
    assert module.norm.weight.all()
    assert module.first.bias.all()


def test_a_threshold_takes_what_is_below_it() -> None:
    module = nn.Linear(4, 1)
    with torch.no_grad():
        module.weight.copy_(torch.tensor([[0.5, -0.01, 0.02, -3]]))
    prune_weights(module, Rule(threshold=0.02))
    assert module.weight.tolist() == [[0.5, 0, pytest.approx(0.02), -3]]


@pytest.mark.parametrize(("pattern", "n", "m"), [("2:4", 2, 4), ("1:2", 1, 2), ("1:4", 1, 4)])
def test_n_of_every_m_inputs_stay_and_they_are_the_largest(pattern: str, n: int, m: int) -> None:
    module = Mixed()
    before = copy.deepcopy(module)
    notes = prune_weights(module, Rule(pattern=pattern))
    old = {name: tensor for name, (tensor, _) in prunable(before).items()}
    for name, (tensor, axis) in prunable(module).items():
        if name in notes["unpruned"]:
            assert torch.equal(tensor, old[name])
            continue
        for now, was in zip(tensor.split(m, axis), old[name].split(m, axis), strict=True):
            assert ((now != 0).sum(dim=axis) == n).all()
            assert (now.abs().sum(dim=axis) == was.abs().topk(n, axis).values.sum(dim=axis)).float().mean() > 0.99
    assert notes["unpruned"] == (["gru.weight_hh_l0"])  # it has five inputs
    assert notes["sparsity_by_layer"]["up.weight"] == 1 - n / m


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_equal_weights_are_pruned_in_their_share(scope: str) -> None:
    module = nn.Linear(10, 10)
    nn.init.ones_(module.weight)
    assert prune_weights(module, Rule(0.3, scope))["sparsity"] == 0.3  # type: ignore[arg-type]


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_pruned_weights_are_zero_after_every_kind_of_step(momentum: float) -> None:
    module = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 3))
    x, y = torch.randn(64, 8), torch.randint(0, 3, (64,))
    settings = FitSettings(epochs=2, batch_size=16, lr=0.1, momentum=momentum, weight_decay=0.01)

    def loss(outputs: torch.Tensor, targets: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        return task_loss(outputs, targets)

    fit(module, x, y, loss, settings, 0)  # not masked: nothing is kept at zero
    prune_weights(module, Rule(0.6))
    gone = {name: tensor == 0 for name, (tensor, _) in prunable(module).items()}
    before = copy.deepcopy(module)
    fit(copy.deepcopy(module), x, y, loss, settings, 0)
    fit(module, x, y, loss, settings, 0)
    for name, (tensor, _) in prunable(module).items():
        assert not tensor[gone[name]].any()
        assert (tensor[~gone[name]] != before.get_parameter(name)[~gone[name]]).all()


def step(name: str, **params: object):  # type: ignore[no-untyped-def]
    return TreeReader(Document({}, "job", None)).extend(Chain(), name, params, ()).steps[0]  # type: ignore[arg-type]


def test_zeros_stay_through_the_steps_of_a_job() -> None:
    x = np.random.default_rng(0).random((60, 1, 8, 8)).astype(np.float32)
    data = build_data("rows", x, np.arange(60) % 3, "classification", SplitSettings(), 0, "data")
    source = ModelSource(
        ModelSettings(factory="rayopt.models.zoo:resnet", args={"classes": 3, "widths": [16, 16, 16]}), "."
    )
    original = to_artifact(build(source, 0))
    bench = Bench(data, source, "accuracy", 0)
    model = run_step(step("prune_weights", share=0.6), original, original, bench).artifact
    names = masked(from_artifact(model, source, 0))
    assert names
    before = zeros(from_artifact(model, source, 0))
    for name in ("recover", "train"):
        model = run_step(step(name, epochs=1), model, original, bench).artifact
        module = from_artifact(model, source, 0)
        assert masked(module) == names
        assert zeros(module) == before
    narrow = run_step(step("prune_channels", keep=0.5), model, original, bench).artifact
    sparse = zeros(from_artifact(narrow, source, 0))
    trained = run_step(step("recover", epochs=1), narrow, original, bench).artifact
    assert zeros(from_artifact(trained, source, 0)) == sparse
    assert max(sparse.values()) > 0.3


def test_a_model_without_pruning_is_saved_as_before() -> None:
    assert b"masked" not in to_artifact(resnet(widths=(8, 8, 8))).files["model.json"]


@pytest.mark.parametrize(
    ("module", "rule", "says"),
    [
        (nn.Sequential(nn.ReLU()), Rule(), "the model has no convolution, linear or recurrent layer"),
        (nn.Linear(4, 4, device="meta"), Rule(), "weight lies on the `meta` device"),
        (nn.Linear(3, 4), Rule(pattern="2:4"), "no layer has a multiple of 4 inputs"),
        (nn.Linear(4, 4), Rule(threshold=1e-12), "none is below 1e-12"),
        (nn.Linear(4, 4), Rule(share=0.001), "0.001 of 16 weights is none"),
    ],
)
def test_pruning_that_does_nothing_says_why(module: nn.Module, rule: Rule, says: str) -> None:
    with pytest.raises(StepError, match=says):
        prune_weights(module, rule)


@pytest.mark.parametrize(
    "wrong", [{"pattern": "4:4"}, {"pattern": "x"}, {"pattern": "2:4", "threshold": 1.0}, {"share": 2}]
)
def test_a_rule_that_means_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(StepError):
        Rule(**wrong)  # type: ignore[arg-type]


def test_a_broken_weight_is_named() -> None:
    module = nn.Linear(4, 4)
    with torch.no_grad():
        module.weight[0, 0] = float("nan")
    with pytest.raises(StepError, match="weight has 1 NaN or infinite weights"):
        prune_weights(module, Rule())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_and_training_mode_stay(dtype: torch.dtype) -> None:
    module = nn.Linear(8, 8).to(dtype).train()
    prune_weights(module, Rule(0.5))
    assert module.weight.dtype == dtype
    assert module.training
    assert (module.weight == 0).sum() == 32

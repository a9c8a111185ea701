"""What makes a learner parallel, in a group of this one process; `tests/onray` has groups of several."""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from rayopt.training.engine import Means, StepEngine
from rayopt.training.learner import Learner, TaskObjective
from rayopt.training.parallel import fully_sharded, has_unused, replicated
from rayopt.training.precision import PLAIN
from rayopt.training.settings import TrainSettings
from rayopt.training.sharded import whole

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
ROWS = torch.arange(12)


class Listed(nn.Module):
    """Blocks in a list, a head in a dict of lists, and a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([nn.Linear(4, 4), nn.Linear(4, 4)])
        self.heads = nn.ModuleDict({"only": nn.ModuleList([nn.Linear(4, 2)])})
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = torch.relu(block(x)) * self.scale
        return self.heads["only"][0](x)  # type: ignore[index]


class Idle(nn.Module):
    """Has a layer that it never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(4, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.used(x)


@pytest.fixture(scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    store = dist.FileStore(str(tmp_path_factory.mktemp("group") / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize("make", [Listed, lambda: nn.Linear(4, 2), lambda: nn.Sequential(nn.Linear(4, 2))])
def test_any_model_is_split_trained_and_evaluated(make: type[nn.Module]) -> None:
    torch.manual_seed(0)
    model = make()
    plain = copy.deepcopy(model)
    found = []
    for one, wrap in ((plain, lambda learner: learner), (model, fully_sharded)):
        settings = TrainSettings(ema=0.9, clip_norm=1.0)
        engine = StepEngine(one, TaskObjective(), settings, 3, Means(PLAIN, torch.device("cpu"), wrap))
        for _ in range(3):
            engine.step([(X, Y, ROWS, 1.0)])
            with engine.evaluating() as module:
                outputs = module(X)
        state = whole(engine.state()["module"])
        found.append([whole(outputs), *state.values()])
    assert engine.is_sharded
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-5)


def test_parameters_without_a_gradient_are_seen() -> None:
    assert has_unused(Learner(Idle(), TaskObjective()), X, Y, ROWS)
    learner = Learner(Listed(), TaskObjective())
    assert not has_unused(learner, X, Y, ROWS)
    assert all(one.grad is None for one in learner.parameters())


@pytest.mark.usefixtures("_group")
def test_a_model_with_parameters_that_are_not_used_takes_more_than_one_step() -> None:
    learner = Learner(Idle(), TaskObjective())
    learner.has_unused = has_unused(learner, X, Y, ROWS)
    parallel = replicated(learner, torch.device("cpu"))
    for _ in range(3):
        torch.autograd.backward(parallel(X, Y, ROWS))


@pytest.mark.usefixtures("_group")
def test_gradients_are_exchanged_with_the_last_part_of_a_step_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    exchanged: list[bool] = []
    settings = TrainSettings(optimizer={"lr": 0.1})
    means = Means(PLAIN, torch.device("cpu"), lambda learner: replicated(learner, torch.device("cpu")))
    torch.manual_seed(0)
    engine = StepEngine(nn.Linear(4, 2), TaskObjective(), settings, 3, means)
    backward = engine._backward

    def heard(*part):  # type: ignore[no-untyped-def]
        exchanged.append(bool(engine._wrapped.require_backward_grad_sync))
        return backward(*part)

    monkeypatch.setattr(engine, "_backward", heard)
    engine.step([(X[:4], Y[:4], ROWS[:4], 1 / 3), (X[4:8], Y[4:8], ROWS[4:8], 1 / 3), (X[8:], Y[8:], ROWS[8:], 1 / 3)])
    assert exchanged == [False, False, True]

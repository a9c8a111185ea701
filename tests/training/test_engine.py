"""The step engine beside what torch and the papers say of each of its parts."""

from __future__ import annotations

import copy
import math
import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rayopt.training import order, precision
from rayopt.training.agree import Seeding, has_own
from rayopt.training.engine import Means, StepEngine
from rayopt.training.learner import TaskObjective
from rayopt.training.optimizers import lr_factor
from rayopt.training.precision import PLAIN, Numerics, probe
from rayopt.training.settings import ScheduleSettings, TrainSettings
from rayopt.training.source import Arrays

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
ROWS = torch.arange(12)
WHOLE = (X, Y, ROWS, 1.0)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU()) for _ in range(3)]
    return nn.Sequential(*blocks, nn.Linear(4, 2))


def engine_of(module: nn.Module, numerics: Numerics = PLAIN, steps: int = 10, **settings: object) -> StepEngine:
    return StepEngine(module, TaskObjective(), TrainSettings.model_validate(settings), steps, Means(numerics))


def gradient(module: nn.Module) -> Tensor:
    return torch.cat([one.grad.flatten() for one in module.parameters() if one.grad is not None])


def test_a_step_that_overflows_moves_neither_schedule_nor_average_nor_weights() -> None:
    engine = engine_of(network(), Numerics("fp16", "contiguous"), ema=0.9)
    engine.step([WHOLE])
    assert engine.average is not None
    assert engine.scaler is not None
    before = copy.deepcopy([engine.lr, *engine.average.state()[0].values(), *engine.module.parameters()])
    count = engine.average.state()[1]
    hook = next(engine.module.parameters()).register_hook(lambda grad: grad * math.inf)
    engine.step([WHOLE])
    hook.remove()
    after = [engine.lr, *engine.average.state()[0].values(), *engine.module.parameters()]
    assert (engine.count, engine.taken, engine.average.state()[1]) == (2, 1, count)
    for one, other in zip(before, after, strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))
    engine.step([WHOLE])
    assert (engine.count, engine.taken) == (3, 2)


@pytest.mark.parametrize("warmup", [0.1, 0.3])
def test_one_cycle_is_that_of_torch(warmup: float) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    steps = 40
    theirs = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 1.0, total_steps=steps, pct_start=warmup, cycle_momentum=False
    )
    settings = ScheduleSettings(use="one_cycle", warmup=warmup)
    for step in range(steps):
        assert lr_factor(settings, step, steps) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        if step + 1 < steps:
            theirs.step()


def test_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=25)
    settings = ScheduleSettings(use="cosine", warmup=0.0)
    for step in range(25):
        assert lr_factor(settings, step, 25) == pytest.approx(optimizer.param_groups[0]["lr"], abs=1e-9)
        optimizer.step()
        theirs.step()


def test_the_average_is_the_one_written_down_by_hand() -> None:
    engine = engine_of(network(), ema=0.8)
    wanted = {name: one.clone() for name, one in engine.module.state_dict().items() if one.is_floating_point()}
    for count in range(1, 6):
        engine.step([WHOLE])
        decay = min(0.8, (1 + count) / (10 + count))
        for name, one in engine.module.state_dict().items():
            if name in wanted:
                wanted[name] = decay * wanted[name] + (1 - decay) * one
    assert engine.average is not None
    for name, one in engine.average.state()[0].items():
        torch.testing.assert_close(one, wanted[name], atol=1e-6, rtol=1e-5)


def test_smoothed_labels_are_those_of_the_paper() -> None:
    logits = torch.randn(12, 2, generator=torch.Generator().manual_seed(1))
    wanted = 0.9 * F.one_hot(Y, 2) + 0.1 / 2  # Szegedy et al., 2016, section 7
    by_hand = -(wanted * F.log_softmax(logits, dim=1)).sum(dim=1).mean()
    torch.testing.assert_close(TaskObjective(0.1)(logits, Y, ROWS), by_hand)


def test_forgotten_activations_change_neither_gradients_nor_statistics() -> None:
    kept, forgotten = network(), network()
    for module in (kept, forgotten):
        module[1][1].eval()
    engines = [engine_of(kept), engine_of(forgotten, activation_checkpointing=True)]
    for engine in engines:
        engine.module[1].register_forward_pre_hook(lambda block, inputs: block[1].eval() and None)
        engine.step([WHOLE])
    assert torch.equal(gradient(kept), gradient(forgotten))
    for name, one in kept.state_dict().items():
        assert torch.equal(one, forgotten.state_dict()[name]), name
    assert int(forgotten.state_dict()["0.1.num_batches_tracked"]) == 1
    assert int(forgotten.state_dict()["1.1.num_batches_tracked"]) == 0


def test_gradients_are_clipped_to_their_norm() -> None:
    free, clipped = network(), network()
    engine_of(free).step([WHOLE])
    engine_of(clipped, clip_norm=0.05).step([WHOLE])
    whole = gradient(free)
    assert whole.norm() > 0.05
    torch.testing.assert_close(gradient(clipped), whole * (0.05 / whole.norm()), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("is_summed", [False, True])
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_the_mean_of_two_workers_gradients_is_that_of_the_batch(micro_batch: int | None, is_summed: bool) -> None:
    batch, world = ROWS[:11], 2  # is not shared evenly

    def backward(module: nn.Module, rows: Tensor, share: float) -> None:
        reduction = "sum" if is_summed else "mean"
        torch.autograd.backward(share * F.cross_entropy(module(X[rows]), Y[rows], reduction=reduction))

    torch.manual_seed(0)
    whole = nn.Linear(4, 2)
    workers = [copy.deepcopy(whole) for _ in range(world)]
    backward(whole, batch, 1.0)
    for rank, worker in enumerate(workers):
        for micro in order.micros(batch, rank, world, micro_batch):
            backward(worker, micro.rows, world * (micro.share > 0) if is_summed else micro.share)
    mean = torch.stack([gradient(one) for one in workers]).mean(dim=0)
    torch.testing.assert_close(mean, gradient(whole), atol=1e-6, rtol=1e-5)


def test_a_probe_takes_what_is_faster_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(precision.time, "perf_counter", lambda: now[0])
    slow, fast, off = Numerics("fp16", "contiguous"), Numerics("bf16", "contiguous"), Numerics("bf16", "channels_last")
    cost = {PLAIN: 1.0, slow: 1.2, fast: 0.5, off: 0.1}

    def steps(module: nn.Module, numerics: Numerics):  # type: ignore[no-untyped-def]
        def step() -> float:
            now[0] += cost[numerics]
            return 2.0 if numerics == off else 1.0

        return step

    best, measured = probe(nn.Linear(1, 1), [PLAIN, slow, fast, off], steps)
    assert best == fast
    assert [one.seconds for one in measured] == pytest.approx([1.0, 1.2, 0.5, 0.1])
    assert [one.off for one in measured] == [0.0, 0.0, 0.0, 1.0]
    cost[fast] = 0.97
    assert probe(nn.Linear(1, 1), [PLAIN, slow, fast, off], steps)[0] == PLAIN


class Drawing(nn.Module):
    """Draws by itself, from Python's and NumPy's numbers."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def test_the_numbers_of_a_users_own_code_are_those_of_its_step() -> None:
    rows = Arrays(X.numpy(), Y.numpy())
    assert has_own(Drawing(), TaskObjective(), rows)
    assert not has_own(network(), TaskObjective(), rows)
    seeding = Seeding(3, 1, True)

    def drawn(step: int) -> tuple[float, float, float]:
        seeding.step(step)
        return random.random(), float(np.random.random()), float(torch.rand(1))

    first = [drawn(step) for step in range(4)]
    assert len(set(first)) == 4
    assert drawn(2) == first[2]

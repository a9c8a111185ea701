"""What several workers take: held against DDP itself, in a group of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from rayopt.errors import InputError
from rayopt.memory.buckets import Bucketed
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Variant, measured_bytes
from rayopt.memory.work import Workers, answer
from tests.memory.networks import CPU, steps


@pytest.fixture(scope="module")
def _group(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    place: Path = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", store=dist.FileStore(str(place), 1), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def replicated(learner: nn.Module) -> nn.Module:
    return DistributedDataParallel(learner, gradient_as_bucket_view=True)


@pytest.mark.usefixtures("_group")
@pytest.mark.parametrize(("name", "rows", "accumulation"), [("mlp", 4, 1), ("mlp", 4, 2), ("resnet", 24, 1)])
def test_a_workers_peak_is_that_of_data_parallelism(name: str, rows: int, accumulation: int) -> None:
    torch.set_num_threads(1)
    training, variant = steps(name), Variant(accumulation)
    reference = replace(training, wrap=replicated)  # gloo's thread may let go of buckets late, which adds to a peak
    truth = min(measured_bytes(reference, rows, variant, CPU) for _ in range(3))
    bucketed = replace(training, wrap=Bucketed)
    assert Predictor(bucketed, CPU).confirmed_bytes(rows, variant) == pytest.approx(truth, rel=0.01)
    assert truth > measured_bytes(training, rows, variant, CPU)


def test_gradients_are_those_without_a_bucket() -> None:
    torch.manual_seed(0)
    module, x = nn.Linear(3, 2), torch.rand(4, 3)
    wanted = torch.autograd.grad(module(x).sum() * 2, list(module.parameters()))
    bucketed = Bucketed(module)
    with bucketed.no_sync():
        torch.autograd.backward(bucketed(x).sum())
    torch.autograd.backward(bucketed(x).sum())
    found = [one.grad for one in module.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True) if one is not None)
    assert len({one.untyped_storage().data_ptr() for one in found if one is not None}) == 1


def test_what_sharding_saves_is_said_not_to_be_counted() -> None:
    training = steps("mlp")
    split = answer(training, 1 << 30, "budget", Workers(2, "fsdp"), timed=False)
    assert any("fsdp" in one for one in split.warnings)
    with pytest.raises(InputError, match=r"too few.*`sharding: fsdp` saves is not counted"):
        answer(training, 1000, "budget", Workers(2, "fsdp"), timed=False)
    assert not answer(training, 1 << 30, "budget", Workers(2), timed=False).warnings

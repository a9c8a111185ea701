"""DistributedTrainer with one worker, for which no Ray is started, and what it refuses; see test_train for two."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, SubsetRandomSampler, TensorDataset

from rayopt import DistributedTrainer, InputError
from tests.onray.workers import Locked, network

X = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
Y = (X[:, 0] > 0).long()
SETTINGS = {"epochs": 3, "batch_size": 16, "precision": "fp32", "layout": "contiguous"}


def weights(model: nn.Module) -> np.ndarray:
    return np.concatenate([one.detach().numpy().ravel() for one in model.parameters()])


def test_one_worker_trains_in_this_process_without_ray() -> None:
    model, was_there = network(), ray.is_initialized()
    before = weights(model)
    trainer = DistributedTrainer(model, world_size=1)
    trainer.setup()
    trained = trainer.train(X, Y, **SETTINGS)
    trainer.cleanup()
    assert ray.is_initialized() == was_there
    assert trained.steps == 12
    assert trained.curve[-1]["loss"] < trained.curve[0]["loss"]
    assert not np.array_equal(weights(model), before)
    assert nn.functional.cross_entropy(model(X), Y) < nn.functional.cross_entropy(network()(X), Y)


def test_arrays_a_dataset_and_a_loader_are_the_same_data() -> None:
    found = []
    for data in ((X.numpy(), Y.numpy()), (TensorDataset(X, Y),), (DataLoader(TensorDataset(X, Y), batch_size=7),)):
        model = network()
        DistributedTrainer(model, 1).train(*data, **SETTINGS)
        found.append(weights(model))
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_array_equal(found[0], found[2])


def test_the_same_call_goes_on_from_its_folder(tmp_path: Path) -> None:
    whole, part = network(), network()
    DistributedTrainer(whole, 1).train(X, Y, **SETTINGS)
    trainer = DistributedTrainer(copy.deepcopy(part), 1)
    trainer.train(X, Y, folder=tmp_path, on_report=lambda metrics: True, **SETTINGS)  # stops after an epoch
    again = DistributedTrainer(part, 1).train(X, Y, folder=tmp_path, **SETTINGS)
    assert again.resumed_at == 4
    np.testing.assert_array_equal(weights(part), weights(whole))


@pytest.mark.parametrize("changed", ["rows", "targets", "objective", "model"])
def test_another_call_does_not_go_on_from_its_folder(changed: str, tmp_path: Path) -> None:
    class Weighed(nn.Module):
        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, outputs: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return self.factor * nn.functional.cross_entropy(outputs, targets)

    def call(is_changed: bool) -> None:
        x = X + (is_changed and changed == "rows")
        y = 1 - Y if is_changed and changed == "targets" else Y
        objective = Weighed(2.0 if is_changed and changed == "objective" else 1.0)
        model = nn.Sequential(network(), nn.Dropout(0.5 if is_changed and changed == "model" else 0.1))
        DistributedTrainer(model, 1).train(x, y, folder=tmp_path, objective=objective, **SETTINGS)

    call(False)
    call(False)
    with pytest.raises(InputError, match="is of another training"):
        call(True)


@pytest.mark.parametrize("changed", [{"metric": "log_loss"}, {"selection": (X + 1, Y)}])
def test_another_metric_or_selection_does_not_go_on_either(changed: dict[str, Any], tmp_path: Path) -> None:
    given = {"selection": (X, Y), "metric": "accuracy", "folder": tmp_path, **SETTINGS}
    DistributedTrainer(network(), 1).train(X, Y, **given)
    with pytest.raises(InputError, match=f"{next(iter(changed))} was"):
        DistributedTrainer(network(), 1).train(X, Y, **{**given, **changed})


@pytest.mark.parametrize("ema", [None, 0.9])
def test_a_mask_of_infinities_is_no_fault_of_the_weights(ema: float | None) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = network()
            self.register_buffer("mask", torch.full((4, 4), -torch.inf).triu(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x + self.mask.exp().sum() * 0)

    model = Masked()
    DistributedTrainer(model, 1).train(X, Y, ema=ema, **SETTINGS)
    assert torch.equal(model.mask, torch.full((4, 4), -torch.inf).triu(1))
    assert all(torch.isfinite(one).all() for one in model.parameters())


def test_a_loader_gives_the_rows_of_its_sampler() -> None:
    half = DataLoader(TensorDataset(X, Y), sampler=SubsetRandomSampler(range(32)))
    models = [network() for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    for model, given in zip(models, [(half,), (X[:32], Y[:32])], strict=True):
        DistributedTrainer(model, 1).train(*given, **SETTINGS)
    assert np.array_equal(*map(weights, models))


def test_data_that_can_only_be_gone_through_and_rows_that_raise() -> None:
    class Stream(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            yield from zip(X[:20], Y[:20], strict=True)
            if self.raises:
                raise OSError("the disk is gone")

        raises = False

    data = Stream()
    assert DistributedTrainer(network(), 1).train(data, **SETTINGS).steps == 6
    data.raises = True
    with pytest.raises(InputError, match="x: row 20 cannot be had: OSError: the disk is gone"):
        DistributedTrainer(network(), 1).train(data, **SETTINGS)


def test_outputs_that_only_the_own_objective_knows_are_evaluated_by_it() -> None:
    class Likelihood(nn.Module):
        def forward(self, outputs: torch.Tensor, targets: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
            return nn.functional.gaussian_nll_loss(outputs[:, 0], targets, outputs[:, 1].exp())

    y = X.sum(dim=1)
    trained = DistributedTrainer(network(), 1).train(
        X, y, selection=(X, y), objective=Likelihood(), metric="tests.onray.workers:first_column", **SETTINGS
    )
    assert np.isfinite(trained.curve[-1]["selection_loss"])


def test_rows_to_select_by_keep_the_best_epoch_and_end_it_early() -> None:
    trained = DistributedTrainer(network(), 1).train(
        X.double(), Y, selection=(X, Y), early_stop={"patience": 1}, **{**SETTINGS, "epochs": 50}
    )
    assert {"accuracy", "selection_loss"} <= set(trained.curve[0])
    assert len(trained.curve) < 50
    assert trained.best_epoch == max(trained.curve, key=lambda one: one["accuracy"])["epoch"]


def test_what_is_wrong_is_said_before_anything_starts() -> None:
    with pytest.raises(InputError, match="0 workers train nothing"):
        DistributedTrainer(network(), 0)
    with pytest.raises(InputError, match=r"model\.1\.guard: a lock cannot be sent to other processes"):
        DistributedTrainer(Locked.make().parts["model"], 2)
    for size, message in (((3, 2), "exchange them"), ("2", "'2' is no number"), ((1, 2, 3), "no number of workers")):
        with pytest.raises(InputError, match=message):
            DistributedTrainer(network(), size)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="sharding: there is no 'fdsp'; did you mean 'fsdp'"):
        DistributedTrainer(network(), 2, sharding="fdsp")
    trainer = DistributedTrainer(network(), 1)
    with pytest.raises(InputError, match="batch_size: 128 rows make a batch, and there are 64"):
        trainer.train(X, Y, batch_size=128)
    with pytest.raises(InputError, match=r"early_stop: there are no rows .*; give selection="):
        trainer.train(X, Y, early_stop={"patience": 1})
    with pytest.raises(InputError, match=r"memory.budget: 1,024 bytes are too few"):
        trainer.train(X, Y, memory={"budget": "1KiB"}, **SETTINGS)
    with pytest.raises(InputError, match="1 rows cannot be shared among 2 workers"):
        DistributedTrainer(network(), (2, 3)).train(X, Y, batch_size=1)
    with pytest.raises(InputError, match="y: has 63 rows, x has 64"):
        trainer.train(X, Y[:63])
    with pytest.raises(InputError, match=r"(?s)epochs.*optimizer\.lr"):
        trainer.train(X, Y, epochs=0, optimizer={"lr": -1})

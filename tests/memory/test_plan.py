"""Plans: the cheapest that fits, the floor where nothing does, and the same answer when a training goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rayopt.errors import InputError
from rayopt.memory.clock import Costs
from rayopt.memory.plan import Space, find_plan
from rayopt.memory.predict import Predictor
from rayopt.memory.rehearsal import Variant, measured_bytes
from rayopt.memory.settings import budget_bytes
from rayopt.memory.steps import MODEL, steps_of
from rayopt.memory.work import answer, space_of
from rayopt.models.torch_model import from_artifact
from rayopt.training.engine import Means, StepEngine
from rayopt.training.learner import TaskObjective
from rayopt.training.precision import PLAIN
from rayopt.training.settings import TrainSettings
from rayopt.training.source import Arrays
from tests.memory.networks import CPU, steps


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    torch.set_num_threads(1)
    return Predictor(steps("resnet"), CPU)


@pytest.mark.parametrize("share", [1.0, 0.6, 0.3])
def test_a_plan_fits_by_the_allocators_account(predictor: Predictor, share: float) -> None:
    whole = predictor.peak_bytes(128, Variant())
    budget = int(whole * share) + 64
    plan = find_plan(predictor, Space(128), budget, "budget", limit_s=None)
    chosen = plan.chosen
    assert measured_bytes(predictor.rehearsal, chosen.micro_batch, chosen.variant, CPU) <= budget
    assert chosen.micro_batch * chosen.variant.accumulation >= 128
    assert all(one.predicted_bytes <= budget for one in plan.fitting)
    if share == 1.0:
        assert chosen.variant == Variant(foreach=chosen.variant.foreach)


def test_a_budget_below_the_floor_names_it_and_the_floor_fits(predictor: Predictor) -> None:
    with pytest.raises(InputError) as caught:
        find_plan(predictor, Space(128), 10_000, "job.yaml:9: memory.budget", limit_s=None)
    (fault,) = caught.value.faults
    assert fault.place == "job.yaml:9: memory.budget"
    floor = int(fault.problem.partition("a step takes is ")[2].partition(" bytes")[0].replace(",", ""))
    assert find_plan(predictor, Space(128), floor, "budget", limit_s=None).chosen.predicted_bytes <= floor
    with pytest.raises(InputError):
        find_plan(predictor, Space(128), floor - 65, "budget", limit_s=None)


def test_what_is_asked_for_is_not_planned(predictor: Predictor) -> None:
    space = Space(128, checkpointing=(True,), foreach=(False,), micro_batch=50)
    chosen = find_plan(predictor, space, 1 << 40, "budget", limit_s=None).chosen
    assert (chosen.micro_batch, chosen.variant) == (43, Variant(3, True, "fp32", False))


def test_costs_add_up() -> None:
    costs = Costs({(8, Variant()): 0.5}, {True: 0.1, False: 0.2, None: 0.05})
    assert costs.step_s(8, Variant(4, foreach=False)) == pytest.approx(2.2)
    assert costs.step_s(8, Variant(4)) == pytest.approx(2.05)


def test_a_plan_updates_as_the_engine_does_by_itself_where_that_costs_least() -> None:
    training = steps("mlp")
    found = answer(training, 1 << 30, "budget", timed=False)
    assert {one.variant.foreach for one in found.plan.fitting} == {True, False, None}
    planned = found.settings(training.settings)
    engine = StepEngine(training.module[MODEL], TaskObjective(), planned, 10, Means(PLAIN))
    assert engine.optimizer.defaults["fused"] is True


@pytest.mark.parametrize(
    ("optimizer", "device", "wanted"),
    [
        ({"use": "adamw"}, "cpu", (True, False, None)),
        ({"use": "adamw"}, "cuda", (True, False)),
        ({"use": "sgd", "foreach": True}, "cpu", (True,)),
        ({"use": "torch.optim:Adagrad"}, "cpu", (None,)),
    ],
)
def test_ways_to_update_are_those_that_are_open(
    optimizer: dict[str, Any], device: str, wanted: tuple[bool | None, ...]
) -> None:
    training = replace(steps("mlp", TrainSettings(optimizer=optimizer, precision="fp32")), device=torch.device(device))
    assert space_of(training, 64).foreach == wanted


@pytest.mark.parametrize("least", [1, 32])
def test_what_runs_out_of_memory_while_it_is_timed_is_not_planned(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    training = steps("mlp")
    predictor = Predictor(training, CPU)

    def timed(rehearsal: object, rows: int, variant: Variant, device: torch.device) -> tuple[float, float]:
        if rows >= least:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return 0.01, 0.001

    monkeypatch.setattr("rayopt.memory.clock._timed", timed)
    plan = find_plan(predictor, Space(64, checkpointing=(False,), foreach=(None,)), 1 << 30, "budget")
    assert all(one.step_s < float("inf") for one in plan.fitting)
    assert plan.chosen.micro_batch == (64 if least == 1 else 16)


@pytest.mark.parametrize(("given", "wanted"), [("8GiB", 8 << 30), ("500MB", 500_000_000), (123, 123), ("1000", 1000)])
def test_budgets_are_read(given: str | int, wanted: int) -> None:
    assert budget_bytes(given, "budget") == wanted


@pytest.mark.parametrize("given", ["8 gigs", "", "-1GiB", 0, "0MB", -5])
def test_what_is_no_budget_is_told(given: str | int) -> None:
    with pytest.raises(InputError, match="budget"):
        budget_bytes(given, "budget")


def test_the_memory_of_a_training_is_planned_once(tmp_path: Path) -> None:
    from rayopt.memory.filled import FILE, filled
    from tests.memory.works import work

    given = work(memory={"budget": "3MB"})
    settings, answer = filled(given, tmp_path)
    assert answer is not None
    assert settings.micro_batch is None or settings.micro_batch < given.settings.batch_size
    assert settings.precision != "auto"
    assert (settings.optimizer.foreach, settings.memory) == (answer["plan"]["foreach"], given.settings.memory)
    stamp = (tmp_path / FILE).read_bytes()
    assert filled(given, tmp_path) == (settings, answer)
    assert (tmp_path / FILE).read_bytes() == stamp
    assert filled(work(), tmp_path) == (work().settings, None)


def test_the_plan_is_of_the_largest_batch() -> None:
    from tests.memory.works import work

    given = work(memory={"budget": "1GiB"}, precision="fp32")
    rows = Arrays(given.rows.x[:65], given.rows.y[:65])  # the last row is joined to the batch of 64
    module = from_artifact(given.artifact, given.source, 0)
    planned = steps_of(module, given.objective, rows, given.settings, CPU)
    assert answer(planned, 1 << 30, "memory.budget", timed=False).rows == 65

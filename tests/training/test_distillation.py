"""The textbook's loss and trainer by their definitions, and the objective of jobs beside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import rayopt
from rayopt.errors import InputError, StepError
from rayopt.models.zoo import mlp
from rayopt.training.distill_losses import MISSING
from rayopt.training.distill_settings import FeatureSettings, LossSettings
from rayopt.training.distillation import DistillationObjective, Pair
from rayopt.training.teacher import OUTPUTS, Answers, Stored

SEEDED = torch.Generator().manual_seed(0)
STUDENT, TEACHER = torch.randn(8, 3, generator=SEEDED), torch.randn(8, 3, generator=SEEDED)
TARGETS = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
ROWS = torch.arange(8)


def answers(tmp_path: Path, values: Tensor, weight: float = 1.0, name: str = OUTPUTS) -> Answers:
    path = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
    np.save(path, values.numpy())
    return Answers({name: Stored(path)}, weight)


def test_the_textbook_loss_is_what_it_says() -> None:
    shares = [F.softmax(TEACHER / 3, 1), F.softmax(STUDENT / 3, 1)]
    divergence = (shares[0] * (shares[0] / shares[1]).log()).sum().item() / 8
    own = -F.log_softmax(STUDENT, 1)[range(8), TARGETS].mean().item()
    found = rayopt.DistillationLoss(temperature=3.0, alpha=0.25)(STUDENT, TEACHER, TARGETS)
    assert found.item() == pytest.approx(0.25 * own + 0.75 * divergence, rel=1e-5)
    default = rayopt.DistillationLoss()
    assert (default.temperature, default.alpha) == (3.0, 0.5)


def test_a_train_step_is_one_step_of_the_optimizer_and_leaves_the_teacher_alone() -> None:
    torch.manual_seed(0)
    teacher = nn.Sequential(mlp(4, 3, hidden=8), nn.BatchNorm1d(3), nn.Dropout(0.5)).train()
    student, twin = mlp(4, 3, hidden=5), mlp(4, 3, hidden=5)
    twin.load_state_dict(student.state_dict())
    x, before = torch.randn(8, 4), {name: value.clone() for name, value in teacher.state_dict().items()}
    trainer = rayopt.DistillationTrainer(
        teacher, student, torch.optim.SGD(student.parameters(), 0.1), rayopt.DistillationLoss(2.0, 0.3)
    )
    loss = trainer.train_step(x, TARGETS)
    expected = rayopt.DistillationLoss(2.0, 0.3)(twin(x), teacher.eval()(x).detach(), TARGETS)
    gradients = torch.autograd.grad(expected, list(twin.parameters()))
    assert loss == pytest.approx(expected.item(), rel=1e-6)
    for parameter, old, gradient in zip(student.parameters(), twin.parameters(), gradients, strict=True):
        assert torch.allclose(parameter, old - 0.1 * gradient, atol=1e-7)
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert all(parameter.grad is None for parameter in teacher.parameters())


def test_a_loss_that_is_not_finite_stops_before_the_step() -> None:
    student = mlp(4, 3, hidden=5)
    before = [parameter.clone() for parameter in student.parameters()]
    trainer = rayopt.DistillationTrainer(mlp(4, 3), student, torch.optim.SGD(student.parameters(), 0.1))
    with pytest.raises(StepError, match="the loss became nan"):
        trainer.train_step(torch.full((2, 4), torch.nan), torch.tensor([0, 1]))
    assert all(torch.equal(one, two) for one, two in zip(before, student.parameters(), strict=True))


def test_a_step_that_fails_leaves_the_batch_statistics_as_they_were() -> None:
    student = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    before = {name: one.clone() for name, one in student.state_dict().items()}
    trainer = rayopt.DistillationTrainer(mlp(4, 3), student, torch.optim.SGD(student.parameters(), 0.1))
    with pytest.raises(StepError, match="the loss became nan"):
        trainer.train_step(torch.full((2, 4), torch.nan), torch.tensor([0, 1]))
    with pytest.raises(InputError, match="targets: Target 7 is out of bounds"):
        trainer.train_step(torch.zeros(2, 4), torch.tensor([0, 7]))
    assert all(torch.equal(one, before[name]) for name, one in student.state_dict().items())


def test_a_teacher_that_shares_layers_is_asked_in_its_own_mode() -> None:
    shared = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5))
    teacher, student = (nn.Sequential(shared, nn.Linear(5, 3)) for _ in range(2))
    modes: list[bool] = []
    teacher.register_forward_hook(lambda *_: modes.append(shared.training))
    rayopt.DistillationTrainer(teacher, student, torch.optim.SGD(student.parameters(), 0.1)).train_step(
        torch.randn(8, 4), TARGETS
    )
    assert modes == [False]


def test_layers_are_heard_before_what_follows_in_place_and_in_float32(tmp_path: Path) -> None:
    student = nn.Sequential(nn.Linear(4, 7), nn.ReLU(inplace=True), nn.Linear(7, 3)).to(torch.bfloat16)
    hidden = torch.randn(8, 7)
    known = Answers(
        {**answers(tmp_path, TEACHER).stored, **answers(tmp_path, hidden, name="h").stored},
    )
    pair = Pair(FeatureSettings(use="hints", student="0", teacher="h"), (7,), (7,))
    objective = DistillationObjective([known], LossSettings(), 0.0, pairs=[pair])
    objective.attach(student)
    objective(student(torch.randn(8, 4).bfloat16()).float(), TARGETS, ROWS)
    assert objective._seen["0"].min() < 0


def test_teacher_and_student_of_different_classes_are_refused() -> None:
    with pytest.raises(InputError, match=r"teacher_model: gives \(8, 4\) where the student gives \(8, 3\)"):
        rayopt.DistillationLoss()(STUDENT, torch.randn(8, 4), TARGETS)
    with pytest.raises(InputError, match="targets"):
        rayopt.DistillationLoss()(STUDENT, TEACHER, TARGETS[:4])
    with pytest.raises(InputError, match="alpha"):
        rayopt.DistillationLoss(alpha=2)


def test_the_objective_gives_the_textbook_loss_where_that_is_asked_for(tmp_path: Path) -> None:
    objective = DistillationObjective([answers(tmp_path, TEACHER)], LossSettings(use="textbook"), alpha=0.5)
    assert objective(STUDENT, TARGETS, ROWS).item() == pytest.approx(
        rayopt.DistillationLoss()(STUDENT, TEACHER, TARGETS).item(), rel=1e-6
    )
    order = torch.tensor([3, 1, 7])
    assert objective(STUDENT[order], TARGETS[order], order).item() == pytest.approx(
        rayopt.DistillationLoss()(STUDENT[order], TEACHER[order], TARGETS[order]).item(), rel=1e-6
    )


def test_rows_without_a_label_only_follow_and_batches_add_up(tmp_path: Path) -> None:
    partly = torch.where(ROWS < 3, TARGETS, MISSING)
    objective = DistillationObjective([answers(tmp_path, TEACHER)], LossSettings(), 0.4, labeled_share=3 / 8)
    own = F.cross_entropy(STUDENT[:3], TARGETS[:3]).item()
    following = DistillationObjective([answers(tmp_path, TEACHER)], LossSettings(), 0.0)(STUDENT, partly, ROWS).item()
    whole = objective(STUDENT, partly, ROWS).item()
    assert whole == pytest.approx(0.4 * own + 0.6 * following, rel=1e-5)
    parts = [objective(STUDENT[at], partly[at], at).item() * len(at) for at in (ROWS[:2], ROWS[2:7], ROWS[7:])]
    assert sum(parts) / 8 == pytest.approx(whole, rel=1e-5)


def test_quantities_follow_by_their_squared_error(tmp_path: Path) -> None:
    outputs, wanted = torch.randn(8, 1), torch.randn(8, 1)
    targets = torch.where(ROWS < 4, torch.randn(8), torch.nan)
    objective = DistillationObjective([answers(tmp_path, wanted)], LossSettings(), 0.5, labeled_share=0.5)
    own = F.mse_loss(outputs[:4, 0], targets[:4])
    expected = 0.5 * own + 0.5 * F.mse_loss(outputs, wanted)
    assert objective(outputs, targets, ROWS).item() == pytest.approx(expected.item(), rel=1e-5)


def test_several_teachers_pull_towards_the_weighted_mean_of_their_classes(tmp_path: Path) -> None:
    others = torch.randn(8, 3, generator=torch.Generator().manual_seed(5))
    student = STUDENT.clone().requires_grad_()
    both = [answers(tmp_path, TEACHER, weight=3.0), answers(tmp_path, others, weight=1.0)]
    (found,) = torch.autograd.grad(DistillationObjective(both, LossSettings(), 0.0)(student, TARGETS, ROWS), student)
    mean = 0.75 * F.softmax(TEACHER / 3, 1) + 0.25 * F.softmax(others / 3, 1)
    one = DistillationObjective([answers(tmp_path, mean.log() * 3)], LossSettings(), 0.0)
    (expected,) = torch.autograd.grad(one(student, TARGETS, ROWS), student)
    assert torch.allclose(found, expected, atol=1e-6)


def test_maps_of_classes_are_compared_place_by_place(tmp_path: Path) -> None:
    student, teacher = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5)
    targets = torch.full((2, 4, 5), MISSING)
    found = DistillationObjective([answers(tmp_path, teacher)], LossSettings(), 0.0)(student, targets, ROWS[:2])
    flat = [one.permute(0, 2, 3, 1).reshape(-1, 3) for one in (student, teacher)]
    expected = F.kl_div(F.log_softmax(flat[0] / 3, 1), F.softmax(flat[1] / 3, 1), reduction="batchmean") * 9
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_layers_are_heard_once_it_is_attached_and_their_regressor_is_trained(tmp_path: Path) -> None:
    torch.manual_seed(0)
    student, hidden = mlp(4, 3, hidden=5), torch.randn(8, 7)
    np.save(tmp_path / "outputs.npy", TEACHER.numpy())
    np.save(tmp_path / "hidden.npy", hidden.numpy())
    known = Answers({OUTPUTS: Stored(tmp_path / "outputs.npy"), "3": Stored(tmp_path / "hidden.npy")})
    pair = Pair(FeatureSettings(use="hints", student="1", teacher="3", weight=2.0), (5,), (7,))
    objective = DistillationObjective([known], LossSettings(), 0.0, pairs=[pair])
    objective.attach(student)
    x = torch.randn(8, 4)
    outputs = student(x)
    found = objective(outputs, TARGETS, ROWS)
    regressor = objective.features[0].regressor
    expected = 2 * F.mse_loss(regressor(student[:2](x)), hidden) + 9 * F.kl_div(
        F.log_softmax(outputs / 3, 1), F.softmax(TEACHER / 3, 1), reduction="batchmean"
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.autograd.backward(found)
    assert all(parameter.grad is not None for parameter in objective.parameters())
    with pytest.raises(StepError, match="the model has no layer 'one'"):
        DistillationObjective(
            [known],
            LossSettings(),
            0.0,
            pairs=[Pair(FeatureSettings(use="hints", student="one", teacher="3"), (5,), (7,))],
        ).attach(student)


@pytest.mark.parametrize("missing", [0, 3])
def test_the_labels_of_the_distilled_student_are_smoothed(missing: int, tmp_path: Path) -> None:
    targets = TARGETS.clone()
    targets[:missing] = MISSING
    known, share = targets != MISSING, (8 - missing) / 8
    objective = DistillationObjective(
        [answers(tmp_path, TEACHER)], LossSettings(alpha=1.0), 1.0, share, label_smoothing=0.2
    )
    wanted = F.cross_entropy(STUDENT[known], targets[known], label_smoothing=0.2)
    torch.testing.assert_close(objective(STUDENT, targets, ROWS), wanted)


def test_softened_answers_go_where_the_rows_are(tmp_path: Path) -> None:
    objective = DistillationObjective([answers(tmp_path, TEACHER)], LossSettings(), 0.0)
    objective.attach(nn.Linear(1, 1))
    assert objective(STUDENT.to("meta"), TARGETS.to("meta"), ROWS.to("meta")).device.type == "meta"

"""Softened answers give the losses and gradients of the definition."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from rayopt.training.distill_settings import LossSettings
from rayopt.training.distillation import DistillationObjective
from rayopt.training.losses import soft_loss
from rayopt.training.softened import Softened
from rayopt.training.teacher import OUTPUTS, Answers, Stored


def answers(logits: torch.Tensor, period: int | None = None, weight: float = 1.0) -> Answers:
    return Answers({OUTPUTS: Stored(Path(), logits.numpy())}, weight, period)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 3


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.floats(0.5, 20), st.integers(1, 9), st.integers(2, 12))
def test_loss_and_gradient_are_those_of_the_definition(seed: int, temperature: float, rows: int, classes: int) -> None:
    teacher, others = drawn(seed, 20, classes), drawn(seed + 1, 20, classes)
    numbers = torch.randint(0, 20, (rows,), generator=torch.Generator().manual_seed(seed))
    softened = Softened.of([answers(teacher), answers(others)], [0.3, 0.7], temperature)
    assert softened is not None
    one, two = (drawn(seed + 2, rows, classes).requires_grad_() for _ in range(2))
    found = softened.loss(one, numbers)
    expected = 0.3 * soft_loss(two, teacher[numbers], temperature) + 0.7 * soft_loss(two, others[numbers], temperature)
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    torch.autograd.backward(found * 0.5)
    torch.autograd.backward(expected * 0.5)
    torch.testing.assert_close(one.grad, two.grad, rtol=1e-4, atol=1e-5)


def test_views_with_clean_answers_begin_again() -> None:
    teacher, logits = drawn(0, 4, 3), drawn(1, 3, 3)
    softened = Softened.of([answers(teacher, period=4)], [1.0], 2.0)
    assert softened is not None
    found = softened.loss(logits, torch.tensor([1, 5, 11]))
    torch.testing.assert_close(found, soft_loss(logits, teacher[torch.tensor([1, 1, 3])], 2.0))


def test_a_class_that_the_teacher_rules_out_counts_nothing() -> None:
    teacher = torch.tensor([[0.0, 1.0, -torch.inf]])
    softened = Softened.of([answers(teacher)], [1.0], 1.0)
    assert softened is not None
    logits = drawn(0, 1, 3)
    shares = torch.softmax(teacher[:, :2], 1)
    expected = (shares * (shares.log() - torch.log_softmax(logits, 1)[:, :2])).sum()
    torch.testing.assert_close(softened.loss(logits, torch.tensor([0])), expected)


def test_what_is_no_classes_of_rows_is_left_to_others() -> None:
    assert Softened.of([answers(drawn(0, 4, 1))], [1.0], 1.0) is None
    assert Softened.of([answers(drawn(0, 4, 3, 2))], [1.0], 1.0) is None
    assert Softened.of([answers(drawn(0, 4, 3)), answers(drawn(0, 4, 3), period=4)], [0.5, 0.5], 1.0) is None


@pytest.mark.parametrize("use", ["soft", "textbook"])
def test_the_objective_uses_them_once_it_is_attached(use: str) -> None:
    teacher, logits, targets = drawn(0, 8, 3), drawn(1, 8, 3), torch.arange(8) % 3
    objective = DistillationObjective([answers(teacher)], LossSettings(use=use), 0.4)  # type: ignore[arg-type]
    before = objective(logits, targets, torch.arange(8))
    attached = copy.deepcopy(objective)
    attached.attach(nn.Identity())
    found = attached(logits, targets, torch.arange(8))
    torch.testing.assert_close(found, before)
    np.testing.assert_allclose(copy.deepcopy(attached)(logits, targets, torch.arange(8)).item(), found.item())

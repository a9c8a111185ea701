"""Each loss of following a teacher beside another way of computing it, or a law that it obeys."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rayopt.training.distill_losses import LOSSES, MISSING, decoupled, relational, soft, standardized, textbook
from rayopt.training.feature_losses import Attention, Hints, Relations


def logits(seed: int, rows: int = 6, classes: int = 4, scale: float = 3.0) -> Tensor:
    return scale * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def by_hand(student: Tensor, teacher: Tensor, temperature: float) -> float:
    """The mean divergence of softened classes, one class at a time."""
    total = 0.0
    for s, t in zip(student.tolist(), teacher.tolist(), strict=True):
        shares = []
        for row in (s, t):
            powers = [math.exp(one / temperature) for one in row]
            shares.append([one / sum(powers) for one in powers])
        total += sum(q * math.log(q / p) for p, q in zip(*shares, strict=True))
    return total / len(student)


TARGETS = torch.tensor([0, 1, 2, 3, 0, 1])


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 20))
def test_soft_losses_are_the_divergence_with_and_without_t2(seed: int, temperature: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    expected = by_hand(student, teacher, temperature)
    assert textbook(student, teacher, TARGETS, temperature).item() == pytest.approx(expected, rel=1e-9)
    assert soft(student, teacher, TARGETS, temperature).item() == pytest.approx(expected * temperature**2, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), temperature=st.floats(0.5, 10))
def test_decoupled_parts_add_up_to_the_divergence(seed: int, temperature: float) -> None:
    """Equation 7 of the paper: KL = TCKD + (1 - p of the target) NCKD, row by row."""
    student, teacher = logits(seed, rows=1), logits(seed + 1, rows=1)
    target = torch.tensor([seed % 4])
    rest = 1 - F.softmax(teacher / temperature, dim=1)[0, seed % 4].item()
    found = decoupled(student, teacher, target, temperature, target=1.0, others=rest)
    assert found.item() == pytest.approx(soft(student, teacher, target, temperature).item(), rel=1e-6, abs=1e-9)


def test_decoupled_takes_the_teachers_class_for_a_missing_label() -> None:
    student, teacher = logits(0), logits(1)
    missing = torch.full((6,), MISSING)
    assert torch.equal(
        decoupled(student, teacher, missing, 2.0), decoupled(student, teacher, teacher.argmax(dim=1), 2.0)
    )


def test_decoupled_stays_finite_for_a_teacher_that_is_certain() -> None:
    student, teacher = logits(0).requires_grad_(), 1000 * F.one_hot(TARGETS, 4).double()
    found = decoupled(student, teacher, TARGETS, 1.0)
    (gradient,) = torch.autograd.grad(found, student)
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_standardized_does_not_see_the_logits_size_and_offset(seed: int, scale: float, shift: float) -> None:
    student, teacher = logits(seed), logits(seed + 1)
    found = standardized(student, teacher, TARGETS, 2.0)
    assert standardized(scale * student + shift, teacher, TARGETS, 2.0).item() == pytest.approx(found.item(), rel=1e-4)
    rows = [(row - row.mean()) / row.std(unbiased=False) for row in (*student, *teacher)]
    assert found.item() == pytest.approx(4 * by_hand(torch.stack(rows[:6]), torch.stack(rows[6:]), 2.0), rel=1e-5)


def test_logits_and_hard() -> None:
    student, teacher = logits(0), logits(1)
    squares = [(s - t) ** 2 for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)]
    assert LOSSES["logits"].function(student, teacher, TARGETS, 1.0).item() == pytest.approx(sum(squares) / 24)
    said = [-F.log_softmax(row, 0)[int(wanted.argmax())].item() for row, wanted in zip(student, teacher, strict=True)]
    assert LOSSES["hard"].function(student, teacher, TARGETS, 1.0).item() == pytest.approx(sum(said) / 6)


def test_relational_beside_loops_over_pairs_and_triples() -> None:
    student, teacher = logits(0, 5, 3), logits(1, 5, 4)
    n = 5

    def distances(rows: Tensor) -> list[float]:
        all_pairs = [(rows[i] - rows[j]).norm().item() for i in range(n) for j in range(n)]
        mean = sum(all_pairs) / (n * (n - 1))
        return [one / mean for one in all_pairs]

    def angles(rows: Tensor) -> list[float]:
        found = []
        for i in range(n):
            for j in range(n):
                for k in range(n):
                    left, right = rows[j] - rows[i], rows[k] - rows[i]
                    length = (left.norm() * right.norm()).item()
                    found.append((left @ right).item() / length if length else 0.0)
        return found

    def huber(left: list[float], right: list[float]) -> float:
        errors = [abs(a - b) for a, b in zip(left, right, strict=True)]
        return sum(0.5 * e * e if e < 1 else e - 0.5 for e in errors) / len(errors)

    expected = 25 * huber(distances(student), distances(teacher)) + 50 * huber(angles(student), angles(teacher))
    assert relational(student, teacher, TARGETS, 1.0).item() == pytest.approx(expected, rel=1e-4)
    assert relational(2 * student + 1, student, TARGETS, 1.0).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_every_loss_is_least_at_the_teacher_and_falls_towards_it(name: str) -> None:
    teacher = logits(1)
    student = logits(0).requires_grad_()
    loss = LOSSES[name].function
    (gradient,) = torch.autograd.grad(loss(student, teacher, TARGETS, 2.0), student)
    before = loss(student, teacher, TARGETS, 2.0).item()
    assert loss(student - 1e-3 * gradient / gradient.norm(), teacher, TARGETS, 2.0).item() < before
    assert loss(teacher, teacher, TARGETS, 2.0).item() < before
    assert LOSSES[name].source


def test_hints_learn_a_regressor_to_the_teachers_width() -> None:
    torch.manual_seed(0)
    hints = Hints((3, 8, 8), (5, 4, 4))
    student, teacher = torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)
    weight, bias = hints.regressor.weight[:, :, 0, 0], hints.regressor.bias
    mapped = torch.einsum("oc,nchw->nohw", weight, student) + bias[:, None, None]
    pooled = mapped.reshape(2, 5, 4, 2, 4, 2).mean(dim=(3, 5))
    assert hints(student, teacher).item() == pytest.approx((pooled - teacher).square().mean().item(), rel=1e-5)
    vectors = Hints((3,), (2, 2))
    assert [tuple(one.shape) for one in vectors.parameters()] == [(4, 3), (4,)]


def test_attention_sees_where_and_not_how_much() -> None:
    attention = Attention((3, 4, 4), (7, 8, 8))
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 7, 8, 8)
    maps = []
    for features in (student, teacher.square().mean(1, keepdim=True).reshape(2, 1, 4, 2, 4, 2).mean((3, 5)).sqrt()):
        energy = features.square().mean(dim=1).flatten(1)
        maps.append(energy / energy.norm(dim=1, keepdim=True))
    expected = (maps[0] - maps[1]).square().mean().item()
    assert attention(student, teacher).item() == pytest.approx(expected, rel=1e-4)
    assert attention(5 * student, teacher).item() == pytest.approx(expected, rel=1e-4)


def test_relations_take_layers_of_any_shape() -> None:
    relations = Relations((3,), (2, 2))
    rows = torch.randn(4, 4)
    assert relations(rows, 3 * rows.reshape(4, 2, 2)).item() == pytest.approx(0, abs=1e-6)


def test_standardized_logits_that_are_all_alike_have_a_gradient() -> None:
    student = torch.zeros(4, 3, requires_grad=True)
    entry = LOSSES["standardized"]
    entry.function(student, torch.randn(4, 3), torch.arange(4) % 3, 3.0, **entry.args).backward()
    assert student.grad is not None
    assert torch.isfinite(student.grad).all()

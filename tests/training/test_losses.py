"""The task's own loss: which outputs go with which targets."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rayopt.errors import StepError
from rayopt.training.losses import task_loss

LOGITS = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
SINGLE = LOGITS[:, :1]
CLASSES = torch.arange(8) % 3
YES = CLASSES == 1


@pytest.mark.parametrize("targets", [CLASSES, CLASSES.int(), CLASSES.to(torch.uint8), CLASSES[:, None]])
def test_class_numbers_of_any_whole_type(targets: Tensor) -> None:
    assert torch.equal(task_loss(LOGITS, targets), F.cross_entropy(LOGITS, CLASSES))


@pytest.mark.parametrize("targets", [YES, YES.long(), YES.to(torch.uint8)[:, None]])
@pytest.mark.parametrize("outputs", [SINGLE, SINGLE.squeeze(1)])
def test_a_single_logit_is_of_the_second_of_two_classes(outputs: Tensor, targets: Tensor) -> None:
    wanted = F.binary_cross_entropy_with_logits(SINGLE.squeeze(1), YES.float())
    assert task_loss(outputs, targets).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_maps_of_a_single_logit() -> None:
    outputs, targets = torch.randn(2, 1, 4, 4), torch.randint(0, 2, (2, 4, 4))
    wanted = F.binary_cross_entropy_with_logits(outputs.squeeze(1), targets.float())
    assert task_loss(outputs, targets).item() == pytest.approx(wanted.item(), rel=1e-5)


def test_quantities_may_differ_in_axes_of_one() -> None:
    assert task_loss(SINGLE, SINGLE.squeeze(1)) == 0
    assert task_loss(SINGLE.squeeze(1), SINGLE) == 0


@pytest.mark.parametrize(
    ("outputs", "targets"),
    [
        (torch.zeros(4, 7, 3), torch.zeros(4, 3, 7)),
        (torch.zeros(8, 2), torch.zeros(8, 3)),
        (torch.zeros(1, 8), torch.zeros(8)),
        (torch.zeros(8, 3), torch.zeros(4, dtype=torch.long)),
        (torch.zeros(8, 5, 9), torch.zeros(8, 5, dtype=torch.long)),
    ],
)
def test_shapes_that_do_not_go_together_are_told(outputs: Tensor, targets: Tensor) -> None:
    with pytest.raises(StepError, match=r"the model gives \(.*\) for (quantities|class numbers) \("):
        task_loss(outputs, targets)

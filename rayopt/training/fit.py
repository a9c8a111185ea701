"""A model trained in place on rows in memory: the step engine in float32, SGD under a one-cycle schedule."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from rayopt.errors import StepError
from rayopt.training import order
from rayopt.training.agree import seed_step
from rayopt.training.engine import Means, StepEngine
from rayopt.training.precision import PLAIN
from rayopt.training.settings import FitSettings, OptimizerSettings, TrainSettings

Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def fit(module: nn.Module, x: Tensor, y: Tensor, loss: Loss, settings: FitSettings, seed: int) -> dict[str, float]:
    """Trains `module` in place on rows x, y; gives the mean loss of the first and the last epoch.

    Pruned weights stay zero.
    `loss(outputs, targets, rows)` gets the numbers of the batch's rows as well. Raises StepError when it is not finite.
    """
    size = min(settings.batch_size, len(x))
    asked = OptimizerSettings(lr=settings.lr, momentum=settings.momentum, weight_decay=settings.weight_decay)
    steps = settings.epochs * order.steps_in(len(x), size)
    engine = StepEngine(module, _Given(loss), TrainSettings(optimizer=asked), steps, Means(PLAIN))
    means: list[float] = []
    for epoch in range(settings.epochs):
        total = 0.0
        for rows in order.batches(len(x), size, seed, epoch):
            seed_step(seed, engine.count, 0)
            try:
                total += engine.step([(x[rows], y[rows], rows, 1.0)]) * len(rows)
            except StepError as error:
                raise StepError(f"epoch {epoch + 1}: {error}") from error
        means.append(total / len(x))
    module.eval()
    return {"loss_first": means[0], "loss_last": means[-1]}


class _Given(nn.Module):
    """A loss as an objective."""

    def __init__(self, loss: Loss) -> None:
        super().__init__()
        self._loss = loss

    def forward(self, outputs: Tensor, targets: Tensor, rows: Tensor) -> Tensor:
        return self._loss(outputs, targets, rows)
